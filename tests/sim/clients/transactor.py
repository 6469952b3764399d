"""One instance of a transactional producer, as Java's or librdkafka's: it retries what can be retried, and knows when it is over.

    begin -> write, commit_offsets, in any order -> end: committed, aborted, or unknown

With transactions of version 1 each partition is added before it is written to, and whoever has failed begins anew with the next
epoch; with version 2 partitions are added by being written to, and each end gives the next epoch.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from quorumlog.checker.history import Outcome
from quorumlog.wire.catalogue import PRODUCE
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.records import Record, build_batch
from tests.sim.invariants.sight import Violation

from .client import Client
from .connection import ADD_OFFSETS_TO_TXN, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID, TXN_OFFSET_COMMIT, is_retriable
from .coordinator import GROUP, TRANSACTION, Answer, Coordinator, Unanswered

WALL_START_MS = 1_700_000_000_000
STORE_TIMEOUT_MS = 1_500
OVER_AFTER_S = 8.0  # a step that takes longer fails the transaction
VERSIONS = {
    1: {PRODUCE: 10, ADD_PARTITIONS_TO_TXN: 3, ADD_OFFSETS_TO_TXN: 3, TXN_OFFSET_COMMIT: 3, END_TXN: 3},
    2: {PRODUCE: 12, TXN_OFFSET_COMMIT: 5, END_TXN: 5},
}
OVER = {  # this instance, or this transaction, cannot go on
    ErrorCode.producer_fenced,
    ErrorCode.invalid_producer_epoch,
    ErrorCode.invalid_producer_id_mapping,
    ErrorCode.invalid_txn_state,
    ErrorCode.transaction_abortable,
    ErrorCode.out_of_order_sequence_number,  # of a batch behind one that was given up
    ErrorCode.unknown_producer_id,
}


class Over(Exception):
    """The transaction cannot commit any more."""


class Transactor:
    """Owned by a workload; `close` its client."""

    def __init__(self, client: Client, name: str, version: int, timeout_ms: int) -> None:
        self.client = client
        self.name = name
        self.version = version
        self._versions = VERSIONS[version]
        self._timeout_ms = timeout_ms
        self._coordinator = Coordinator(client, name, key_type=TRANSACTION)
        self._producer: tuple[int, int] | None = None
        self._sequences: dict[tuple[str, int], int] = {}
        self._added: dict[tuple[str, int], None] = {}
        self._has_offsets = False
        self._deadline = 0.0

    async def begin(self) -> None:
        """A transaction. Without a producer id, or after a failure, with the next epoch."""
        while self._producer is None:
            await self._init()
        self._added.clear()
        self._has_offsets = False
        self._deadline = self.client.now() + OVER_AFTER_S

    async def _init(self) -> None:
        body = {
            "transactional_id": self.name,
            "transaction_timeout_ms": self._timeout_ms,
            "producer_id": -1,
            "producer_epoch": -1,
        }
        try:
            answer = await self._coordinator.ask(INIT_PRODUCER_ID, body, extra_s=5.0)
        except Unanswered:
            await self._pause()
            return
        if answer.code == ErrorCode.concurrent_transactions:
            await self._pause()
        elif answer.code == ErrorCode.none:
            self._producer = (answer.body.producer_id, answer.body.producer_epoch)
            self._sequences.clear()
        else:
            raise Violation("client: transaction", f"{self.name}: InitProducerId is answered with error {answer.code}")

    # --- writing

    async def write(self, topic: str, partition: int, values: tuple[str, ...]) -> int:
        """The offset of the first. Raises Over."""
        place = (topic, partition)
        if self.version == 1 and place not in self._added:
            await self._add(place)
        sequence = self._sequences.get(place, 0)
        batch = self._batch(values, sequence)
        while True:
            code, offset = await self._produce(topic, partition, batch)
            if code == ErrorCode.none:
                self._sequences[place] = sequence + len(values)
                return offset
            await self._go_on(code, "Produce")

    async def _add(self, place: tuple[str, int]) -> None:
        topics = [{"name": place[0], "partitions": [place[1]]}]
        body = self._identity("v3_and_below_") | {"v3_and_below_topics": topics}
        await self._until_done(ADD_PARTITIONS_TO_TXN, body, _worst_added)
        self._added[place] = None

    def _batch(self, values: tuple[str, ...], sequence: int) -> bytes:
        assert self._producer is not None
        timestamp = WALL_START_MS + int(self.client.now() * 1000)
        records = [Record(index, timestamp, None, value.encode()) for index, value in enumerate(values)]
        producer_id, epoch = self._producer
        return build_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, is_transactional=True)

    async def _produce(self, topic: str, partition: int, batch: bytes) -> tuple[int, int]:
        leader = self.client.leader(topic, partition)
        if leader is None:
            return ErrorCode.leader_not_available, -1
        body = {
            "transactional_id": self.name,
            "acks": -1,
            "timeout_ms": STORE_TIMEOUT_MS,
            "topic_data": [{"name": topic, "partition_data": [{"index": partition, "records": batch}]}],
        }
        try:
            connection = await self.client.reach(leader.node_id)
            answer = await connection.ask(PRODUCE, body, version=self._versions[PRODUCE], extra_s=4.0)
        except ConnectionError:
            return ErrorCode.network_exception, -1
        produced = answer.responses[0].partition_responses[0]
        if produced.error_code != ErrorCode.none:
            self.client.refresh()
        return produced.error_code, produced.base_offset

    # --- offsets

    async def commit_offsets(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Raises Over."""
        if self.version == 1 and not self._has_offsets:
            await self._until_done(ADD_OFFSETS_TO_TXN, self._identity() | {"group_id": group})
            self._has_offsets = True
        topics: dict[str, list[dict[str, Any]]] = {}
        for (topic, partition), offset in offsets.items():
            one = {"partition_index": partition, "committed_offset": offset, "committed_leader_epoch": -1}
            topics.setdefault(topic, []).append(one | {"committed_metadata": ""})
        body = self._identity() | {
            "group_id": group,
            "generation_id": -1,
            "member_id": "",
            "group_instance_id": None,
            "topics": [{"name": topic, "partitions": partitions} for topic, partitions in topics.items()],
        }
        way = Coordinator(self.client, group, key_type=GROUP)
        await self._until_done(TXN_OFFSET_COMMIT, body, _worst_committed, way=way)

    # --- ending

    async def end(self, *, commit: bool) -> Outcome:
        """OK if the transaction ended so, FAIL if it certainly did not, UNKNOWN if nobody can tell (only of a commit)."""
        is_doubtful = False
        while True:
            body = self._identity() | {"committed": commit}
            try:
                answer = await self._coordinator.ask(END_TXN, body, version=self._versions[END_TXN], extra_s=5.0)
            except Unanswered as error:
                is_doubtful |= error.may_be_done
                await self._pause()
                continue
            if answer.code == ErrorCode.none:
                self._on_ended(answer)
                return Outcome.OK
            if answer.code == ErrorCode.concurrent_transactions:
                is_doubtful = True
                await self._pause()
            elif answer.code in OVER:
                self.forget()
                return Outcome.UNKNOWN if is_doubtful else Outcome.FAIL
            else:
                raise Violation("client: transaction", f"{self.name}: EndTxn is answered with error {answer.code}")

    def _on_ended(self, answer: Answer) -> None:
        if self.version == 2:
            self._producer = (answer.body.producer_id, answer.body.producer_epoch)
            self._sequences.clear()

    def forget(self) -> None:
        """This instance is over; what comes next begins with another epoch."""
        self._producer = None

    # --- inside

    def _identity(self, prefix: str = "") -> dict[str, Any]:
        assert self._producer is not None
        producer_id, epoch = self._producer
        return {
            f"{prefix}transactional_id": self.name,
            f"{prefix}producer_id": producer_id,
            f"{prefix}producer_epoch": epoch,
        }

    async def _until_done(
        self, api_key: int, body: dict[str, Any], code_of: Any = lambda answer: int(answer.error_code), way: Any = None
    ) -> None:
        while True:
            try:
                asked = (way or self._coordinator).ask(
                    api_key, body, code_of=code_of, version=self._versions[api_key], extra_s=4.0
                )
                code = (await asked).code
            except Unanswered:
                code = ErrorCode.network_exception
            if code == ErrorCode.none:
                return
            await self._go_on(code, f"API {api_key}")

    async def _go_on(self, code: int, what: str) -> None:
        """Pause before another try. Raises Over if there is none."""
        if code in OVER or (self.client.now() > self._deadline and _may_pass(code)):
            raise Over(f"{what}: {ErrorCode(code).name}")
        if not _may_pass(code):
            raise Violation("client: transaction", f"{self.name}: {what} is answered with error {code}")
        await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self.client.backoff_s())


def _may_pass(code: int) -> bool:
    return code == ErrorCode.concurrent_transactions or is_retriable(code)


def _worst_added(answer: Struct) -> int:
    codes = [one.partition_error_code for topic in answer.results_by_topic_v3_and_below for one in topic.results_by_partition]
    return max(codes)


def _worst_committed(answer: Struct) -> int:
    return max(one.error_code for topic in answer.topics for one in topic.partitions)
