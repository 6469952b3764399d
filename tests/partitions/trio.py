"""Three replicas of one partition, a controller that elects from the in-sync set, and a network that delays, drops and cuts.

Positions and acknowledgments reach a leader in any order, late or never. What a leader sends on one stream arrives in order,
until the follower begins another stream. Metadata reaches each node late. Every step checks that nothing committed changed.
"""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorumlog.host.ports import WriteBatch
from quorumlog.metadata.image import NO_LEADER, PartitionState
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.flush import sync_together
from quorumlog.partitions.partition import Diverging, Flush, OutOfRange, Partition, PartitionSettings, Position, Role
from quorumlog.wire.batches import iterate_headers
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.partitions.stage import Host, batch_of, joined, state_of, stored

NODES = (1, 2, 3)
EXPECTED = {
    ErrorCode.not_leader_or_follower,
    ErrorCode.fenced_leader_epoch,
    ErrorCode.unknown_leader_epoch,
    ErrorCode.not_enough_replicas,
    ErrorCode.offset_out_of_range,
}


@dataclass(slots=True)
class Stream:
    """What a leader sends a follower for one begin."""

    number: int
    follower: int
    leader: int
    epoch: int
    next_offset: int = 0
    sent: deque = field(default_factory=deque)


class Node:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.partition: Partition | None = None
        self.flush: Flush | None = None
        self.stream: Stream | None = None  # as follower
        self.serving: dict[int, Stream] = {}  # as leader, by follower
        self.known: PartitionState | None = None
        self.high_watermark_of: dict[int, int] = {}  # by epoch, as leader


