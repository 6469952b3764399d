"""One partition of an internal topic that this node leads, and the shard of groups or transactions that is replayed from it.

    load: Partition.read -> shard.replay, a slice at a time -> shard.on_loaded
    ask:  shard.<operation> -> Partition.append -> replies and effects are held back until the high watermark is there
    time: one timer -> shard.tick -> Partition.append

Nothing is awaited between a decision and its append. If the append fails all the same, or anything else is in doubt, the shard
is dropped and loaded anew ("in doubt, drop and reload"), and whoever waits is told to look for the coordinator again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from quorumlog.coordinators.results import LogRecord, Result, Waiter, Writer
from quorumlog.host.ports import Clock
from quorumlog.metadata.image import Image
from quorumlog.metadata.records import CorruptRecord
from quorumlog.partitions.partition import Partition, Role
from quorumlog.wire.batches import BatchError
from quorumlog.wire.errors import ClusterError, ErrorCode

from .group_coordinator_log import batches_of, record_bytes_max, replay_batches
from .group_coordinator_replies import Answer, Replies
from .replicas import Replicas

logger = logging.getLogger(__name__)

LOAD_BYTES = 128 << 10  # read and replayed at once: some 10 ms, in which nobody else is served
RETRY_S = 0.5  # until time is looked at again where nothing can be logged, and until a dropped shard is loaded anew
PARKED_MAX_S = 3_600.0  # a bound for replies that other requests bring about; members' own timeouts end them long before


class Shard(Protocol):
    """What a shard of any kind is to its host. See `GroupShard` and `TransactionShard`."""

    def replay(self, key: bytes, value: bytes | None) -> None: ...
    def replay_for(self, producer_id: int, key: bytes, value: bytes | None) -> None: ...
    def replay_end(self, producer_id: int, *, is_commit: bool) -> None: ...
    def on_loaded(self, image: Image, now: float, wall_ms: int) -> Result: ...
    def limit_records(self, bytes_max: int) -> None: ...
    @property
    def is_settled(self) -> bool: ...
    def on_image(self, image: Image, now: float, *, deleted: Collection[str]) -> Result: ...
    def next_deadline(self) -> float: ...
    def tick(self, now: float, wall_ms: int) -> Result: ...


ShardT = TypeVar("ShardT", bound=Shard)


class State(Enum):
    LOADING = "loading"
    SERVING = "serving"
    BROKEN = "broken"  # what is logged cannot be replayed: another node may be able to
    GONE = "gone"  # led by another node, or deleted


class LedShard(Generic[ShardT]):
    """Owned by a coordinator, from the moment at which this node leads the partition until it does no more."""

    def __init__(
        self,
        partition: Partition,
        replicas: Replicas,
        clock: Clock,
        *,
        image: Callable[[], Image],
        make_shard: Callable[[Image], ShardT],
        commit_timeout_s: float,
        load_later: Callable[["LedShard[ShardT]"], None],
        perform: Callable[["LedShard[ShardT]", Any], None] | None = None,
    ) -> None:
        self.partition = partition
        self.state = State.LOADING
        self._replicas = replicas
        self._clock = clock
        self._image = image
        self._make_shard = make_shard
        self._load_later = load_later
        self._perform = perform
        self._shard = self._new_shard()
        self._life = 0  # counts the shards that were dropped, so that a load which goes on notices
        self._replies = Replies(commit_timeout_s)
        self._effects: deque[tuple[int, Any]] = deque()  # each with the offset below which all must be committed before
        self._deleted_topics: dict[str, None] = {}  # whose offsets could not be dropped yet
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    @property
    def life(self) -> int:
        """Another number, another shard: what was begun for the one before is void."""
        return self._life

    def look(self) -> ShardT:
        """The shard, to be read. Raises the ClusterError that says that it cannot be asked."""
        self._check_serves()
        return self._shard

    def _new_shard(self) -> ShardT:
        shard = self._make_shard(self._image())
        shard.limit_records(record_bytes_max(self.partition.batch_bytes_max))
        return shard

    # --- loading

    async def load(self) -> None:
        """Replay the log up to where it ends now: while we lead, nobody but ourselves adds to it."""
        life, started, end = self._life, self._clock.now(), self.partition.log_end_offset
        try:
            await self._replay_to(end, life)
        except (ClusterError, BatchError, CorruptRecord) as error:
            if self._life == life:
                self._on_unreadable(error)
            return
        except Exception as error:  # a bug of ours, which shall not take the other shards along
            logger.exception("%s: its records cannot be replayed", self.partition.tp)
            self._on_unreadable(error)
            return
        if self._life != life:
            return
        self.state = State.SERVING
        self._apply(self._shard.on_loaded(self._image(), self._clock.now(), self._clock.wall_ms()))
        logger.info("%s: loaded %d offsets of its log in %.2f s", self.partition.tp, end, self._clock.now() - started)

    async def _replay_to(self, end: int, life: int) -> None:
        offset = self.partition.log_start_offset
        while offset < end and self._life == life:
            read = self.partition.read(offset, max_bytes=LOAD_BYTES, up_to_end=True)
            replay_batches(read.buffers, self._shard)
            if read.next_offset <= offset:
                raise BatchError(f"nothing can be read at offset {offset}, and the log ends at {end}")
            offset = read.next_offset
            await asyncio.sleep(0)

    def _on_unreadable(self, error: Exception) -> None:
        logger.critical("%s cannot be replayed, what is in it has no coordinator: %s", self.partition.tp, error)
        self._replicas.check_damage(self.partition)
        self._drop(State.BROKEN, f"{self.partition.tp} cannot be replayed")

    # --- serving

    def ask(self, operation: Callable[[ShardT, Waiter], Result], *, logs: bool = True) -> Answer:
        """Decide now; the answer comes later. Raises the ClusterError that says that this shard cannot be asked."""
        self._check_serves()
        if logs:
            self._check_writable()
        waiter, answer = self._replies.wait()
        try:
            result = operation(self._shard, waiter)
            self._apply(result)
        except ClusterError as error:
            self._refuse(waiter, error)
        except Exception:
            self._drop_and_reload("an operation failed")
            raise
        else:
            if all(reply.waiter != waiter for reply in result.replies):
                self._bound(answer)
        return answer

    def _refuse(self, waiter: Waiter, error: ClusterError) -> None:
        """A refusal may rest on what is not committed yet, as any answer."""
        self._hold(waiter, error)
        if not self._shard.is_settled:
            logger.error("%s: refused when something had been decided already: %s", self.partition.tp, error)
            self._drop_and_reload("an operation was refused half way")

    def _check_serves(self) -> None:
        if self.state is State.LOADING:
            raise ClusterError(ErrorCode.coordinator_load_in_progress, f"{self.partition.tp} is being loaded")
        if self.state is not State.SERVING:
            raise ClusterError(ErrorCode.not_coordinator, f"{self.partition.tp} is {self.state.value}")

    def _check_writable(self) -> None:
        """Before anything is decided: a decision that cannot be logged costs the whole shard."""
        partition = self.partition
        if partition.damage is not None:
            raise ClusterError(ErrorCode.not_coordinator, f"{partition.tp} is damaged: {partition.damage.reason}")
        if len(partition.isr) < partition.min_insync_replicas:
            raise ClusterError(
                ErrorCode.coordinator_not_available,
                f"{partition.tp} has {len(partition.isr)} replicas in sync and needs {partition.min_insync_replicas}",
            )

    def _bound(self, answer: Answer) -> None:
        timeout = ClusterError(ErrorCode.rebalance_in_progress, f"nothing came of it within {PARKED_MAX_S:.0f} s")
        handle = asyncio.get_running_loop().call_later(
            PARKED_MAX_S, lambda: None if answer.done() else answer.set_result(timeout)
        )
        answer.add_done_callback(lambda _: handle.cancel())

    def _apply(self, result: Result) -> None:
        """Log what was decided, then hold its replies and effects back until that is committed."""
        if result.records and not self._log(result.records, result.writer):
            return
        for reply in result.replies:
            self._hold(reply.waiter, reply.body)
        self._effects.extend((self.partition.log_end_offset, effect) for effect in result.effects)
        self._perform_committed()
        self._arm()

    def _perform_committed(self) -> None:
        while self._effects and self._effects[0][0] <= self.partition.high_watermark:
            assert self._perform is not None, self._effects[0]
            self._perform(self, self._effects.popleft()[1])

    def _log(self, records: Sequence[LogRecord], writer: Writer | None) -> bool:
        partition, wall_ms = self.partition, self._clock.wall_ms()
        appended = []
        try:
            for batch in batches_of(records, wall_ms=wall_ms, bytes_max=partition.batch_bytes_max, writer=writer):
                guard = None if writer is None else writer.guard
                append = partition.append
                appended.append(append(batch, acks=-1, now=self._clock.now(), wall_ms=wall_ms, guard=guard, by_coordinator=True))
        except ClusterError as error:
            self._on_not_logged(error)
            return False
        finally:
            self._replicas.on_appended(partition, appended)
        return True

    def _on_not_logged(self, error: ClusterError) -> None:
        logger.error("%s: what was decided could not be logged: %s", self.partition.tp, error)
        too_large = error.code is ErrorCode.message_too_large
        self._drop_and_reload(str(error), ErrorCode.unknown_server_error if too_large else ErrorCode.not_coordinator)

    def _hold(self, waiter: Waiter, outcome: "dict[str, object] | ClusterError") -> None:
        partition = self.partition
        self._replies.hold(
            waiter,
            outcome,
            end_offset=partition.log_end_offset,
            high_watermark=partition.high_watermark,
            now=self._clock.now(),
        )
        self._arm()

    # --- what the partition and the cluster say

    def on_high_watermark(self) -> None:
        self._replies.release(self.partition.high_watermark)
        self._perform_committed()

    def on_image(self, image: Image, deleted: Collection[str]) -> None:
        if self.state is not State.SERVING:
            return  # it is loaded with the newest image
        self._deleted_topics |= dict.fromkeys(deleted)
        if self._can_log():
            names, self._deleted_topics = self._deleted_topics, {}
            self._shard.limit_records(record_bytes_max(self.partition.batch_bytes_max))
            self._apply(self._shard.on_image(image, self._clock.now(), deleted=list(names)))
        else:
            self._set_timer(self._clock.now() + RETRY_S)

    def leave(self) -> None:
        """This node leads the partition no more."""
        self._drop(State.GONE, f"{self.partition.tp} is now led by node {self.partition.leader_id}")

    def _can_log(self) -> bool:
        try:
            self._check_writable()
        except ClusterError:
            return False
        return self.partition.role is Role.LEADER

    # --- dropping

    def _drop_and_reload(self, reason: str, code: ErrorCode = ErrorCode.not_coordinator) -> None:
        self._drop(State.LOADING, reason, code)
        asyncio.get_running_loop().call_later(RETRY_S, self._load_later, self)

    def _drop(self, state: State, reason: str, code: ErrorCode = ErrorCode.not_coordinator) -> None:
        self.state = state
        self._life += 1
        self._deleted_topics = {}
        self._effects.clear()
        self._shard = self._new_shard()
        self._replies.fail(ClusterError(code, reason))
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, float("inf")

    # --- time

    def _arm(self) -> None:
        """One timer, for what comes first. One that is set too early is no harm: it looks, and is set again."""
        if self.state is not State.SERVING:
            return
        at = min(self._shard.next_deadline(), self._replies.next_deadline())
        if at < self._timer_at:
            self._set_timer(at)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._clock.now()
        self._replies.expire(
            now, ClusterError(ErrorCode.coordinator_not_available, f"{self.partition.tp}: not committed in time")
        )
        if self._deleted_topics:
            self.on_image(self._image(), ())
        if self._shard.next_deadline() > now:
            self._arm()
        elif self._can_log():
            self._tick(now)
        else:
            self._set_timer(now + RETRY_S)

    def _tick(self, now: float) -> None:
        try:
            result = self._shard.tick(now, self._clock.wall_ms())
        except Exception:
            logger.exception("%s: what time decides cannot be decided", self.partition.tp)
            self._drop_and_reload("time could not be reckoned with")
        else:
            self._apply(result)
