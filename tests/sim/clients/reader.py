"""A consumer with partitions assigned by hand: reads from leaders, checks what it gets, starts over when told.

One request a node is under way, for all partitions that the node leads: where to begin (ListOffsets), whether what was read last
is still there after the leader changed (OffsetForLeaderEpoch), or records (Fetch, with a long poll). What was fetched is kept
until the next poll, and counts as read only then.

Starting over is a new process of the history: what it reads need not follow what was read before. So is an offset that is out of
range because records were deleted. An offset out of range because the log has become shorter is no such thing: the process goes
on, and the checker sees it go backwards.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from quorumlog.checker.history import Operation, Outcome, Poll
from quorumlog.wire.catalogue import FETCH
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.sight import Violation

from .client import Client, Leader, TopicView
from .connection import EPOCH_END, LIST_OFFSETS, Connection, OnAnswer, is_retriable
from .fetched import read_fetched
from .processes import Processes

LATEST, EARLIEST = -1, -2
LOOK_AGAIN_S = 0.1  # while a partition has no leader, or there is no connection to it
CONSUMER = -1
FETCH_BYTES_MAX = 1 << 20
MOVED = (ErrorCode.not_leader_or_follower, ErrorCode.fenced_leader_epoch)


@dataclass(slots=True, eq=False)
class Position:
    """Where this reader is in a partition. Made anew when it starts over."""

    topic: str
    partition: int
    key: str
    offset: int | None = None  # the next to read; None: to be found
    find: int = EARLIEST  # what to find
    was: int = -1  # the offset that turned out to be out of range
    epoch: int = -1  # of the last record that was read
    checked_epoch: int = -1  # the leader epoch in which that record was last known to be there
    not_before: float = 0.0  # after an error


class Arrived(NamedTuple):
    """One partition's part of an answer to a fetch, not looked at yet."""

    position: Position
    offset: int
    leader_epoch: int
    fetched: Any


Asked = list[tuple[Position, Leader]]


