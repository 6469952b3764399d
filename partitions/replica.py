"""What one replica of a partition knows of all of them: who is in sync, and how far is committed. Pure.

The high watermark is the smallest flushed offset over the in-sync set. Four rules were found by model checking:
1. when the epoch rises, a follower finds where its log parts from the leader's, and cuts it, before it fetches;
2. that cut is fenced by the epoch;
3. the high watermark advances only on acknowledgments of in-sync members made in the leader's own epoch;
4. the in-sync set grows only by a follower that has reached the high watermark and the start of the leader's epoch.
And KIP-966: it advances only while the in-sync set has `min.insync.replicas` members, so that none of those who left it under
that size misses anything committed. While a change of the in-sync set is under way, old and new members all count.
"""

from dataclasses import dataclass
from math import inf

UNKNOWN_OFFSET = -1


@dataclass(slots=True)
class _Follower:
    """A follower as its leader sees it, in the leader's epoch."""

    flushed_offset: int = UNKNOWN_OFFSET  # nothing counts before its position matched ours
    caught_up_at: float = -inf  # when it last had all there was
    mark_offset: int = UNKNOWN_OFFSET  # the log end at its last sign of life: reaching it means it had all there was then
    mark_at: float = -inf
    is_fetching: bool = False  # from its position until its stream ends


