"""Any history of deaths, restarts, lost disks, in-sync sets, moves and topics keeps what was committed.

Each partition's replicas are modelled as lists of record numbers, and the high watermark goes over flushed records of the
in-sync set, only while that has `min.insync.replicas` members. Whoever is elected must hold all that was committed, unless it
was elected uncleanly on purpose.
"""

from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from quorumlog.metadata.codec import decode_records, encode_records
from quorumlog.metadata.controller import Controller, ControllerConfig, Decision
from quorumlog.metadata.image import NO_LEADER, Endpoint, Image, PartitionState
from quorumlog.metadata.machine import MetadataMachine, dump_image, load_image
from quorumlog.metadata.records import ResourceKind
from quorumlog.metadata.requests import (
    AllocateProducerIds,
    AllocateProducerIdsReply,
    AlterConfigs,
    AlterIsr,
    AlterIsrReply,
    AlterReassignments,
    BrokerHeartbeat,
    ConfigChange,
    ConfigOperation,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    ElectLeaders,
    IsrProposal,
    NewPartitions,
    NewTopic,
    Reassignment,
    RegisterBroker,
    ReportDamage,
    ReportDamageReply,
    Request,
    ResourceChanges,
    TopicReference,
    UnregisterBroker,
)
from quorumlog.metadata.topic_config import effective_min_isr
from quorumlog.wire.errors import ClusterError, ErrorCode

from .given import uuid