class Reader:
    """Owned by a workload."""

    def __init__(
        self,
        client: Client,
        topics: Sequence[str],
        processes: Processes,
        record: Callable[[Operation], None],
        *,
        reset: int = EARLIEST,
        max_wait_s: float = 0.2,
        partition_bytes_max: int = FETCH_BYTES_MAX,
        reads_committed: bool = False,
    ) -> None:
        """`reset`: where to go on if the offset is out of range. `max_wait_s`: how long a poll waits at most. `reads_committed`:
        no records of transactions that are open or were aborted.
        """
        self.client = client
        self.topics = list(topics)
        self._processes = processes
        self._record = record
        self._reset = reset
        self._max_wait_s = max_wait_s
        self._partition_bytes_max = partition_bytes_max
        self._isolation = 1 if reads_committed else 0
        self._loop = asyncio.get_running_loop()
        self._process = -1
        self._process_since = 0.0
        self._doing = "polls"
        self._positions: dict[str, Position] = {}
        self._busy: dict[int, None] = {}  # nodes with a request under way
        self._arrived: deque[Arrived] = deque()
        self._changed = asyncio.Event()
        client.on_change = self._changed.set
        client.want(topics)

    # --- for the workload

    def start_over(self) -> None:
        """From the beginning of everything, as a new process."""
        self._positions = {}
        self._arrived.clear()
        self._become_new_process()
        self._take_partitions()

    async def poll(self) -> int:
        """Records that have come, waiting a while for the first. How many; an operation of the history if there are any."""
        if self._process < 0:
            self.start_over()
        self._take_partitions()
        invoked = self.client.now()
        deadline = invoked + self._max_wait_s
        while True:
            polls = self._take_arrived()
            self._ask_nodes()  # after taking: what waits to be taken is not asked for
            if polls or self.client.now() >= deadline:
                break
            await self._wait(deadline - self.client.now())
        if polls:
            invoked = max(invoked, self._process_since)
            self._record(Operation(self._process, "poll", invoked, self.client.now(), Outcome.OK, tuple(polls)))
        return sum(len(poll.records) for poll in polls)

    async def read_to_end(self, partition_counts: dict[str, int]) -> None:
        """Start over and read all that is committed now, of topics with at least so many partitions."""
        self._doing = f"waits for metadata of {partition_counts}"
        while self._lacks(partition_counts):
            await self.client.refreshed_metadata()
        ends = await self._find_ends(partition_counts)
        self._doing = f"reads to {ends}"
        self.start_over()
        while any(self._is_before(key, end) for key, end in ends.items()):
            await self.poll()
        self._doing = "is at the end"
        now = self.client.now()
        self._record(Operation(self._process, "poll", now, now, Outcome.OK, tuple(Poll(key) for key in ends)))

    def describe(self) -> str:
        """What it does and where it is, in words."""
        places = ", ".join(f"{position.key} at {position.offset}" for position in self._positions.values())
        return f"{self.client.name}, process {self._process}, {self._doing}: {places or 'no partition is known'}"

    async def close(self) -> None:
        await self.client.close()

    # --- what it reads

    def _take_partitions(self) -> None:
        """Take over partitions that metadata knows by now."""
        found = []
        for topic in self.topics:
            view = self.client.topics.get(topic)
            if view is None:
                self.client.refresh()
                continue
            for partition in view.leaders:
                key = f"{topic}-{partition}"
                if key not in self._positions:
                    self._positions[key] = Position(topic, partition, key)
                    found.append(key)
        if found:
            self._record_assignment()

    def _become_new_process(self) -> None:
        self._process, self._process_since = self._processes.new(), self.client.now()

    def _record_assignment(self) -> None:
        now = self.client.now()
        self._record(Operation(self._process, "assign", now, now, Outcome.OK, keys=tuple(self._positions)))

    def _lacks(self, partition_counts: dict[str, int]) -> bool:
        """Does metadata not show yet what there must be?"""
        known = self.client.topics
        return any(topic not in known or len(known[topic].leaders) < count for topic, count in partition_counts.items())

    def _is_before(self, key: str, end: int) -> bool:
        position = self._positions.get(key)
        return position is None or position.offset is None or position.offset < end

    async def _find_ends(self, topics: Iterable[str]) -> dict[str, int]:
        """How far each partition is committed."""
        wanted = [(topic, partition) for topic in topics for partition in self.client.topics[topic].leaders]
        ends: dict[str, int] = {}
        while len(ends) < len(wanted):
            for topic, partition in wanted:
                key = f"{topic}-{partition}"
                if key not in ends and (end := await self._find_end(topic, partition)) is not None:
                    ends[key] = end
            if len(ends) < len(wanted):
                lacking = [f"{topic}-{partition}" for topic, partition in wanted if f"{topic}-{partition}" not in ends]
                self._doing = f"asks for the ends of {', '.join(lacking)}"
                self.client.refresh()
                await asyncio.sleep(self.client.backoff_s())
        return ends

    async def _find_end(self, topic: str, partition: int) -> int | None:
        leader = self.client.leader(topic, partition)
        if leader is None:
            return None
        position = Position(topic, partition, f"{topic}-{partition}", find=LATEST)
        try:
            connection = await self.client.reach(leader.node_id)
            answer = await connection.ask(LIST_OFFSETS, _offsets_body([(position, leader)], self._isolation))
        except ConnectionError:
            return None
        found = answer.topics[0].partitions[0]
        return int(found.offset) if found.error_code == ErrorCode.none else None

    # --- asking

    async def _wait(self, timeout_s: float) -> None:
        self._changed.clear()
        timer = self._loop.call_later(min(timeout_s, LOOK_AGAIN_S), self._changed.set)
        await self._changed.wait()
        timer.cancel()

    def _ask_nodes(self) -> None:
        """Ask each node that has nothing of ours to do for what it leads."""
        now = self.client.now()
        led: dict[int, Asked] = {}
        waiting = {one.position.key for one in self._arrived}
        for position in self._positions.values():
            if position.not_before <= now and position.key not in waiting:
                leader = self.client.leader(position.topic, position.partition)
                if leader is not None and leader.node_id not in self._busy:
                    led.setdefault(leader.node_id, []).append((position, leader))
        for node_id, asked in led.items():
            if (connection := self.client.connection(node_id)) is not None and not connection.is_lost:
                self._ask(connection, asked)

    def _ask(self, connection: Connection, asked: Asked) -> None:
        lost = [(position, leader) for position, leader in asked if position.offset is None]
        moved = [one for one in asked if one[0].offset is not None and one[0].epoch >= 0 and one[0].checked_epoch != one[1].epoch]
        if lost:
            self._send(connection, LIST_OFFSETS, _offsets_body(lost, self._isolation), partial(self._on_offsets, lost))
        elif moved:
            asked_about = [(position, leader, position.epoch) for position, leader in moved]
            self._send(connection, EPOCH_END, _epochs_body(moved), partial(self._on_epochs, asked_about))
        else:
            wait_ms = int(self._max_wait_s * 1000)
            offsets = [(position, position.offset or 0, leader.epoch) for position, leader in asked]
            body = _fetch_body(asked, self.client.topics, wait_ms, self._partition_bytes_max, self._isolation)
            self._send(connection, FETCH, body, partial(self._on_fetched, offsets))

    def _send(self, connection: Connection, api_key: int, body: Any, on_answer: Callable[[Struct], None]) -> None:
        self._busy[connection.node_id] = None
        connection.send(api_key, body, self._freeing(connection.node_id, on_answer), extra_s=self._max_wait_s)

    def _freeing(self, node_id: int, on_answer: Callable[[Struct], None]) -> OnAnswer:
        def answered(answer: Struct | None) -> None:
            del self._busy[node_id]
            if answer is not None:
                on_answer(answer)
            self._changed.set()

        return answered

    # --- answers

    def _on_offsets(self, asked: Asked, answer: Struct) -> None:
        found = {(topic.name, one.partition_index): one for topic in answer.topics for one in topic.partitions}
        for position, _ in asked:
            one = found[position.topic, position.partition]
            if one.error_code == ErrorCode.none:
                self._begin_at(position, one.offset)
            else:
                self._on_error(position, one.error_code, None)

    def _begin_at(self, position: Position, offset: int) -> None:
        if self._positions.get(position.key) is not position:
            return
        position.offset = offset
        if offset > position.was >= 0:
            # Records were deleted. The new process does not go on where others were left: it may be anywhere.
            self._become_new_process()
            self._record_assignment()
        position.was, position.epoch = -1, -1

    def _on_epochs(self, asked: list[tuple[Position, Leader, int]], answer: Struct) -> None:
        found = {(topic.topic, one.partition): one for topic in answer.topics for one in topic.partitions}
        for position, leader, epoch in asked:
            one = found[position.topic, position.partition]
            if position.epoch != epoch:  # read on meanwhile, at the leader before
                continue
            if one.error_code != ErrorCode.none:
                self._on_error(position, one.error_code, None)
                continue
            if position.offset is not None and 0 <= one.end_offset < position.offset:
                raise Violation(
                    "client: truncation",
                    f"{position.key}: a record of epoch {position.epoch} was read before offset {position.offset}, but the "
                    f"leader of epoch {leader.epoch} has records up to {one.end_offset} of epoch {one.leader_epoch}",
                )
            position.checked_epoch = leader.epoch

    def _on_fetched(self, asked: list[tuple[Position, int, int]], answer: Struct) -> None:
        if answer.error_code != ErrorCode.none:
            raise Violation("client: fetch", f"error {answer.error_code} for the whole request")
        ids = {view.topic_id: topic for topic, view in self.client.topics.items()}
        found = {(ids.get(topic.topic_id), one.partition_index): one for topic in answer.responses for one in topic.partitions}
        for position, offset, leader_epoch in asked:
            one = found.get((position.topic, position.partition))
            if one is None:  # its topic has been made anew meanwhile
                continue
            if one.error_code == ErrorCode.offset_out_of_range:
                self._on_out_of_range(position, offset)
            elif one.error_code != ErrorCode.none:
                self._on_error(position, one.error_code, one.current_leader)
            elif one.records:
                self._arrived.append(Arrived(position, offset, leader_epoch, one))

    def _on_out_of_range(self, position: Position, offset: int) -> None:
        if position.offset == offset:
            position.offset, position.was, position.find = None, offset, self._reset

    def _on_error(self, position: Position, code: int, hint: Any) -> None:
        if not is_retriable(code):
            raise Violation("client: read", f"{position.key} is answered with error {code}")
        position.not_before = self.client.now() + self.client.backoff_s()
        if code in MOVED and hint is not None:
            self.client.learn_leader(position.topic, position.partition, hint)
        else:
            self.client.refresh()

    def _take_arrived(self) -> list[Poll]:
        """What is still wanted of what has come: read now."""
        polls = []
        while self._arrived:
            position, offset, leader_epoch, one = self._arrived.popleft()
            if self._positions.get(position.key) is not position or position.offset != offset:
                continue
            aborted = [(entry.producer_id, entry.first_offset) for entry in one.aborted_transactions or ()]
            end = one.last_stable_offset if self._isolation else one.high_watermark
            fetched = read_fetched(
                position.key, one.records, offset=offset, epoch=position.epoch, high_watermark=end, aborted=aborted
            )
            position.offset, position.epoch = fetched.next_offset, fetched.epoch
            position.checked_epoch = max(position.checked_epoch, leader_epoch)
            if fetched.records:
                polls.append(Poll(position.key, tuple(fetched.records)))
        return polls


