"""A producer as librdkafka's: batches of a partition go out in order, five at a time, and again until they are answered for good.

    send -> Queue of its partition -> _transmit -> _on_answer -> settled: ok, fail (certainly not stored), unknown

Idempotent: a batch keeps producer id and sequence over all attempts. One that is given up after it had a sequence leaves a gap:
then everything that has a sequence is brought to its end first, and a new producer id begins at 0 again (as librdkafka drains and
asks). A batch of which some attempt may have been stored is never sent under another id: it could be stored twice.

Not idempotent: one attempt. With acks=1 an acknowledgment promises little, so it is written down as unknown.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zlib import crc32

from quorumlog.checker.history import Operation, Outcome, Send
from quorumlog.wire.batches import SEQUENCE_LIMIT
from quorumlog.wire.catalogue import PRODUCE
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.records import Compression, Record, build_batch
from tests.sim.invariants.sight import Violation

from .client import Client
from .connection import INIT_PRODUCER_ID, Connection, is_retriable
from .processes import Slots

IN_FLIGHT_MAX = 5  # of one connection, and so of one partition; what brokers remember of a producer
UNSETTLED_MAX = 10_000  # batches of one producer
LOOK_AGAIN_S = 0.1  # while there is no leader, or no connection to it
STORE_TIMEOUT_MS = 1_500
ID_EXTRA_S = 5.0  # a node may have to wait for a controller first
WALL_START_MS = 1_700_000_000_000
ALL, LEADER = -1, 1

NOT_STORED = {  # said before anything is appended: this attempt left nothing behind
    ErrorCode.not_enough_replicas,
    ErrorCode.out_of_order_sequence_number,
    ErrorCode.message_too_large,
    ErrorCode.record_list_too_large,
    ErrorCode.unknown_producer_id,
}
REFUSED = {ErrorCode.message_too_large, ErrorCode.record_list_too_large}  # and would be again


@dataclass(slots=True, eq=False)
class Batch:
    """What one `send` hands over; one operation of the history."""

    process: int
    values: tuple[str, ...]
    payload_bytes: int
    keys: int
    are_events: bool
    invoked: float
    deadline: float
    sequence: int | None = None
    is_in_flight: bool = False
    is_doubtful: bool = False  # an attempt may have been stored, or may yet be


@dataclass(slots=True, eq=False)
class Queue:
    """The unsettled batches of a partition, in order."""

    topic: str
    partition: int
    batches: list[Batch] = field(default_factory=list)
    next_sequence: int = 0
    acknowledged: int = -1  # the greatest first sequence of a batch that was
    has_gap: bool = False  # a batch with a sequence was given up
    in_flight: int = 0
    connection: Connection | None = None  # that of what is in flight
    not_before: float = 0.0  # after an attempt that failed
    timer: asyncio.TimerHandle | None = None

    @property
    def key(self) -> str:
        return f"{self.topic}-{self.partition}"


class Producer:
    """Owned by a workload. It settles every batch within the delivery timeout and one request's timeout."""

    def __init__(
        self,
        client: Client,
        slots: Slots,
        record: Callable[[Operation], None],
        *,
        is_idempotent: bool = True,
        acks: int = ALL,
        compression: Compression = Compression.NONE,
        delivery_timeout_s: float = 15.0,
        promises: Callable[[str], bool] = lambda topic: True,
    ) -> None:
        """`promises`: whether an acknowledged record of a topic must stay, so that its sends are written down as ok."""
        assert acks == ALL or not is_idempotent
        self.client = client
        self._slots = slots
        self._record = record
        self._is_idempotent = is_idempotent
        self._acks = acks
        self._compression = compression
        self._delivery_timeout_s = delivery_timeout_s
        self._promises = promises
        self._loop = asyncio.get_running_loop()
        self._queues: dict[tuple[str, int], Queue] = {}
        self._unsettled = 0
        self._producer_id: int | None = None
        self._is_asking = False
        self._has_gap = False
        self._settled = asyncio.Event()
        client.on_change = self._serve_all

    # --- for the workload

    def send(
        self,
        topic: str,
        partition: int,
        values: tuple[str, ...],
        *,
        payload_bytes: int = 0,
        keys: int = 0,
        are_events: bool = False,
    ) -> None:
        """One batch. It becomes an operation of the history when it is settled."""
        assert self._unsettled < UNSETTLED_MAX, f"{self._unsettled} batches are unsettled"
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = Queue(topic, partition)
        now = self.client.now()
        deadline = now + self._delivery_timeout_s
        queue.batches.append(Batch(self._slots.lend(), values, payload_bytes, keys, are_events, now, deadline))
        self._unsettled += 1
        self._serve(queue)

    def pending(self) -> str | None:
        """What is unsettled, in words; None if nothing is."""
        for queue in self._queues.values():
            if queue.batches:
                first = queue.batches[0]
                return f"{self.client.name} waits for {first.values[0]!r} to {queue.key}, sent at {first.invoked:.3f} s"
        return None

    async def flush(self) -> None:
        """Wait until everything is settled."""
        while self._unsettled:
            self._settled.clear()
            await self._settled.wait()

    async def close(self) -> None:
        await self.client.close()
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()

    # --- sending

    def _serve_all(self) -> None:
        for queue in self._queues.values():
            if queue.batches:
                self._serve(queue)

    def _serve(self, queue: Queue) -> None:
        """Send what can be sent. What cannot yet is looked at again when something changes, or a little later."""
        self._give_up_overdue(queue)
        connection = self._way_for(queue)
        if connection is not None:
            self._transmit_next(queue, connection)
        if len(queue.batches) > queue.in_flight and queue.timer is None:
            delay_s = max(LOOK_AGAIN_S, queue.not_before - self.client.now())
            queue.timer = self._loop.call_later(delay_s, self._on_timer, queue)

    def _on_timer(self, queue: Queue) -> None:
        queue.timer = None
        if queue.batches:
            self._serve(queue)

    def _way_for(self, queue: Queue) -> Connection | None:
        """The connection that the queue's next batch may take now."""
        if len(queue.batches) == queue.in_flight or self.client.now() < queue.not_before or not self._has_id():
            return None
        leader = self.client.leader(queue.topic, queue.partition)
        if leader is None:
            return None
        connection = self.client.connection(leader.node_id)
        # What is in flight to another leader comes first: its fate decides what has to be sent to this one.
        return connection if not queue.in_flight or queue.connection is connection else None

    def _transmit_next(self, queue: Queue, connection: Connection) -> None:
        for batch in queue.batches:
            if connection.is_lost or connection.unanswered >= IN_FLIGHT_MAX:
                return
            if batch.sequence is None and self._has_gap:
                return
            if not batch.is_in_flight:
                self._transmit(queue, batch, connection)

    def _transmit(self, queue: Queue, batch: Batch, connection: Connection) -> None:
        if self._is_idempotent and batch.sequence is None:
            batch.sequence = queue.next_sequence
            queue.next_sequence = (queue.next_sequence + len(batch.values)) % SEQUENCE_LIMIT
        batch.is_in_flight = True
        queue.in_flight += 1
        queue.connection = connection
        partition_data = [{"index": queue.partition, "records": self._records(batch)}]
        body = {
            "acks": self._acks,
            "timeout_ms": STORE_TIMEOUT_MS,
            "topic_data": [{"name": queue.topic, "partition_data": partition_data}],
        }
        connection.send(PRODUCE, body, partial(self._on_answer, queue, batch))

    def _records(self, batch: Batch) -> bytes:
        timestamp = WALL_START_MS + int(batch.invoked * 1000)
        if batch.keys:
            records = [_keyed(index, timestamp, value, batch) for index, value in enumerate(batch.values)]
        else:
            key = b"k" * batch.payload_bytes if batch.payload_bytes else None
            records = [
                Record(index, timestamp, key, value.encode(), (("event-id", value.encode()),) if batch.are_events else ())
                for index, value in enumerate(batch.values)
            ]
        if batch.sequence is None:
            return build_batch(records, compression=self._compression)
        assert self._producer_id is not None
        return build_batch(
            records,
            compression=self._compression,
            producer_id=self._producer_id,
            producer_epoch=0,
            base_sequence=batch.sequence,
        )

    # --- answers

    def _on_answer(self, queue: Queue, batch: Batch, answer: Struct | None) -> None:
        batch.is_in_flight = False
        queue.in_flight -= 1
        if answer is None:
            self._on_failure(queue, batch, ErrorCode.network_exception)
        else:
            produced = answer.responses[0].partition_responses[0]
            assert (answer.responses[0].name, produced.index) == (queue.topic, queue.partition), (answer, queue)
            self._on_produced(queue, batch, produced)
        self._serve_all()

    def _on_produced(self, queue: Queue, batch: Batch, produced: Any) -> None:
        match produced.error_code:
            case ErrorCode.none:
                queue.acknowledged = max(queue.acknowledged, batch.sequence or 0)
                self._settle(queue, batch, Outcome.OK, produced.base_offset if produced.base_offset >= 0 else None)
            case ErrorCode.duplicate_sequence_number:  # stored by an earlier attempt, too long ago to know where
                self._settle(queue, batch, Outcome.OK, None)
            case ErrorCode.out_of_order_sequence_number | ErrorCode.unknown_producer_id:
                self._on_bad_sequence(queue, batch, produced)
            case code:
                if code in (ErrorCode.not_leader_or_follower, ErrorCode.fenced_leader_epoch):
                    self.client.learn_leader(queue.topic, queue.partition, produced.current_leader)
                self._on_failure(queue, batch, code)

    def _on_failure(self, queue: Queue, batch: Batch, code: int) -> None:
        batch.is_doubtful |= code not in NOT_STORED
        if code in REFUSED or not self._is_idempotent:
            self._give_up(queue, batch)
        elif is_retriable(code):
            queue.not_before = self.client.now() + self.client.backoff_s()
            if code == ErrorCode.unknown_topic_or_partition:
                self.client.refresh()
        else:
            raise Violation("client: produce", f"{queue.key} answered {batch.values[0]!r} with error {code}")

    def _on_bad_sequence(self, queue: Queue, batch: Batch, produced: Any) -> None:
        """Of a batch that others are before, this was to be expected: they come first. With a gap before it, it will never do."""
        if next(one for one in queue.batches if one.sequence is not None) is not batch:
            return
        if batch.sequence is not None and queue.acknowledged > batch.sequence:
            # Later ones were stored and acknowledged since, more than a broker remembers (as Kafka's): it is there, or is not.
            batch.is_doubtful = True
            self._give_up(queue, batch)
            return
        if not queue.has_gap:
            raise Violation(
                "client: sequence",
                f"{queue.key} refused {batch.values[0]!r}, sequence {batch.sequence} of producer {self._producer_id}, though "
                f"all before it were acknowledged: {produced.error_message}",
            )
        if batch.is_doubtful:
            self._give_up(queue, batch)
        else:
            batch.sequence = None  # certainly not stored: it may go under the next producer id

    # --- ends

    def _give_up_overdue(self, queue: Queue) -> None:
        now = self.client.now()
        for batch in [one for one in queue.batches if one.deadline <= now and not one.is_in_flight]:
            self._give_up(queue, batch)

    def _give_up(self, queue: Queue, batch: Batch) -> None:
        if batch.sequence is not None:
            queue.has_gap = self._has_gap = True
        self._settle(queue, batch, Outcome.UNKNOWN if batch.is_doubtful else Outcome.FAIL, None)

    def _settle(self, queue: Queue, batch: Batch, outcome: Outcome, base_offset: int | None) -> None:
        queue.batches.remove(batch)
        self._unsettled -= 1
        if outcome is Outcome.OK and (self._acks != ALL or not self._promises(queue.topic)):
            outcome, base_offset = Outcome.UNKNOWN, None
        if batch.are_events and len(batch.values) > 1:
            base_offset = None  # each was somewhere else perhaps
        steps = tuple(
            Send(queue.key, value, None if base_offset is None else base_offset + index)
            for index, value in enumerate(batch.values)
        )
        self._record(Operation(batch.process, "send", batch.invoked, self.client.now(), outcome, steps))
        if outcome is not Outcome.UNKNOWN:
            self._slots.give_back(batch.process)
        if not self._unsettled:
            self._settled.set()

    # --- producer ids

    def _has_id(self) -> bool:
        """Whether batches can be sent as far as the id goes; sees to it otherwise."""
        if not self._is_idempotent:
            return True
        if self._has_gap and self._is_drained():
            self._has_gap = False
            self._producer_id = None
            for queue in self._queues.values():
                queue.next_sequence, queue.acknowledged, queue.has_gap = 0, -1, False
        if self._producer_id is None and not self._is_asking:
            self._is_asking = True
            self.client.spawn(self._ask_for_id(), "asks for a producer id")
        return self._producer_id is not None

    def _is_drained(self) -> bool:
        return all(batch.sequence is None for queue in self._queues.values() for batch in queue.batches)

    async def _ask_for_id(self) -> None:
        try:
            while self._producer_id is None:
                try:
                    connection = await self.client.reach_any()
                    answer = await connection.ask(INIT_PRODUCER_ID, {"transaction_timeout_ms": 60_000}, extra_s=ID_EXTRA_S)
                except ConnectionError:
                    await asyncio.sleep(self.client.backoff_s())
                    continue
                if answer.error_code == ErrorCode.none:
                    self._producer_id = answer.producer_id
                elif is_retriable(answer.error_code):
                    await asyncio.sleep(self.client.backoff_s())
                else:
                    raise Violation("client: producer id", f"refused with error {answer.error_code}")
        finally:
            self._is_asking = False
        self._serve_all()


def _keyed(index: int, timestamp: int, value: str, batch: Batch) -> Record:
    """Chance by the value, so that a batch that is sent again is the same."""
    chance = crc32(value.encode())
    key = b"" if chance % batch.keys == 0 else b"key %d" % (chance % batch.keys)
    content = value.encode() + b"." * batch.payload_bytes
    return Record(index, timestamp, key, None if chance // batch.keys % 5 == 0 else content)