class ReplicaCore:
    """Owned by its partition, which reports what happens to the log and asks what follows from it."""

    def __init__(
        self,
        node_id: int,
        *,
        lag_time_max_s: float,
        proposal_timeout_s: float,
        min_insync_replicas: int,
        log_end_offset: int,
        flushed_offset: int,
        high_watermark: int,
    ) -> None:
        assert high_watermark <= log_end_offset, (high_watermark, log_end_offset)
        self.node_id = node_id
        self.is_leader = False
        self.leader_epoch = -1
        self.replicas: tuple[int, ...] = ()
        self.isr: tuple[int, ...] = ()
        self._settled_count = 0  # of replicas, without those that a reassignment brings
        self.log_end_offset = log_end_offset
        self.flushed_offset = flushed_offset
        self.high_watermark = high_watermark
        self.configured_min_insync_replicas = min_insync_replicas
        self._lag_time_max_s = lag_time_max_s
        self._proposal_timeout_s = proposal_timeout_s
        self._epoch_start_offset = log_end_offset
        self._followers: dict[int, _Follower] = {}
        self._proposed: set[int] = set()  # members of any in-sync set that may still be decided on
        self._proposal_count = 0
        self._proposed_at = -inf

    @property
    def min_insync_replicas(self) -> int:
        """The configured number, or all replicas if there are fewer; those that a reassignment brings do not count yet."""
        return min(self.configured_min_insync_replicas, max(1, self._settled_count))

    @property
    def knows_committed(self) -> bool:
        """False on a new leader until what it began with is committed: the last leader may have committed more than it knows."""
        return self.high_watermark >= self._epoch_start_offset

    @property
    def effective_isr(self) -> set[int]:
        """Whose flushed offset counts: the in-sync set, and whoever a change under way would add."""
        return {*self.isr, *self._proposed}

    # --- roles

    def lead(
        self, *, leader_epoch: int, replicas: tuple[int, ...], isr: tuple[int, ...], now: float, adding: tuple[int, ...] = ()
    ) -> None:
        assert leader_epoch > self.leader_epoch or not self.is_leader, (leader_epoch, self.leader_epoch)
        self.is_leader = True
        self.leader_epoch = leader_epoch
        self._epoch_start_offset = self.log_end_offset
        # Rule 3: what was acknowledged in another epoch proves nothing in this one.
        self._followers = {node: _Follower() for node in replicas if node != self.node_id}
        for node in isr:
            if node in self._followers:
                self._followers[node].caught_up_at = now
        self._set_isr(replicas, isr, adding)
        self._advance()

    def follow(self, *, leader_epoch: int, replicas: tuple[int, ...], isr: tuple[int, ...]) -> None:
        self.is_leader = False
        self.leader_epoch = leader_epoch
        self._followers = {}
        self._set_isr(replicas, isr)

    def set_isr(self, *, replicas: tuple[int, ...], isr: tuple[int, ...], now: float, adding: tuple[int, ...] = ()) -> bool:
        """A change was decided, in the same epoch. True if the high watermark moved."""
        for node in replicas:
            if node != self.node_id and self.is_leader and node not in self._followers:
                self._followers[node] = _Follower()
        for node in [node for node in self._followers if node not in replicas]:
            del self._followers[node]
        for node in set(isr) - set(self.isr) - {self.node_id}:
            if node in self._followers:
                self._followers[node].caught_up_at = now
        self._set_isr(replicas, isr, adding)
        return self._advance()

    def set_min_insync_replicas(self, count: int) -> bool:
        """True if the high watermark moved."""
        self.configured_min_insync_replicas = count
        return self._advance()

    # --- the log

    def on_appended(self, log_end_offset: int, now: float) -> None:
        for follower in self._followers.values():
            if follower.flushed_offset >= self.log_end_offset:
                follower.caught_up_at = now  # it was, until this very moment
        self.log_end_offset = log_end_offset

    def on_flushed(self, offset: int) -> bool:
        """True if the high watermark moved."""
        assert offset <= self.log_end_offset, (offset, self.log_end_offset)
        if offset <= self.flushed_offset:
            return False
        self.flushed_offset = offset
        return self._advance()

    def on_truncated(self, offset: int) -> None:
        """The log ends at `offset` now. Whether that may be below the high watermark was for the caller to decide."""
        self.log_end_offset = offset
        self.flushed_offset = min(self.flushed_offset, offset)
        self.high_watermark = min(self.high_watermark, offset)

    def on_reset(self, offset: int) -> None:
        """The log is empty and starts at `offset`, which is committed."""
        self.log_end_offset = self.flushed_offset = self.high_watermark = offset

    def on_leader_high_watermark(self, high_watermark: int) -> bool:
        """What the leader says is committed, as far as this log reaches. True if the high watermark moved."""
        known = min(high_watermark, self.log_end_offset)
        moved = known > self.high_watermark
        self.high_watermark = max(self.high_watermark, known)
        return moved

    # --- followers, to their leader

    def on_position(self, follower: int, flushed_offset: int, now: float) -> bool:
        """A follower whose log is a beginning of ours starts to fetch. True if the high watermark moved."""
        seen = self._followers[follower]
        # Its disk may have lost what it once acknowledged (it was repaired): believe the newest word.
        seen.flushed_offset = UNKNOWN_OFFSET
        seen.is_fetching = True
        return self._note(seen, flushed_offset, now)

    def on_lost(self, follower: int) -> None:
        """The follower's stream ended. What it flushed still counts, but it may come back with another disk: it joins the
        in-sync set only after it has told its position again.
        """
        seen = self._followers.get(follower)
        if seen is not None:
            seen.is_fetching = False

    def on_acknowledged(self, follower: int, leader_epoch: int, flushed_offset: int, now: float) -> bool:
        """A follower flushed up to an offset. True if the high watermark moved."""
        seen = self._followers.get(follower)
        if not self.is_leader or leader_epoch != self.leader_epoch or seen is None:
            return False  # rule 3
        if seen.flushed_offset == UNKNOWN_OFFSET or flushed_offset > self.log_end_offset:
            return False  # rule 1: its position was not matched in this epoch, or it speaks of another log
        return self._note(seen, max(flushed_offset, seen.flushed_offset), now)

    def read_replicas(self, offset: int) -> tuple[int, ...]:
        """Followers from whom a consumer may read at this offset, in Kafka's order: the furthest, of them who was there last."""
        found = [
            (follower.flushed_offset, follower.caught_up_at, node)
            for node, follower in self._followers.items()
            if node in self.isr and follower.is_fetching and follower.flushed_offset >= offset
        ]
        return tuple(node for *_, node in sorted(found, reverse=True))

    # --- the in-sync set

    def isr_wanted(self, now: float) -> tuple[int, ...] | None:
        """The in-sync set this leader would have; None if that is the present one, or an answer to a proposal is awaited."""
        if not self.is_leader or (self._proposal_count and now - self._proposed_at < self._proposal_timeout_s):
            return None
        wanted = {self.node_id}
        for node, follower in self._followers.items():
            if not self._is_lagging(follower, now) and (node in self.isr or self._may_join(follower)):
                wanted.add(node)
        result = tuple(sorted(wanted))
        return result if result != self.isr else None

    def isr_proposed(self, isr: tuple[int, ...], now: float) -> None:
        """The controller is being asked. Until it has answered, all who are in any proposed set count."""
        self._proposed |= set(isr)
        self._proposal_count += 1
        self._proposed_at = now

    def isr_refused(self) -> None:
        """The controller refused for good. An earlier proposal without an answer may still be decided, and goes on counting."""
        if self._proposal_count == 1:
            self._forget_proposals()
        self._proposed_at = -inf

    # --- inside

    def _set_isr(self, replicas: tuple[int, ...], isr: tuple[int, ...], adding: tuple[int, ...] = ()) -> None:
        self.replicas = replicas
        self._settled_count = len(replicas) - len(adding)
        self.isr = tuple(sorted(isr))
        self._forget_proposals()  # they name an older partition epoch: the controller will refuse them

    def _forget_proposals(self) -> None:
        self._proposed.clear()
        self._proposal_count = 0
        self._proposed_at = -inf

    def _note(self, follower: _Follower, flushed_offset: int, now: float) -> bool:
        assert flushed_offset <= self.log_end_offset, (flushed_offset, self.log_end_offset)
        follower.flushed_offset = flushed_offset
        if flushed_offset >= self.log_end_offset:
            follower.caught_up_at = now
        elif flushed_offset >= follower.mark_offset:
            follower.caught_up_at = max(follower.caught_up_at, follower.mark_at)
        follower.mark_offset, follower.mark_at = self.log_end_offset, now
        return self._advance()

    def _is_lagging(self, follower: _Follower, now: float) -> bool:
        return follower.flushed_offset < self.log_end_offset and now - follower.caught_up_at > self._lag_time_max_s

    def _may_join(self, follower: _Follower) -> bool:
        reached = max(self.high_watermark, self._epoch_start_offset)
        return follower.is_fetching and follower.flushed_offset >= reached  # rule 4

    def _flushed_offset_of(self, node: int) -> int:
        if node == self.node_id:
            return self.flushed_offset
        follower = self._followers.get(node)
        return follower.flushed_offset if follower is not None else UNKNOWN_OFFSET

    def _advance(self) -> bool:
        """Raise the high watermark to what the effective in-sync set has flushed."""
        if not self.is_leader or len(self.isr) < self.min_insync_replicas:
            return False
        committed = min(self._flushed_offset_of(node) for node in {self.node_id, *self.effective_isr})
        if committed <= self.high_watermark:
            return False
        self.high_watermark = committed
        return True