class Trio:
    TOPIC: Mapping[str, object] = {}  # other settings of its topic

    def __init__(self, seed: int, *, min_insync_replicas: int = 1, power: bool = True, fsync: bool = True) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        config = TopicConfig(segment_bytes=700, index_interval_bytes=150, min_insync_replicas=min_insync_replicas, **self.TOPIC)
        settings = PartitionSettings(checkpoint_interval_bytes=1000, replica_lag_time_max_s=5.0, fsync=fsync)
        self.power = power
        self.nodes = {n: Node(Host(seed * 10 + n, node_id=n, config=config, settings=settings)) for n in NODES}
        self.state = state_of(leader=1, leader_epoch=1, partition_epoch=1, isr=NODES, replicas=NODES)
        self.committed: dict[int, tuple[int, int, bytes]] = {}
        self.to_leader: list[tuple] = []
        self.to_controller: list[tuple] = []
        self.counter = 0
        self.followers_read = 0  # times that a consumer got records from a follower
        self.events: list[str] = []
        for n in NODES:
            self.start(n)

    # --- faults and the controller

    def start(self, n: int) -> None:
        node = self.nodes[n]
        if node.partition is None:
            node.partition = node.host.open()
            assert node.partition.damage is None, node.partition.damage
            self.learn(n)

    def crash(self, n: int) -> None:
        node = self.nodes[n]
        if node.partition is None:
            return
        power = self.power and self.rng.random() < 0.6
        node.host.crash(power=power)
        node.partition, node.flush, node.stream, node.known = None, None, None, None
        node.serving = {}
        # A dead broker is fenced: it leaves the in-sync set unless it is the last, and leads nothing until it is back.
        isr = tuple(m for m in self.state.isr if m != n) or self.state.isr
        if self.rng.random() < 0.3:
            isr = self.state.isr  # it was back before anybody noticed; its new registration still ends its leadership
        self.elect(isr, self.state.leader if self.state.leader != n else NO_LEADER)

    def elect(self, isr: tuple[int, ...], leader: int) -> None:
        alive = [m for m in isr if self.nodes[m].partition is not None]
        if leader == NO_LEADER and alive:
            leader = self.rng.choice(alive)
        epoch = self.state.leader_epoch + (leader != self.state.leader)
        self.state = replace(
            self.state, isr=isr, leader=leader, leader_epoch=epoch, partition_epoch=self.state.partition_epoch + 1
        )

    def change_leader(self) -> None:
        alive = [m for m in self.state.isr if self.nodes[m].partition is not None]
        if alive:
            leader = self.rng.choice(alive)
            self.state = replace(
                self.state,
                leader=leader,
                leader_epoch=self.state.leader_epoch + 1,
                partition_epoch=self.state.partition_epoch + 1,
            )

    def learn(self, n: int) -> None:
        node = self.nodes[n]
        if node.partition is not None and node.known != self.state:
            node.known = self.state
            if node.partition.apply_state(self.state, self.now):
                node.stream, node.serving = None, {}

    def propose(self, n: int) -> None:
        partition = self.nodes[n].partition
        if partition is not None and (isr := partition.isr_wanted(self.now)) is not None:
            partition.isr_proposed(isr, self.now)
            self.to_controller.append((n, partition, partition.leader_epoch, partition.partition_epoch, isr))

    def decide(self) -> None:
        if not self.to_controller:
            return
        n, asker, epoch, partition_epoch, isr = self.to_controller.pop(self.rng.randrange(len(self.to_controller)))
        fate = self.rng.random()
        if fate < 0.15:
            return  # the question is lost
        is_current = (self.state.leader, self.state.leader_epoch, self.state.partition_epoch) == (n, epoch, partition_epoch)
        if is_current and all(self.nodes[m].partition is not None for m in isr if m not in self.state.isr):
            self.state = replace(self.state, isr=isr, partition_epoch=partition_epoch + 1)
            if fate < 0.6:
                self.learn(n)
        elif fate < 0.8 and self.nodes[n].partition is asker and asker.partition_epoch == partition_epoch:
            asker.isr_refused()

    # --- records

    def produce(self, n: int) -> None:
        partition = self.nodes[n].partition
        if partition is not None:
            self.counter += 1
            batch = batch_of([b"%d from %d" % (self.counter, n)] * self.rng.randint(1, 3) + [b"x" * self.rng.choice([0, 0, 200])])
            self.allow(lambda: partition.append(batch, acks=self.rng.choice([1, -1]), now=self.now, wall_ms=1000))

    def begin_flush(self, n: int) -> None:
        node = self.nodes[n]
        if node.partition is not None and node.flush is None:
            node.flush = node.partition.begin_flush()
            if node.flush is not None:
                sync_together([node.flush])

    def end_flush(self, n: int) -> None:
        node = self.nodes[n]
        if node.flush is None:
            return
        assert node.partition is not None
        batch = WriteBatch()
        node.flush.checkpoint(batch)
        node.host.store.write(batch)
        if self.rng.random() < 0.3:
            node.host.store.sync()
        node.partition.end_flush(node.flush)
        node.flush = None
        self.acknowledge(n)

    def acknowledge(self, n: int) -> None:
        partition, stream = self.nodes[n].partition, self.nodes[n].stream
        if partition is not None and stream is not None and partition.role is Role.FOLLOWER:
            self.to_leader.append(("ack", stream.leader, n, partition.leader_epoch, partition.flushed_offset))

    def begin(self, n: int) -> None:
        """The follower opens a stream to whom it takes for the leader."""
        node = self.nodes[n]
        if node.partition is not None and node.partition.role is Role.FOLLOWER:
            self.counter += 1
            node.stream = Stream(self.counter, n, node.partition.leader_id, node.partition.leader_epoch)
            self.to_leader.append(("begin", node.partition.leader_id, n, node.stream, node.partition.position()))

    def delete_records(self, n: int) -> None:
        partition = self.nodes[n].partition
        if partition is not None and partition.role is Role.LEADER:
            offset = self.rng.randint(partition.log_start_offset, partition.high_watermark)
            self.allow(lambda: partition.delete_records(offset))

    # --- the network

    def deliver_to_leader(self) -> None:
        if not self.to_leader:
            return
        at = self.rng.randrange(min(4, len(self.to_leader)))
        message = self.to_leader[at]
        fate = self.rng.random()
        if fate > 0.05 or message[0] == "begin":  # else it comes twice
            del self.to_leader[at]
        if fate > 0.95:
            return  # lost
        partition = self.nodes[message[1]].partition
        if partition is None:
            return
        match message:
            case ("ack", _, follower, epoch, flushed):
                partition.on_follower_ack(follower, epoch, flushed, self.now)
            case ("begin", leader, follower, stream, position):
                self.allow(lambda: self.on_begin(leader, follower, stream, position))

    def on_begin(self, leader: int, follower: int, stream: Stream, position: Position) -> None:
        node = self.nodes[leader]
        assert node.partition is not None
        match node.partition.on_follower_position(follower, position, self.now):
            case None:
                stream.next_offset = position.fetch_offset
                node.serving[follower] = stream
            case (Diverging() | OutOfRange()) as refusal:
                stream.sent.append((position.leader_epoch, refusal))

    def send(self, n: int) -> None:
        """The leader sends what is new on one of its streams."""
        node = self.nodes[n]
        if node.partition is None or not node.serving:
            return
        stream = node.serving[self.rng.choice(sorted(node.serving))]
        partition = node.partition
        try:
            result = partition.read(stream.next_offset, max_bytes=self.rng.choice([1, 200, 2000]), up_to_end=True)
        except ClusterError as error:
            assert error.code in EXPECTED, error
            if error.code is ErrorCode.offset_out_of_range:
                stream.sent.append((partition.leader_epoch, OutOfRange(partition.log_start_offset)))
            del node.serving[stream.follower]
            return
        stream.next_offset = result.next_offset
        stream.sent.append(
            (partition.leader_epoch, (joined(result.buffers), partition.high_watermark, partition.log_start_offset))
        )

    def receive(self, n: int) -> None:
        node = self.nodes[n]
        if node.partition is None or node.stream is None or not node.stream.sent:
            return
        if self.rng.random() < 0.03:
            node.stream = None  # the connection broke
            node.partition.on_leader_lost()
            return
        epoch, content = node.stream.sent.popleft()
        self.allow(lambda: self.on_sent(n, epoch, content))

    def on_sent(self, n: int, epoch: int, content) -> None:
        partition = self.nodes[n].partition
        assert partition is not None
        match content:
            case Diverging():
                partition.on_diverging(epoch, content)
                self.begin(n)
            case OutOfRange(log_start_offset=start):
                partition.reset_to(epoch, start)
                self.begin(n)
            case (data, high_watermark, log_start_offset):
                partition.apply_fetched(
                    epoch, data, high_watermark=high_watermark, log_start_offset=log_start_offset, wall_ms=1000
                )
                if not partition.dirty:
                    self.acknowledge(n)

    def allow(self, action) -> None:
        """Do it; a refusal for being late is part of life."""
        try:
            action()
        except ClusterError as error:
            assert error.code in EXPECTED, error

    # --- what must hold

    def check(self) -> None:
        for n, node in self.nodes.items():
            if node.partition is not None:
                assert node.partition.damage is None, (n, node.partition.damage)
                self.check_node(n, node)
        self.check_isr()

    def check_node(self, n: int, node: Node) -> None:
        partition = node.partition
        assert partition is not None
        assert partition.high_watermark <= partition.log_end_offset
        assert partition.flushed_offset <= partition.log_end_offset
        if partition.role is Role.LEADER:
            before = node.high_watermark_of.get(partition.leader_epoch, 0)
            assert partition.high_watermark >= before, (n, before, partition.high_watermark)
            node.high_watermark_of[partition.leader_epoch] = partition.high_watermark
            assert partition.high_watermark <= partition.flushed_offset
        for batch in stored(partition, end=partition.high_watermark):
            assert self.committed.setdefault(batch[0], batch) == batch, (n, batch, self.committed[batch[0]])

    def check_readers(self) -> None:
        """A consumer who reads from a follower gets what is committed, or is sent away (KIP-392)."""
        for node in self.nodes.values():
            if node.partition is not None and node.partition.role is Role.FOLLOWER:
                self.check_reader_of(node.partition)

    def check_reader_of(self, partition: Partition) -> None:
        epoch, start = partition.leader_epoch, partition.log_start_offset
        try:
            read = partition.read(start, max_bytes=1 << 20, current_leader_epoch=epoch, from_follower=True)
        except ClusterError as error:
            assert error.code is ErrorCode.not_leader_or_follower, error
            return
        data = joined(read.buffers)
        for position, header in iterate_headers(data):
            batch = header.base_offset, header.leader_epoch, data[position : position + header.size]
            assert self.committed[header.base_offset] == batch, (partition.node_id, batch)
        self.followers_read += bool(data)

    def check_isr(self) -> None:
        """Each member of the in-sync set holds every committed batch that was not deleted."""
        end = max((base for base in self.committed), default=-1)
        for n in self.state.isr:
            partition = self.nodes[n].partition
            if partition is None or end < 0:
                continue
            assert partition.log_end_offset > end, (n, partition.log_end_offset, end, self.state)
            held = {batch[0]: batch for batch in stored(partition)}
            for base, batch in self.committed.items():
                assert base < partition.log_start_offset or held[base] == batch, (n, base)

    # --- the end

    def heal(self) -> None:
        """All faults are over: the replicas must agree, and a record must commit on all three."""
        for n in NODES:
            self.start(n)
        if self.state.leader == NO_LEADER:
            self.elect(self.state.isr, NO_LEADER)
        for _ in range(400):
            self.now += 1.0
            for n in NODES:
                self.learn(n)
                if self.nodes[n].stream is None or not self.is_served(n):
                    self.begin(n)
            while self.to_leader:
                self.deliver_to_leader()
            for n in NODES:
                for _ in range(3):
                    self.send(n)
                while self.nodes[n].stream is not None and self.nodes[n].stream.sent:
                    self.receive(n)
                self.begin_flush(n)
                self.end_flush(n)
                self.acknowledge(n)
                self.propose(n)
            while self.to_controller:
                self.decide()
            self.check()
            if self.is_whole():
                return
        raise AssertionError(f"not whole again: {self.state} {[self.nodes[n].partition.position() for n in NODES]}")

    def is_served(self, n: int) -> bool:
        stream = self.nodes[n].stream
        return stream is not None and self.nodes[stream.leader].serving.get(n) is stream

    def is_whole(self) -> bool:
        partitions = [self.nodes[n].partition for n in NODES]
        ends = {p.log_end_offset for p in partitions} | {p.high_watermark for p in partitions}
        return self.state.isr == NODES and len(ends) == 1