NODES = st.integers(1, 4)
TOPICS = st.sampled_from(["a", "b"])
Key = tuple[Any, int]
Log = list[int]


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.numbers = count(1)
        self.disks: dict[int, int] = {}  # node -> storage number
        self.incarnations: dict[int, int] = {}
        self.running: set[int] = set()
        self.logs: dict[tuple[Key, int], Log] = {}  # (partition, storage number) -> flushed records
        self.committed: dict[Key, Log] = {}
        self.incomplete: set[Key] = set()  # a disk or a replica was lost, so nobody may be left who is complete
        self.producer_ids = 0
        self.machine = MetadataMachine("test", lambda image, records: None)
        self.controller = self.new_controller()

    def new_controller(self) -> Controller:
        config = ControllerConfig(broker_defaults={"min.insync.replicas": "2", "default.replication.factor": "3"})
        return Controller(self.machine.image, now=self.now, config=config, new_uuid=lambda: uuid(0x9000 + next(self.numbers)))

    # --- one decision: the controller's image, the log's and a snapshot's are the same

    def take(self, decision: Decision) -> None:
        before = self.machine.image
        command = encode_records(decision.records)
        assert decode_records(command) == decision.records
        self.machine.apply(before.index + 1, 1, command)
        image = self.machine.image
        assert dump_image(load_image(dump_image(image))) == dump_image(image)
        self.compare_with_controller(image)
        for key, state in partitions(image).items():
            self.check_step(partitions(before).get(key), state)

    def compare_with_controller(self, image: Image) -> None:
        ours = self.controller.image
        assert (ours.brokers, ours.topics, ours.topic_names) == (image.brokers, image.topics, image.topic_names)
        assert (ours.topic_configs, ours.broker_configs) == (image.topic_configs, image.broker_configs)
        assert (ours.next_producer_id, ours.next_broker_epoch) == (image.next_producer_id, image.next_broker_epoch)

    def check_step(self, old: PartitionState | None, new: PartitionState) -> None:
        key = (new.topic_id, new.partition)
        if old is None:
            self.committed[key] = []
            return
        assert (new.partition_epoch > old.partition_epoch) == (new != old)
        gone = set(old.replicas) - set(new.replicas)
        assert (new.leader_epoch > old.leader_epoch) == (new.leader != old.leader or bool(gone))
        if not self.is_reassigning:
            assert new.replicas in (old.replicas, old.target), (old, new)
        for node in gone & self.running:  # who is down keeps its files, and may come back with them
            self.log(key, node).clear()
        has_come_in = bool(gone) and not self.is_reassigning and set(new.isr) == set(old.target)  # with the end of a move
        if new.leader not in (old.leader, NO_LEADER, *old.isr, *old.elr) and not has_come_in:
            assert self.unclean_allowed, (old, new)
            held = self.log(key, new.leader)
            self.committed[key] = self.committed[key][: common_length(held, self.committed[key])]

    unclean_allowed = False
    is_reassigning = False

    def ask(self, request: Request) -> Decision | None:
        try:
            decision = self.controller.decide(request, self.now)
        except ClusterError:
            return None
        self.take(decision)
        return decision

    def log(self, key: Key, node: int) -> Log:
        return self.logs.setdefault((key, self.disks[node]), [])

    def epoch(self, node: int) -> int:
        broker = self.controller.image.brokers.get(node)
        return broker.broker_epoch if broker is not None else -1

    # --- brokers

    @initialize()
    def begin(self) -> None:
        for node in (1, 2, 3):
            self.come_back(node, ready=True)
        self.ask(CreateTopics((NewTopic("a", 1, 3), NewTopic("b", 1, 2))))

    @rule(node=NODES, ready=st.sampled_from([True, True, True, False]))
    def come_back(self, node: int, ready: bool) -> None:
        """Start, or restart after a crash that nobody saw; then catch up, or stay fenced for now."""
        self.disks.setdefault(node, next(self.numbers))
        storage, incarnation = uuid(self.disks[node]), uuid(next(self.numbers))
        known = self.controller.image.brokers.get(node)
        if known is None or known.storage_id != storage:
            self.incomplete |= {key for key, state in partitions(self.controller.image).items() if node in state.replicas}
        address = Endpoint("localhost", 1)
        if self.ask(RegisterBroker(node, incarnation, storage, address, address)) is not None:
            self.running.add(node)
            assert not self.controller.image.is_live(node)
        if ready:
            self.heartbeat(node, want_shutdown=False)

    @rule(node=NODES, fresh_disk=st.sampled_from([False, False, True]), noticed=st.sampled_from([True, True, False]))
    def die(self, node: int, fresh_disk: bool, noticed: bool) -> None:
        """The process dies, by whatever cause, which may be its disk's end; the controller notices by the dropped connection."""
        self.running.discard(node)
        if fresh_disk:
            self.disks[node] = next(self.numbers)
        if noticed:
            self.take(self.controller.on_process_gone(node, self.now))

    @rule(node=NODES, want_shutdown=st.sampled_from([False, False, False, True]))
    def heartbeat(self, node: int, want_shutdown: bool) -> None:
        if node in self.running:
            self.ask(BrokerHeartbeat(node, self.epoch(node), caught_up=True, want_shutdown=want_shutdown))

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 400.0]))
    def let_time_pass(self, seconds: float) -> None:
        """Running brokers go on with their heartbeats; the dead ones' sessions end."""
        end = self.now + seconds
        for _ in range(8):
            self.now = min(end, max(self.now + 0.001, self.controller.next_deadline()))
            self.take(self.controller.tick(self.now))
            for node in sorted(self.running):
                self.heartbeat(node, want_shutdown=False)
        self.now = end

    @rule()
    def change_controllers(self) -> None:
        """Another node leads the quorum: it begins with the committed image, here from a snapshot."""
        self.machine.restore(self.machine.image.index, self.machine.dump())
        self.controller = self.new_controller()

    # --- topics and settings

    @rule(name=st.sampled_from(["", "a", "b"]), value=st.sampled_from(["1", "2", "3"]))
    def alter_min_isr(self, name: str, value: str) -> None:
        kind = ResourceKind.TOPIC if name else ResourceKind.BROKER
        change = ConfigChange("min.insync.replicas", ConfigOperation.SET, value)
        self.ask(AlterConfigs((ResourceChanges(kind, name, (change,)),)))

    @rule(data=st.data())
    def administer(self, data: st.DataObject) -> None:
        """What operators do now and then; one rule, so that it does not crowd out the rest."""
        deed = data.draw(
            st.sampled_from(
                [self.unregister, self.create_topic, self.grow_topic, self.delete_topic, self.elect, self.allocate_producer_ids]
            )
        )
        deed(data)

    def unregister(self, data: st.DataObject) -> None:
        node = data.draw(NODES)
        if node not in self.running:
            self.ask(UnregisterBroker(node))

    def create_topic(self, data: st.DataObject) -> None:
        self.ask(CreateTopics((NewTopic(data.draw(TOPICS), 1, data.draw(st.integers(1, 4))),)))

    def grow_topic(self, data: st.DataObject) -> None:
        self.ask(CreatePartitions((NewPartitions(data.draw(TOPICS), 2),)))

    def delete_topic(self, data: st.DataObject) -> None:
        self.ask(DeleteTopics((TopicReference("b"),)))

    def elect(self, data: st.DataObject) -> None:
        preferred = data.draw(st.booleans())
        self.unclean_allowed = not preferred
        self.ask(ElectLeaders(preferred))
        self.unclean_allowed = False

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """Begin a move, replace one, or (to nowhere) take one back."""
        image = self.controller.image
        name, key = data.draw(st.sampled_from([(name, key) for key, name in sorted(names(image).items(), key=str)]))
        target = data.draw(st.none() | st.lists(NODES, min_size=1, max_size=4, unique=True).map(tuple))
        self.is_reassigning = True
        self.ask(AlterReassignments((Reassignment(name, key[1], target),)))
        self.is_reassigning = False
        state = partitions(self.controller.image)[key]
        if target is None:
            assert not state.is_moving or state == partitions(image)[key], "cancelled, or refused"
        elif set(target) <= set(image.brokers):
            assert state.target == target

    def allocate_producer_ids(self, data: st.DataObject) -> None:
        node = data.draw(NODES)
        decision = self.ask(AllocateProducerIds(node, self.epoch(node)))
        if decision is not None:
            assert isinstance(decision.reply, AllocateProducerIdsReply)
            assert decision.reply.first == self.producer_ids
            self.producer_ids += decision.reply.count

    # --- replication

    def led(self) -> list[tuple[str, PartitionState]]:
        """What is led by a process that runs."""
        image = self.controller.image
        return [
            (name, topic.partitions[index])
            for name, topic in sorted(image.topics.items())
            for index in sorted(topic.partitions)
            if topic.partitions[index].leader in self.running
        ]

    def somebody_leads(self) -> bool:
        return bool(self.led())

    def can_follow(self, node: int) -> bool:
        return node in self.running and self.controller.image.is_live(node)

    @rule(lagging=st.sampled_from([0, 0, 1, 2, 3]))
    def produce(self, lagging: int) -> None:
        """Each leader writes a record, live followers copy its whole log (but for one, perhaps), the high watermark moves."""
        for name, state in self.led():
            key = (state.topic_id, state.partition)
            leader_log = self.log(key, state.leader)
            leader_log.append(next(self.numbers))
            for follower in state.replicas:
                if self.can_follow(follower) and follower != lagging:
                    self.log(key, follower)[:] = leader_log
            self.commit(name, state)

    def commit(self, name: str, state: PartitionState) -> None:
        if len(state.isr) < effective_min_isr(self.controller.image, name, len(state.original), {}):
            return
        key = (state.topic_id, state.partition)
        leader_log = self.log(key, state.leader)
        high_watermark = min(common_length(leader_log, self.log(key, member)) for member in state.isr)
        if high_watermark > len(self.committed[key]):
            self.committed[key] = leader_log[:high_watermark]

    @rule(dropped=st.sampled_from([0, 0, 1, 2, 3]))
    def change_isr(self, dropped: int) -> None:
        """Each leader takes in the live followers, who copy its log, and drops one that it finds slow, perhaps."""
        for _, state in self.led():
            key = (state.topic_id, state.partition)
            members = {state.leader}
            for follower in state.replicas:
                if follower == dropped or follower == state.leader:
                    continue
                if self.can_follow(follower) and not self.controller.image.brokers[follower].in_shutdown:
                    self.log(key, follower)[:] = self.log(key, state.leader)
                    members.add(follower)
                elif follower in state.isr:
                    members.add(follower)
            self.propose(state, tuple(sorted(members)))

    def propose(self, state: PartitionState, members: tuple[int, ...]) -> None:
        asked = IsrProposal(
            topic_id=state.topic_id,
            partition=state.partition,
            leader_epoch=state.leader_epoch,
            partition_epoch=state.partition_epoch,
            new_isr=members,
            broker_epochs=tuple(self.epoch(member) for member in members),
        )
        decision = self.ask(AlterIsr(state.leader, self.epoch(state.leader), (asked,)))
        assert decision is not None and isinstance(decision.reply, AlterIsrReply)
        (result,) = decision.reply.partitions
        assert result.error_code is ErrorCode.none and result.state is not None, result
        assert result.state.isr in (members, tuple(sorted(state.target)))

    @precondition(somebody_leads)
    @rule(data=st.data())
    def find_damage(self, data: st.DataObject) -> None:
        """A replica that is allowed to refetch throws its records away."""
        _, state = data.draw(st.sampled_from(self.led()))
        node = data.draw(st.sampled_from(state.replicas))
        if node not in self.running:
            return
        decision = self.ask(ReportDamage(node, self.epoch(node), state.topic_id, state.partition))
        if decision is not None:
            assert isinstance(decision.reply, ReportDamageReply)
            if decision.reply.excluded:
                self.log((state.topic_id, state.partition), node).clear()
                self.incomplete.add((state.topic_id, state.partition))

    # --- what always holds

    @invariant()
    def leaders_are_live_members(self) -> None:
        image = self.controller.image
        for state in partitions(image).values():
            assert set(state.isr) | set(state.elr) <= set(state.replicas) and not set(state.isr) & set(state.elr)
            if state.leader != NO_LEADER:
                assert state.leader in state.isr and image.is_live(state.leader), state
                assert not image.brokers[state.leader].in_shutdown

    @invariant()
    def a_leader_is_there_if_one_can_be(self) -> None:
        image = self.controller.image
        for state in partitions(image).values():
            able = [n for n in (*state.isr, *state.elr) if image.is_live(n) and not image.brokers[n].in_shutdown]
            assert (state.leader != NO_LEADER) == bool(able), state

    @invariant()
    def somebody_complete_is_known(self) -> None:
        for key, state in partitions(self.controller.image).items():
            assert state.isr or state.elr or key in self.incomplete, state

    @invariant()
    def eligible_only_under_min_isr(self) -> None:
        image = self.controller.image
        for name, topic in image.topics.items():
            for state in topic.partitions.values():
                assert not state.elr or len(state.isr) < max(1, effective_min_isr(image, name, len(state.original), {})), state

    @invariant()
    def a_move_ends_when_it_can(self) -> None:
        for state in partitions(self.controller.image).values():
            assert not state.is_moving or not set(state.target) <= set(state.isr), state

    @invariant()
    def the_complete_hold_all_that_is_committed(self) -> None:
        """The reason for all the rest. Members whose disk was replaced, but who have not come back yet, are not counted."""
        image = self.controller.image
        for key, state in partitions(image).items():
            for node in (*state.isr, *state.elr):
                broker = image.brokers.get(node)
                if broker is None or broker.storage_id != uuid(self.disks[node]):
                    continue
                assert self.log(key, node)[: len(self.committed[key])] == self.committed[key], (node, state)


def partitions(image: Image) -> dict[Key, PartitionState]:
    return {(topic.topic_id, index): state for topic in image.topics.values() for index, state in topic.partitions.items()}


def names(image: Image) -> dict[Key, str]:
    return {key: image.topic_names[key[0]] for key in partitions(image)}


def common_length(one: Log, two: Log) -> int:
    length = 0
    while length < min(len(one), len(two)) and one[length] == two[length]:
        length += 1
    return length


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
