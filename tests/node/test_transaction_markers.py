"""Markers on their way: one call a node at a time with all that waits, and a code for each partition when it is committed."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.host.ports import PeerGone
from quorumlog.node.tasks import Tasks
from quorumlog.node.transaction_markers import COMMIT_TIMEOUT_S, TARGETS_MAX, MarkerSender, MarkerWriter
from quorumlog.node.transaction_messages import MarkerOrder, Target, decode_orders, encode_codes
from quorumlog.node.waits import OffsetWaits
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker
from tests.node.virtual import LoopClock, run, turns

TOPIC, GONE, ELSEWHERE = UUID(int=1), UUID(int=2), UUID(int=3)
OK = ErrorCode.none


def order_of(producer_id: int, *places: tuple[UUID, int]) -> MarkerOrder:
    targets = tuple(Target(topic_id, partition, 4) for topic_id, partition in places)
    return MarkerOrder(Producer(producer_id, 0), Marker(True, 9), is_strict=True, decision=11, targets=targets)


# --- the side of the coordinator


class Desk:
    """Node 1 sends to node 2, which answers when the gate is open."""

    def __init__(self) -> None:
        self.calls: list[list[MarkerOrder]] = []
        self.gate = asyncio.Event()
        self.answer: bytes | Exception | None = None  # None: every marker was written
        self.fatal: list[BaseException] = []
        peers = SimpleNamespace(call=self._call, serve_call=lambda *_: None)
        writer = SimpleNamespace(write=self._write, on_call=None)
        self.sender = MarkerSender(1, cast(MarkerWriter, writer), cast(Any, peers), Tasks(self.fatal.append))

    async def _call(self, node_id: int, _method: str, request: bytes, _timeout_s: float) -> bytes:
        assert node_id == 2
        orders = decode_orders(request)
        self.calls.append(orders)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return encode_codes([0 for order in orders for _ in order.targets]) if self.answer is None else self.answer

    async def _write(self, orders: list[MarkerOrder]) -> list[ErrorCode]:
        return [ErrorCode.unknown_topic_or_partition for order in orders for _ in order.targets]

    def send(self, producer_id: int, count: int = 1, *, node_id: int = 2) -> "asyncio.Task[list[ErrorCode]]":
        order = order_of(producer_id, *((TOPIC, index) for index in range(count)))
        return asyncio.create_task(self.sender.send(node_id, order))


def test_what_waits_goes_in_one_call() -> None:
    """While one call is under way, all others for that node; not more than a call takes."""

    async def script() -> None:
        desk = Desk()
        sent = [desk.send(1, 2)]
        await turns()
        sent += [desk.send(2), desk.send(3), desk.send(4, TARGETS_MAX)]
        await turns()
        assert len(desk.calls) == 1
        desk.gate.set()
        answers = [await one for one in sent]
        assert [len(codes) for codes in answers] == [2, 1, 1, TARGETS_MAX]
        assert [[order.producer.producer_id for order in orders] for orders in desk.calls] == [[1], [2, 3], [4]]
        assert not desk.fatal

    run(script())


BAD_ANSWERS = [PeerGone("away"), b"", b"\x00", encode_codes([0, 0, 0]), encode_codes([12_345] * 2)]


@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=repr)
def test_a_node_that_does_not_answer_is_tried_again_by_who_sends(answer: bytes | Exception) -> None:
    """Whether it is gone or answers with something else; all who wait hear of it, and the next call is a new one."""

    async def script() -> None:
        desk = Desk()
        desk.gate.set()
        desk.answer = answer
        for outcome in await asyncio.gather(desk.send(1), desk.send(2, 1), return_exceptions=True):
            assert isinstance(outcome, PeerGone)
        desk.answer = None
        assert await desk.send(3) == [OK]
        assert not desk.fatal

    run(script())


def test_who_gives_up_does_not_keep_the_others_from_their_answer() -> None:
    async def script() -> None:
        desk = Desk()
        doomed, other = desk.send(1), desk.send(2)
        await turns()
        doomed.cancel()
        await turns()
        desk.gate.set()
        assert await other == [OK]
        assert not desk.fatal

    run(script())


def test_our_own_partitions_need_no_call() -> None:
    async def script() -> None:
        desk = Desk()
        assert await desk.send(1, node_id=1) == [ErrorCode.unknown_topic_or_partition]
        assert desk.calls == []

    run(script())


# --- the side of the leaders


class FakePartition:
    def __init__(self, tp: TopicPartition, refusal: ErrorCode | None) -> None:
        self.tp = tp
        self.high_watermark = self.log_end_offset = 5
        self.markers: list[tuple[int, int]] = []
        self._refusal = refusal

    def append_marker(self, _marker: Marker, *, producer_id: int, decision: int, **_: Any) -> Any:
        if self._refusal is not None:
            raise ClusterError(self._refusal, "no")
        if (producer_id, decision) in self.markers:
            return None
        self.markers.append((producer_id, decision))
        self.log_end_offset += 1
        return SimpleNamespace(base_offset=self.log_end_offset - 1)


class Leader:
    def __init__(self, refusal: ErrorCode | None = None) -> None:
        self.partition = FakePartition(TopicPartition("t", 0), refusal)
        self.offsets = FakePartition(TopicPartition("__consumer_offsets", 0), None)
        self.committed = OffsetWaits()
        self.appended: list[TopicPartition] = []
        self.ended: list[tuple[int, bool]] = []
        replicas = SimpleNamespace(
            by_id={(TOPIC, 0): self.partition, (TOPIC, 1): self.offsets},
            committed=self.committed,
            on_appended=lambda partition, _: self.appended.append(partition.tp),
        )
        cluster = SimpleNamespace(image=SimpleNamespace(topic_names={TOPIC: "t", ELSEWHERE: "elsewhere"}))
        groups = SimpleNamespace(end_transaction=self._end)
        self.writer = MarkerWriter(cast(Any, cluster), cast(Any, replicas), cast(Any, groups), LoopClock(), lambda _: None)

    def _end(self, partition: Any, append: Any, producer_id: int, *, is_commit: bool) -> None:
        append(partition)
        self.ended.append((producer_id, is_commit))

    def commit(self) -> None:
        self.partition.high_watermark = self.partition.log_end_offset
        self.committed.release(self.partition.tp, self.partition.high_watermark)

    def write(self, *places: tuple[UUID, int]) -> "asyncio.Task[list[ErrorCode]]":
        return asyncio.create_task(self.writer.write([order_of(7, *places)]))


def test_a_marker_is_answered_when_it_is_committed() -> None:
    async def script() -> None:
        leader = Leader()
        answer = leader.write((TOPIC, 0))
        await turns()
        assert (leader.partition.markers, leader.appended) == ([(7, 11)], [leader.partition.tp])
        assert not answer.done()
        leader.commit()
        assert await answer == [OK]
        assert await leader.write((TOPIC, 0)) == [OK], "asked for again: it is there"
        assert leader.partition.markers == [(7, 11)]

    run(script())


def test_a_marker_that_is_not_committed_in_time_is_to_be_sent_again() -> None:
    async def script() -> None:
        leader = Leader()
        started = asyncio.get_running_loop().time()
        assert await leader.write((TOPIC, 0)) == [ErrorCode.request_timed_out]
        assert asyncio.get_running_loop().time() - started == COMMIT_TIMEOUT_S
        leader.commit()  # nobody waits any more

    run(script())


def test_each_partition_has_its_own_answer() -> None:
    """One that is not here, of a topic that is or is not; one that refuses; one whose leader leaves meanwhile."""

    async def script() -> None:
        leader = Leader()
        answer = leader.write((GONE, 0), (TOPIC, 0), (ELSEWHERE, 0))
        await turns()
        leader.committed.fail(leader.partition.tp, ClusterError(ErrorCode.not_leader_or_follower, "moved"))
        moved = ErrorCode.not_leader_or_follower
        assert await answer == [ErrorCode.unknown_topic_or_partition, moved, moved]
        refusing = Leader(ErrorCode.transaction_coordinator_fenced)
        assert await refusing.write((TOPIC, 0)) == [ErrorCode.transaction_coordinator_fenced]
        assert refusing.appended == []

    run(script())


def test_a_marker_among_the_offsets_of_groups_is_told_to_their_coordinator() -> None:
    """What was committed in the transaction counts from then on."""

    async def script() -> None:
        leader = Leader()
        answer = leader.write((TOPIC, 1))
        await turns()
        assert (leader.ended, leader.offsets.markers) == ([(7, True)], [(7, 11)])
        answer.cancel()

    run(script())
