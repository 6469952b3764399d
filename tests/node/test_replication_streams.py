"""Two nodes replicate over a stream in memory, with their real logs; and what either does when the other talks nonsense."""

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.host.ports import PeerGone, PeerStream
from quorumlog.host.worker import ThreadWorker
from quorumlog.metadata.image import Broker, Endpoint, Image, PartitionState, Topic
from quorumlog.node import replication_leader
from quorumlog.node.cluster import ClusterView
from quorumlog.node.replicas import Replicas
from quorumlog.node.replication_follower import SERVICE, FollowerSide
from quorumlog.node.replication_leader import LITTLE_BYTES, LeaderSide
from quorumlog.node.suspects import Suspects
from quorumlog.node.tasks import Tasks
from quorumlog.partitions.partition import Partition, PartitionSettings
from quorumlog.proto.replication_pb2 import FollowerMessage, LeaderMessage
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.records import Record, build_batch
from tests.sim.clock import SimClock
from tests.sim.disk import SimDisk
from tests.sim.peers import SimNetwork
from tests.sim.store import SimStore

TOPIC_ID = UUID(int=7)
TP = TopicPartition("orders", 0)
PLACE = Endpoint("localhost", 9092)
LEADER, FOLLOWER = 1, 2


class Node:
    """The part of a node that replicates."""

    def __init__(self, network: SimNetwork, node_id: int) -> None:
        rng, clock = random.Random(node_id), SimClock()
        self.node_id = node_id
        self.fatal: list[BaseException] = []
        self.tasks = Tasks(self.fatal.append)
        self.replicas = Replicas(
            node_id=node_id, disk=SimDisk(rng), store=SimStore(rng), clock=clock,
            flush_worker=ThreadWorker("flusher"), settings=PartitionSettings(),
            broker_defaults={"min.insync.replicas": "2"}, incarnation_id=UUID(int=node_id), tasks=self.tasks,
        )  # fmt: skip
        peers = network.peers(node_id)
        self.leader_side = LeaderSide(self.replicas, clock=clock, message_bytes=4096)
        suspects = Suspects(ClusterView("c"), peers)
        self.follower_side = FollowerSide(self.replicas, peers, suspects, clock, self.tasks, ping_s=0.01)
        self.replicas.followers, self.replicas.leaders = self.leader_side, self.follower_side
        peers.serve_stream(SERVICE, self.leader_side.serve)

    @property
    def partition(self) -> Partition:
        return self.replicas.partitions[TP]

    async def close(self) -> None:
        await self.follower_side.close()
        await self.replicas.close()
        await self.tasks.close()


def image_of(*, leader: int = LEADER, epoch: int = 0) -> Image:
    """Both nodes hold the one partition, in sync."""
    brokers = {node: Broker(node, node, UUID(int=node), UUID(int=20), PLACE, PLACE, None, False, False) for node in (1, 2)}
    state = PartitionState(TOPIC_ID, 0, (1, 2), (1, 2), (), leader, epoch, partition_epoch=epoch)
    return Image(
        "c",
        index=epoch + 1,
        brokers=Map(brokers),
        topics=Map({"orders": Topic("orders", TOPIC_ID, Map({0: state}))}),
        topic_names=Map({TOPIC_ID: "orders"}),
    )


class Stage:
    def __init__(self) -> None:
        self.network = SimNetwork()
        self.nodes = {node_id: Node(self.network, node_id) for node_id in (LEADER, FOLLOWER)}
        self.leader, self.follower = self.nodes[LEADER], self.nodes[FOLLOWER]

    def show(self, image: Image, *node_ids: int) -> None:
        for node_id in node_ids or self.nodes:
            self.nodes[node_id].replicas.on_image(Image("c"), image, None)

    def append(self, *values: bytes, at: int = LEADER) -> int:
        """The end of the log behind them."""
        replicas = self.nodes[at].replicas
        batch = build_batch([Record(offset=index, value=value) for index, value in enumerate(values)])
        appended = replicas.partitions[TP].append(batch, acks=-1, now=0.0, wall_ms=1_700_000_000_000)
        replicas.on_appended(replicas.partitions[TP], [appended])
        return appended.last_offset + 1

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(2500):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise TimeoutError("not within 5 s")


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        try:
            await script(stage)
        finally:
            for node in stage.nodes.values():
                await node.close()
            await stage.network.stop()
        assert [node.fatal for node in stage.nodes.values()] == [[], []]

    asyncio.run(main())


def content(partition: Partition) -> bytes:
    """All batches of the log."""
    found = bytearray()
    while partition.log_start_offset + (offset := _next_offset(found)) < partition.log_end_offset:
        buffers, _, _ = partition._log.read(offset, limit=partition.log_end_offset, max_bytes=1 << 20)
        found += b"".join(buffers)
    return bytes(found)


def _next_offset(batches: bytearray) -> int:
    """Behind the last of whole batches."""
    position = offset = 0
    while position < len(batches):
        base, length = struct.unpack_from(">qi", batches, position)
        offset = base + struct.unpack_from(">i", batches, position + 23)[0] + 1
        position += 12 + length
    return offset