ACTIONS = (
    ["produce"] * 6
    + ["begin_flush"] * 5
    + ["end_flush"] * 5
    + ["begin"] * 3
    + ["send"] * 8
    + ["receive"] * 8
    + ["learn"] * 4
    + ["propose"] * 2
)


def run(seed: int, *, steps: int = 400, kind: type[Trio] | None = None, **options) -> Trio:
    """One history drawn from a seed; raises AssertionError where it breaks a promise."""
    trio = (kind or Trio)(seed, **options)
    rng = trio.rng
    calm = rng.choice([20, 60, 200])
    for _ in range(steps):
        trio.now += rng.choice([0.0, 0.1, 1.0])
        if rng.random() < 1 / calm:
            fault = rng.choice(["crash", "crash", "start", "start", "change_leader", "delete"])
            match fault:
                case "crash":
                    trio.crash(rng.choice(NODES))
                case "start":
                    for n in NODES:
                        trio.start(n)
                    if trio.state.leader == NO_LEADER:
                        trio.elect(trio.state.isr, NO_LEADER)
                case "change_leader":
                    trio.change_leader()
                case "delete":
                    trio.delete_records(rng.choice(NODES))
        elif rng.random() < 0.15:
            trio.deliver_to_leader() if rng.random() < 0.8 else trio.decide()
        else:
            action = rng.choice(ACTIONS)
            getattr(trio, action)(rng.choice(NODES))
            trio.deliver_to_leader()
        trio.check()
        trio.check_readers()
    trio.heal()
    trio.check_readers()
    return trio