# --- requests


def _by_topic(asked: Asked) -> dict[str, Asked]:
    found: dict[str, Asked] = {}
    for position, leader in asked:
        found.setdefault(position.topic, []).append((position, leader))
    return found


def _offsets_body(asked: Asked, isolation: int) -> dict[str, Any]:
    topics = [
        {
            "name": topic,
            "partitions": [
                {"partition_index": position.partition, "current_leader_epoch": leader.epoch, "timestamp": position.find}
                for position, leader in ones
            ],
        }
        for topic, ones in _by_topic(asked).items()
    ]
    return {"replica_id": CONSUMER, "isolation_level": isolation, "topics": topics}


def _epochs_body(asked: Asked) -> dict[str, Any]:
    topics = [
        {
            "topic": topic,
            "partitions": [
                {"partition": position.partition, "current_leader_epoch": leader.epoch, "leader_epoch": position.epoch}
                for position, leader in ones
            ],
        }
        for topic, ones in _by_topic(asked).items()
    ]
    return {"replica_id": CONSUMER, "topics": topics}


def _fetch_body(
    asked: Asked, known: dict[str, TopicView], wait_ms: int, partition_bytes_max: int, isolation: int
) -> dict[str, Any]:
    topics = [
        {
            "topic_id": known[topic].topic_id,
            "partitions": [
                {
                    "partition": position.partition,
                    "current_leader_epoch": leader.epoch,
                    "fetch_offset": position.offset,
                    "last_fetched_epoch": -1,
                    "log_start_offset": -1,
                    "partition_max_bytes": partition_bytes_max,
                }
                for position, leader in ones
            ],
        }
        for topic, ones in _by_topic(asked).items()
    ]
    return {
        "max_wait_ms": wait_ms,
        "min_bytes": 1,
        "max_bytes": FETCH_BYTES_MAX,
        "isolation_level": isolation,
        "session_id": 0,
        "session_epoch": -1,
        "topics": topics,
    }
