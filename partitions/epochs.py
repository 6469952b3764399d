"""Which leader epoch begins at which offset: the history by which two replicas find where their logs part (KIP-101, KIP-595).

Made from the batches alone: an epoch is in it from its first batch on, so it can be rebuilt from the segments. An epoch in which
nothing was written leaves no trace, and needs none.
"""

from bisect import bisect_left, bisect_right

from quorumlog.host.ports import KVStore, WriteBatch

from .keys import EPOCH, Keys

UNDEFINED_EPOCH = -1


class LeaderEpochs:
    """Owned by its log. Both lists rise: `epochs[i]` begins at `starts[i]`."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.epochs: list[int] = []
        self.starts: list[int] = []
        self.latest = UNDEFINED_EPOCH

    @classmethod
    def load(cls, store: KVStore, keys: Keys) -> "LeaderEpochs":
        history = cls(keys)
        for key, value in store.scan(keys.epoch(0), keys.end_of(b"e")):
            history.epochs.append(keys.number_of(key))
            history.starts.append(EPOCH.unpack(value)[0])
        history._set_latest()
        return history

    def assign(self, leader_epoch: int, start_offset: int, batch: WriteBatch) -> None:
        """A batch of a new epoch starts at `start_offset`."""
        assert leader_epoch > self.latest, (leader_epoch, self.latest)
        self.epochs.append(leader_epoch)
        self.starts.append(start_offset)
        self.latest = leader_epoch
        batch.put(self._keys.epoch(leader_epoch), EPOCH.pack(start_offset))

    def end_of(self, leader_epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(the greatest epoch we hold that is not above `leader_epoch`, the offset behind its last record).

        An epoch older than all we hold ends where our first one begins.
        """
        at = bisect_right(self.epochs, leader_epoch)
        end_offset = self.starts[at] if at < len(self.starts) else log_end_offset
        return (self.epochs[at - 1] if at > 0 else leader_epoch), end_offset

    def epoch_at(self, offset: int) -> int:
        """The epoch of the record at `offset`; -1 if nothing is known that far back."""
        at = bisect_right(self.starts, offset) - 1
        return self.epochs[at] if at >= 0 else UNDEFINED_EPOCH

    def truncate(self, offset: int, batch: WriteBatch) -> bool:
        """Forget the epochs that begin at or above `offset`; True if there were any."""
        kept = bisect_left(self.starts, offset)
        removed = self.epochs[kept:]
        for leader_epoch in removed:
            batch.delete(self._keys.epoch(leader_epoch))
        del self.epochs[kept:], self.starts[kept:]
        self._set_latest()
        return bool(removed)

    def drop_below(self, offset: int, batch: WriteBatch) -> None:
        """Forget the epochs that end at or below `offset`. The newest stays: it tells what the next batch may not fall below."""
        dropped = max(0, bisect_right(self.starts, offset) - 1)
        for leader_epoch in self.epochs[:dropped]:
            batch.delete(self._keys.epoch(leader_epoch))
        del self.epochs[:dropped], self.starts[:dropped]

    def _set_latest(self) -> None:
        self.latest = self.epochs[-1] if self.epochs else UNDEFINED_EPOCH