def test_records_reach_the_follower_and_are_committed() -> None:
    """Both logs are the same bytes, both know what is committed, however many messages it took."""

    async def script(stage: Stage) -> None:
        stage.show(image_of())
        for turn in range(30):
            end = stage.append(b"x" * 500, b"%d" % turn)
        await stage.until(lambda: stage.leader.partition.high_watermark == end == 60)
        await stage.until(lambda: stage.follower.partition.high_watermark == end)
        assert content(stage.leader.partition) == content(stage.follower.partition)

    play(script)


def test_nothing_is_committed_while_the_link_is_cut() -> None:
    """When it is healed, or the stream comes anew, the rest follows from where it stood."""

    async def script(stage: Stage) -> None:
        stage.show(image_of())
        first = stage.append(b"one")
        await stage.until(lambda: stage.leader.partition.high_watermark == first)
        stage.network.cut_both(LEADER, FOLLOWER)
        second = stage.append(b"two", b"three")
        await asyncio.sleep(0.1)
        assert stage.leader.partition.high_watermark == first
        stage.network.break_streams(LEADER, FOLLOWER)
        stage.network.heal()
        await stage.until(lambda: stage.leader.partition.high_watermark == second)
        assert content(stage.leader.partition) == content(stage.follower.partition)

    play(script)


def test_the_new_leader_has_the_last_word() -> None:
    """What the old one wrote alone is cut, and both go on with the new one's log."""

    async def script(stage: Stage) -> None:
        stage.show(image_of())
        common = stage.append(b"common")
        await stage.until(lambda: stage.follower.partition.high_watermark == common)
        stage.network.cut_both(LEADER, FOLLOWER)
        stage.append(b"never committed", b"nor this")
        stage.show(image_of(leader=FOLLOWER, epoch=1), FOLLOWER)
        end = stage.append(b"the new word", at=FOLLOWER)
        stage.network.break_streams(LEADER, FOLLOWER)
        stage.network.heal()
        stage.show(image_of(leader=FOLLOWER, epoch=1), LEADER)
        await stage.until(lambda: stage.follower.partition.high_watermark == end)
        assert content(stage.leader.partition) == content(stage.follower.partition)
        assert stage.leader.partition.log_end_offset == end == 2

    play(script)


# --- what is little goes together


@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_little_waits_for_company_until_the_follower_has_answered(is_acknowledged: bool) -> None:
    """What comes after the first record goes in one message: with the acknowledgment, or soon enough without."""

    async def script(stage: Stage) -> None:
        stage.show(image_of(), LEADER)
        stream = await stage.network.find(FOLLOWER).connect(LEADER, SERVICE, 1.0)  # type: ignore[union-attr]
        await stream.send([begin()])
        first = stage.append(b"first")
        while not (sent := sections_of(await stream.receive())[0].size):
            pass  # marks alone
        for _ in range(5):
            stage.append(b"company")
            await asyncio.sleep(0)
        if is_acknowledged:
            answer = FollowerMessage()
            answer.acknowledgments.add(handle=5, leader_epoch=0, flushed_offset=first)
            await stream.send([answer.SerializeToString()])
        (together,) = sections_of(await stream.receive())
        assert together.size >= 5 * sent
        await stream.close()

    play(script)


def test_much_waits_for_nobody() -> None:
    """Bulk goes while the follower still syncs what came before."""

    async def script(stage: Stage) -> None:
        stage.show(image_of(), LEADER)
        stream = await stage.network.find(FOLLOWER).connect(LEADER, SERVICE, 1.0)  # type: ignore[union-attr]
        await stream.send([begin()])
        with patch.object(replication_leader, "LITTLE_WAITS_S", 60.0):
            for _ in range(3):
                stage.append(b"x" * LITTLE_BYTES)
                async with asyncio.timeout(5):
                    while sections_of(await stream.receive())[0].size < LITTLE_BYTES:
                        pass
        await stream.close()

    play(script)


# --- nonsense from a follower


def begin(**how: Any) -> bytes:
    message = FollowerMessage()
    told = {"handle": 5, "topic_id": TOPIC_ID.bytes, "partition": 0, "leader_epoch": 0, "fetch_offset": 0, "last_epoch": -1}
    message.begins.add(**(told | how))
    return message.SerializeToString()


def sections_of(data: bytes) -> list[Any]:
    message = LeaderMessage()
    message.ParseFromString(data[4 : 4 + struct.unpack_from(">I", data)[0]])
    return list(message.sections)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"topic_id": b"short"}, ErrorCode.invalid_request),
        ({"topic_id": b""}, ErrorCode.invalid_request),
        ({"topic_id": UUID(int=99).bytes}, ErrorCode.not_leader_or_follower),
        ({"partition": -1}, ErrorCode.not_leader_or_follower),
        ({"leader_epoch": 7}, ErrorCode.unknown_leader_epoch),
        ({"leader_epoch": -9}, ErrorCode.fenced_leader_epoch),
        ({"flushed_offset": 10}, ErrorCode.invalid_request),
        ({"flushed_offset": -5}, ErrorCode.invalid_request),
    ],
)
def test_a_beginning_that_cannot_be_is_refused(how: dict[str, Any], code: ErrorCode) -> None:
    """By its handle, with a code; the stream goes on, and a right one is served on it."""

    async def script(stage: Stage) -> None:
        stage.show(image_of(), LEADER)
        stage.append(b"x")
        stream = await stage.network.find(FOLLOWER).connect(LEADER, SERVICE, 1.0)  # type: ignore[union-attr]
        await stream.send([begin(**how)])
        (refusal,) = sections_of(await stream.receive())
        assert (refusal.handle, refusal.error_code) == (5, code)
        await stream.send([begin(handle=6)])
        (section,) = sections_of(await stream.receive())
        assert (section.handle, section.size > 0) == (6, True)
        await stream.close()

    play(script)


