"""Who leads a partition, and how far it says that is committed."""

from .model import Model
from .sight import Invariant, Life, News, PartitionKey


class OneLeaderAnEpoch(Invariant):
    """In a leader epoch one process of one node acts as the leader, and no other ever does, be it the same node started anew."""

    name = "one-leader-an-epoch"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._leaders: dict[tuple[PartitionKey, int], Life] = {}

    def look(self, news: News) -> None:
        for copy in news.copies:
            if not copy.is_leading:
                continue
            epoch, life = copy.stand.leader_epoch, Life(copy.node_id, copy.life)
            first = self._leaders.setdefault((copy.key, epoch), life)
            if first != life:
                raise self.broken(f"{copy.partition.tp}, epoch {epoch}: {life} acts as the leader, and so did {first}")
            state = self._model.states[copy.key]
            if state.leader_epoch == epoch and state.leader != copy.node_id:
                raise self.broken(f"{copy} acts as the leader of epoch {epoch}, elected was node {state.leader}")


class LeaderIsComplete(Invariant):
    """Who leads in the newest epoch has every committed record from the moment it acts. A leader that was replaced already, and
    does not know it, may lack what its successor has committed.
    """

    name = "leader-is-complete"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for key in news.keys:
            state = self._model.states[key]
            copy = self._model.copies.get(key, {}).get(state.leader)
            if copy is None or copy.is_frozen or not copy.is_leading or copy.stand.leader_epoch != state.leader_epoch:
                continue
            if copy.ledger.excuse is not None or self._model.is_doubtful(copy):
                continue
            if copy.matched_end() < copy.ledger.end:
                raise self.broken(
                    f"{copy} leads in epoch {state.leader_epoch} and has the committed log up to {copy.matched_end()} "
                    f"of {copy.ledger.end}; {copy.held_at_mismatch()}"
                )


class HighWatermarkRises(Invariant):
    """Within an epoch a leader's high watermark never falls, nor exceeds what the leader itself has flushed; no log starts beyond
    what is committed. (The cluster's committed end cannot fall: the ledger only grows, and who leads must have all of it.)
    """

    name = "high-watermark-rises"

    def __init__(self, model: Model) -> None:
        pass

    def look(self, news: News) -> None:
        for copy in news.copies:
            stand, before = copy.stand, copy.before
            if stand.log_start > max(copy.ledger.end, stand.high_watermark):
                raise self.broken(f"{copy} starts at {stand.log_start}, committed is up to {copy.ledger.end} only")
            if not copy.is_leading:
                continue
            if stand.high_watermark > stand.flushed_offset:
                raise self.broken(f"{copy}: high watermark {stand.high_watermark}, flushed are {stand.flushed_offset}")
            was_leading = before is not None and before.role is stand.role and before.leader_epoch == stand.leader_epoch
            if before is not None and was_leading and stand.high_watermark < before.high_watermark:
                raise self.broken(
                    f"{copy}, epoch {stand.leader_epoch}: high watermark {stand.high_watermark} after {before.high_watermark}"
                )
