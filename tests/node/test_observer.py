"""How a broker that is no voter follows the metadata log."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from quorumlog.host.ports import PeerStream
from quorumlog.metadata.codec import encode_records
from quorumlog.metadata.machine import MetadataMachine
from quorumlog.metadata.records import ProducerIds, Record
from quorumlog.node import observer
from quorumlog.node.cluster import ClusterView
from quorumlog.node.observer import HEAD, RECORDS, SERVICE, SNAPSHOT, MetadataObserver, MetadataPublisher
from quorumlog.node.tasks import Tasks
from tests.metadata.given import broker_record
from tests.node.virtual import run, turns
from tests.sim.peers import SimNetwork


class Voter:
    """Applies records, and publishes to whoever observes it."""

    def __init__(self, network: SimNetwork, node_id: int) -> None:
        self.cluster = ClusterView("test")
        self.machine = MetadataMachine("test", self.cluster.publish)
        self._publisher = MetadataPublisher(self.cluster, network.peers(node_id))
        self._publisher.start()

    def apply(self, *records: Record) -> None:
        self.machine.apply(self.machine.image.index + 1, 1, encode_records(records))

    @property
    def observers(self) -> int:
        return len(self._publisher._queues)


class Stage:
    """Voters 1 and 2, and node 9, which observes."""

    def __init__(self) -> None:
        self.network = SimNetwork()
        self.voters = {node_id: Voter(self.network, node_id) for node_id in (1, 2)}
        self.images: list[int] = []
        self.fatal: list[BaseException] = []
        self.machine = MetadataMachine("test", lambda image, _records: self.images.append(image.index))
        self.observer = MetadataObserver(self.machine, [1, 2], self.network.peers(9), Tasks(self.fatal.append))

    def apply(self, *records: Record) -> None:
        for voter in self.voters.values():
            voter.apply(*records)

    @property
    def is_same(self) -> bool:
        """The observer's image is the voters'."""
        return self.machine.image == self.voters[2].machine.image


def play(script: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        stage = Stage()
        await script(stage)
        await stage.observer.close()
        await stage.network.stop()

    run(main())


def test_a_snapshot_first_then_each_change() -> None:
    """What was before it came comes whole, what is after one by one, in order."""

    async def script(stage: Stage) -> None:
        stage.apply(broker_record(1, 1))
        stage.apply(broker_record(2, 2))
        stage.observer.start()
        await turns()
        assert (stage.images, stage.is_same) == ([2], True)
        for number in range(3):
            stage.apply(ProducerIds(1000 * (number + 1), 1))
        await turns()
        assert (stage.images, stage.is_same) == ([2, 3, 4, 5], True)
        assert not stage.fatal

    play(script)


def test_a_voter_that_dies_is_left_for_another() -> None:
    """What was missed comes with the next one's snapshot; nothing is applied twice."""

    async def script(stage: Stage) -> None:
        stage.observer.start()
        await turns()
        stage.apply(broker_record(1, 1))
        await turns()
        first = next(node_id for node_id, voter in stage.voters.items() if voter.observers)
        stage.network.kill(first)
        stage.apply(broker_record(2, 2))
        await asyncio.sleep(3)
        stage.apply(broker_record(3, 3))
        await turns()
        assert stage.is_same
        assert stage.images == sorted(set(stage.images))

    play(script)


def test_a_silent_voter_is_given_up() -> None:
    """A sign of life comes at least every second: without any for three, another voter is asked."""

    async def script(stage: Stage) -> None:
        stage.observer.start()
        await asyncio.sleep(30)
        watched = next(node_id for node_id, voter in stage.voters.items() if voter.observers)
        assert stage.voters[watched].observers == 1
        stage.network.cut_both(9, watched)
        await asyncio.sleep(5)
        assert stage.voters[3 - watched].observers == 1

    play(script)


def test_a_voter_that_is_behind_does_not_take_us_back() -> None:
    """It is left for one that knows more."""

    async def script(stage: Stage) -> None:
        stage.apply(broker_record(1, 1))
        stage.observer.start()
        await turns()
        ahead = next(node_id for node_id, voter in stage.voters.items() if voter.observers)
        stage.voters[ahead].apply(broker_record(2, 2))
        await turns()
        assert stage.machine.image.index == 2
        stage.network.break_streams(9, ahead)
        await asyncio.sleep(2)
        assert stage.machine.image.index == 2
        assert stage.voters[ahead].observers == 1

    play(script)


def test_an_observer_that_does_not_keep_up_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded: then the stream ends, and it comes back for a snapshot."""
    monkeypatch.setattr(observer, "QUEUED_CHANGES_MAX", 5)

    async def script(stage: Stage) -> None:
        stage.observer.start()
        await turns()
        for number in range(1, 20):
            stage.apply(ProducerIds(1000 * number, 1))
        await asyncio.sleep(2)
        assert stage.is_same
        assert len(stage.images) < 20

    play(script)


@pytest.mark.parametrize(
    "message",
    [b"", b"\x00" * (HEAD.size - 1), HEAD.pack(7, 100), HEAD.pack(255, 1) + b"x"],
    ids=["empty", "short", "kind", "old"],
)
def test_what_is_no_metadata_is_not_taken(message: bytes) -> None:
    """The stream is left, the node goes on, and a sound voter is found."""

    async def script(stage: Stage) -> None:
        async def babble(stream: PeerStream) -> None:
            await stream.send([message])
            await stream.receive()

        stage.apply(broker_record(1, 1))
        stage.network.find(1).serve_stream(SERVICE, babble)  # type: ignore[union-attr]
        stage.observer.start()
        await asyncio.sleep(3)
        assert stage.is_same
        assert not stage.fatal

    play(script)


@pytest.mark.parametrize("message", [HEAD.pack(RECORDS, 5) + b"\xff\xff", HEAD.pack(SNAPSHOT, 5) + b"\xff\xff"])
def test_a_corrupt_log_stops_the_node(message: bytes) -> None:
    """Records that this version cannot read must not be passed over: what it would serve by is not what was decided."""

    async def script(stage: Stage) -> None:
        async def babble(stream: PeerStream) -> None:
            await stream.send([message])
            await stream.receive()

        for node_id in (1, 2):
            stage.network.find(node_id).serve_stream(SERVICE, babble)  # type: ignore[union-attr]
        stage.observer.start()
        await asyncio.sleep(1)
        assert [type(error).__name__ for error in stage.fatal] == ["CorruptRecord"]

    play(script)
