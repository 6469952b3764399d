"""What the replicas' logs hold."""

from quorumlog.wire.batches import NO_PRODUCER, NO_SEQUENCE, SEQUENCE_LIMIT, BatchHeader

from .copies import Copy, brief
from .ledger import Ledger
from .model import Model
from .sight import Invariant, News, PartitionKey


class CommittedStays(Invariant):
    """A batch once committed keeps its offsets, its epoch, its producer and its checksum: every replica's log is, below that
    replica's own high watermark, what the cluster committed. So logs match below the smallest one.
    """

    name = "committed-stays"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for copy in news.copies:
            if copy.ledger.excuse is None and not self._model.is_doubtful(copy):
                self._compare(copy)

    def _compare(self, copy: Copy) -> None:
        matched = copy.matched_end()
        if matched < copy.stand.high_watermark:
            committed = copy.ledger.at(matched)
            what = brief(committed) if committed is not None else f"nothing behind {copy.ledger.end}"
            raise self.broken(
                f"{copy} has the high watermark {copy.stand.high_watermark}, but its log is the committed one up to {matched} "
                f"only: committed is {what}; {copy.held_at_mismatch()}"
            )

    def finish(self) -> None:
        """Everything is healed: every replica that runs has all that was committed."""
        for key in self._model.states:
            for copy in self._model.copies.get(key, {}).values():
                if copy.is_frozen or copy.ledger.excuse is not None or self._model.is_doubtful(copy):
                    continue
                if copy.matched_end() < copy.ledger.end:
                    raise self.broken(
                        f"at the end {copy} has {copy.matched_end()} of {copy.ledger.end}; {copy.held_at_mismatch()}"
                    )


class StoredIsSound(Invariant):
    """What a replica counts as its log lies on its disk batch by batch, offsets without gaps, checksums right, unless the
    simulator damaged that disk.
    """

    name = "stored-is-sound"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for copy in news.copies:
            if copy.fault is not None and not self._model.is_rotten(copy.node_id, copy.key):
                raise self.broken(f"{copy}: {copy.fault}")


class DamageHasACause(Invariant):
    """A replica takes its log for damaged only where the simulator damaged its disk: else synced bytes were lost, or a leader
    lacks what was committed.
    """

    name = "damage-has-a-cause"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for copy in news.copies:
            damage = copy.stand.damage
            if damage is None or copy.ledger.excuse is not None or self._model.is_rotten(copy.node_id, copy.key):
                continue
            raise self.broken(f"{copy} is damaged at offset {damage.offset}, and nobody did it: {damage.reason}")


class SequencesGoOn(Invariant):
    """In what is committed of a partition an idempotent producer's sequence has no gap and no repeat within a producer epoch,
    begins at 0 in each, and never goes back to an older epoch. Where logs are compacted an unknown producer may have been known
    to a log that was compacted since, so there it may begin anywhere (as Kafka's may everywhere).
    """

    name = "sequences-go-on"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._read: dict[PartitionKey, int] = {}  # how many batches were looked at
        self._last: dict[tuple[PartitionKey, int], tuple[int, int]] = {}  # (producer epoch, last sequence)

    def look(self, news: News) -> None:
        for key in news.keys:
            ledger = self._model.ledgers[key]
            start = self._read.get(key, 0)
            if start < len(ledger.headers):
                self._read[key] = len(ledger.headers)
                for header in ledger.headers[start:]:
                    if header.producer_id != NO_PRODUCER and header.base_sequence != NO_SEQUENCE:
                        self._check(ledger, header)

    def _check(self, ledger: Ledger, header: BatchHeader) -> None:
        producer = (ledger.key, header.producer_id)
        unknown = header.base_sequence - 1 if ledger.last else NO_SEQUENCE
        epoch, last = self._last.get(producer, (header.producer_epoch, unknown))
        expected = (last + 1) % SEQUENCE_LIMIT if epoch == header.producer_epoch else 0
        if header.producer_epoch < epoch or header.base_sequence != expected:
            name = self._model.newest.topic_names.get(ledger.key[0])
            raise self.broken(
                f"{name}-{ledger.key[1]}: producer {header.producer_id} has sequence {header.base_sequence} of epoch "
                f"{header.producer_epoch} committed ({brief(header)}), after sequence {last} of epoch {epoch}"
            )
        self._last[producer] = (header.producer_epoch, header.last_sequence)