def test_strange_bytes_of_a_follower_end_its_stream() -> None:
    """Only that one; what it acknowledges of what it does not follow counts for nothing."""

    async def script(stage: Stage) -> None:
        stage.show(image_of(), LEADER)
        stage.append(b"x")
        peers = stage.network.find(FOLLOWER)
        assert peers is not None
        chance = random.Random(4)
        for _ in range(20):
            stream = await peers.connect(LEADER, SERVICE, 1.0)
            await stream.send([b"\xff" + chance.randbytes(chance.randrange(1, 60))])
            with pytest.raises(PeerGone):
                while True:
                    await stream.receive()
        message = FollowerMessage(ends=[1, 2, 3])
        message.acknowledgments.add(handle=5, leader_epoch=0, flushed_offset=100)
        stream = await peers.connect(LEADER, SERVICE, 1.0)
        await stream.send([message.SerializeToString()])
        await asyncio.sleep(0.05)
        assert stage.leader.partition.high_watermark == 0
        await stream.close()

    play(script)


# --- nonsense from a leader


def section(**how: Any) -> bytes:
    message = LeaderMessage()
    records: bytes = how.pop("records", b"")
    refusal = how.pop("diverging", None)
    one = message.sections.add(**({"handle": 0, "leader_epoch": 0, "size": len(records)} | how))
    if refusal is not None:
        one.diverging.epoch, one.diverging.end_offset = refusal
    header: bytes = message.SerializeToString()
    return struct.pack(">I", len(header)) + header + records


GOOD = build_batch([Record(value=b"x")], leader_epoch=0)
NONSENSE = {
    "nothing": b"",
    "a length beyond the end": b"\x7f\xff\xff\xff",
    "no header": struct.pack(">I", 5) + b"\xff" * 5,
    "an unknown code": section(error_code=12345),
    "another's handle": section(handle=77, records=GOOD),
    "another epoch": section(leader_epoch=9, records=GOOD),
    "records that are none": section(records=b"\x00" * 100),
    "a broken checksum": section(records=GOOD[:-1] + b"?"),
    "a gap": section(records=build_batch([Record(offset=50, value=b"x")], leader_epoch=0)),
    "records of a later epoch": section(records=build_batch([Record(value=b"x")], leader_epoch=3)),
    "a watermark beyond all": section(high_watermark=2**62),
    "a start beyond all": section(log_start_offset=2**62, high_watermark=2**62),
    "negative marks": section(high_watermark=-5, log_start_offset=-9),
    "divergence beyond all": section(diverging=(2**31 - 1, 2**62)),
}


def test_every_beginning_has_a_handle_of_its_own() -> None:
    """What the leader sent for the last one may still come: under the same handle it would be taken for this one's."""

    async def script(stage: Stage) -> None:
        stage.show(image_of())
        await stage.until(lambda: bool(stage.follower.follower_side._fetchers[LEADER]._partitions))
        fetcher = stage.follower.follower_side._fetchers[LEADER]
        message = FollowerMessage()
        for _ in range(2):
            fetcher._add_begin(message, stage.follower.partition)
        assert len({begin.handle for begin in message.begins}) == 2
        assert fetcher._partitions == {message.begins[1].handle: stage.follower.partition}

    play(script)


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_of_a_leader_changes_nothing(nonsense: str) -> None:
    """The follower asks again, and takes what is sound when it comes."""

    async def script(stage: Stage) -> None:
        asked: list[bytes] = []

        async def babble(stream: PeerStream) -> None:
            asked.append(await stream.receive())
            await stream.send([NONSENSE[nonsense]])
            while True:
                asked.append(await stream.receive())

        leaders_peers = stage.network.find(LEADER)
        assert leaders_peers is not None
        leaders_peers.serve_stream(SERVICE, babble)
        stage.show(image_of(), FOLLOWER)
        await stage.until(lambda: len(asked) >= 3)
        held = stage.follower.partition
        assert (held.log_start_offset, held.log_end_offset, held.high_watermark, held.damage) == (0, 0, 0, None)
        leaders_peers.serve_stream(SERVICE, stage.leader.leader_side.serve)
        stage.show(image_of(), LEADER)
        end = stage.append(b"sound")
        stage.network.break_streams(LEADER, FOLLOWER)
        await stage.until(lambda: stage.leader.partition.high_watermark == end)
        assert content(held) == content(stage.leader.partition)

    play(script)
