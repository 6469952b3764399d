"""Any history of deaths, restarts, lost disks, in-sync sets and topics keeps what was committed.

Each partition's replicas are modelled as lists of record numbers, and the high watermark goes over flushed records of the in-sync set,
only while that has `min.insync.replicas` members. Whoever is elected must hold all that was committed, unless it was elected
uncleanly on purpose.
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
        assert (new.leader_epoch > old.leader_epoch) == (new.leader != old.leader)
        if new.leader not in (old.leader, NO_LEADER) and new.leader not in {*old.isr, *old.elr}:
            assert self.unclean_allowed, (old, new)
            held = self.log(key, new.leader)
            self.committed[key] = self.committed[key][: common_length(held, self.committed[key])]

    unclean_allowed = False

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
            self.start(node)
            self.heartbeat(node)
        self.ask(CreateTopics((NewTopic("a", 2, 3),)))

    @rule(node=NODES)
    def start(self, node: int) -> None:
        """Start, or restart after a crash that nobody saw."""
        self.disks.setdefault(node, next(self.numbers))
        incarnation = next(self.numbers)
        known = self.controller.image.brokers.get(node)
        storage = uuid(self.disks[node])
        if known is None or known.storage_id != storage:
            self.incomplete |= {key for key, state in partitions(self.controller.image).items() if node in state.replicas}
        address = Endpoint("localhost", 1)
        if self.ask(RegisterBroker(node, uuid(incarnation), storage, address, address)) is not None:
            self.running.add(node)
            assert not self.controller.image.is_live(node)

    @rule(node=NODES, fresh_disk=st.booleans())
    def die(self, node: int, fresh_disk: bool) -> None:
        """The process dies; its disk may be replaced before it comes back."""
        self.running.discard(node)
        if fresh_disk:
            self.disks[node] = next(self.numbers)

    @rule(node=NODES)
    def notice_death(self, node: int) -> None:
        if node not in self.running:
            self.take(self.controller.on_process_gone(node, self.now))

    @rule(node=NODES, want_shutdown=st.sampled_from([False, False, False, True]))
    def heartbeat(self, node: int, want_shutdown: bool = False) -> None:
        if node in self.running:
            self.ask(BrokerHeartbeat(node, self.epoch(node), caught_up=True, want_shutdown=want_shutdown))

    @rule(node=NODES)
    def unregister(self, node: int) -> None:
        if node not in self.running:
            self.ask(UnregisterBroker(node))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 400.0]))
    def let_time_pass(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(12):
            self.now = min(end, max(self.now + 0.001, self.controller.next_deadline()))
            self.take(self.controller.tick(self.now))
            if self.now >= end:
                break
        self.now = end

    @rule()
    def change_controllers(self) -> None:
        """Another node leads the quorum: it begins with the committed image."""
        self.machine.restore(self.machine.image.index, self.machine.dump())
        self.controller = self.new_controller()

    @rule(node=NODES)
    def allocate_producer_ids(self, node: int) -> None:
        decision = self.ask(AllocateProducerIds(node, self.epoch(node)))
        if decision is not None:
            assert isinstance(decision.reply, AllocateProducerIdsReply)
            assert decision.reply.first == self.producer_ids
            self.producer_ids += decision.reply.count

    # --- topics and settings

    @rule(name=TOPICS, replication_factor=st.integers(1, 4), partitions=st.integers(1, 2))
    def create_topic(self, name: str, replication_factor: int, partitions: int) -> None:
        self.ask(CreateTopics((NewTopic(name, partitions, replication_factor),)))

    @rule(name=TOPICS)
    def grow_topic(self, name: str) -> None:
        self.ask(CreatePartitions((NewPartitions(name, 3),)))

    @rule(name=st.just("b"))
    def delete_topic(self, name: str) -> None:
        self.ask(DeleteTopics((TopicReference(name),)))

    @rule(name=st.sampled_from(["", "a", "b"]), value=st.sampled_from(["1", "2", "3"]))
    def alter_min_isr(self, name: str, value: str) -> None:
        kind = ResourceKind.TOPIC if name else ResourceKind.BROKER
        change = ConfigChange("min.insync.replicas", ConfigOperation.SET, value)
        self.ask(AlterConfigs((ResourceChanges(kind, name, (change,)),)))

    @rule()
    def elect_preferred(self) -> None:
        self.ask(ElectLeaders(preferred=True))

    @rule()
    def elect_uncleanly(self) -> None:
        self.unclean_allowed = True
        self.ask(ElectLeaders(preferred=False))
        self.unclean_allowed = False

    # --- replication

    def led(self, data: st.DataObject) -> tuple[str, PartitionState]:
        image = self.controller.image
        choices = [
            (name, topic.partitions[index])
            for name, topic in sorted(image.topics.items())
            for index in sorted(topic.partitions)
            if topic.partitions[index].leader in self.running
        ]
        return data.draw(st.sampled_from(choices))

    def somebody_leads(self) -> bool:
        return any(state.leader in self.running for state in partitions(self.controller.image).values())

    @precondition(somebody_leads)
    @rule(data=st.data())
    def produce(self, data: st.DataObject) -> None:
        """The leader writes a record, some live followers copy its whole log, and what all of the ISR has is committed."""
        name, state = self.led(data)
        key = (state.topic_id, state.partition)
        leader_log = self.log(key, state.leader)
        leader_log.append(next(self.numbers))
        for follower in data.draw(st.sets(st.sampled_from(state.replicas))):
            if follower in self.running and self.controller.image.is_live(follower):
                self.log(key, follower)[:] = leader_log
        self.commit(name, state)

    def commit(self, name: str, state: PartitionState) -> None:
        if len(state.isr) < effective_min_isr(self.controller.image, name, len(state.replicas), {}):
            return
        key = (state.topic_id, state.partition)
        leader_log = self.log(key, state.leader)
        high_watermark = min(common_length(leader_log, self.log(key, member)) for member in state.isr)
        if high_watermark > len(self.committed[key]):
            self.committed[key] = leader_log[:high_watermark]

    @precondition(somebody_leads)
    @rule(data=st.data())
    def change_isr(self, data: st.DataObject) -> None:
        """The leader takes in followers that have copied its log, and drops others as it likes."""
        _, state = self.led(data)
        key = (state.topic_id, state.partition)
        members = {state.leader, *data.draw(st.sets(st.sampled_from(state.replicas)))}
        for joining in members - set(state.isr):
            if joining in self.running and self.controller.image.is_live(joining):
                self.log(key, joining)[:] = self.log(key, state.leader)
            else:
                members.discard(joining)
        epochs = tuple(self.epoch(member) for member in sorted(members))
        asked = IsrProposal(*key, state.leader_epoch, state.partition_epoch, tuple(sorted(members)), epochs)
        decision = self.ask(AlterIsr(state.leader, self.epoch(state.leader), (asked,)))
        assert decision is not None and isinstance(decision.reply, AlterIsrReply)
        (result,) = decision.reply.partitions
        if result.error_code is ErrorCode.none:
            assert result.state is not None and set(result.state.isr) == members

    @precondition(somebody_leads)
    @rule(data=st.data())
    def find_damage(self, data: st.DataObject) -> None:
        """A replica that is allowed to refetch throws its records away."""
        _, state = self.led(data)
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
                assert not state.elr or len(state.isr) < max(1, effective_min_isr(image, name, len(state.replicas), {})), state

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


def common_length(one: Log, two: Log) -> int:
    length = 0
    while length < min(len(one), len(two)) and one[length] == two[length]:
        length += 1
    return length


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
