"""Given this cluster, a broker comes, goes, dies or comes back: expect exactly these records."""

from dataclasses import replace

import pytest

from quorumlog.metadata import records
from quorumlog.metadata.controller import Controller
from quorumlog.metadata.image import NO_LEADER, Endpoint, Image
from quorumlog.metadata.records import BrokerChange, ConfigRecord, PartitionChange, ProducerIds, Record, ResourceKind
from quorumlog.metadata.requests import (
    AllocateProducerIds,
    AllocateProducerIdsReply,
    BrokerHeartbeat,
    BrokerHeartbeatReply,
    Done,
    RegisterBroker,
    RegisterBrokerReply,
    UnregisterBroker,
)
from quorumlog.wire.errors import ClusterError, ErrorCode

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state, uuid


def registration(node_id: int, incarnation: int, *, disk: int = 0) -> RegisterBroker:
    return RegisterBroker(
        node_id, uuid(incarnation), uuid(disk or node_id), Endpoint(f"kafka{node_id}", 9092), Endpoint(f"peer{node_id}", 9192)
    )


def registered(node_id: int, incarnation: int, epoch: int, *, disk: int = 0) -> records.RegisterBroker:
    record = broker_record(node_id, epoch, fenced=True, disk=disk)
    return replace(record, incarnation_id=uuid(incarnation))


def fenced(node_id: int, epoch: int) -> BrokerChange:
    return BrokerChange(node_id, epoch, fenced=True, in_shutdown=False)


def unfenced(node_id: int, epoch: int) -> BrokerChange:
    return BrokerChange(node_id, epoch, fenced=False, in_shutdown=False)


def change(
    partition_epoch: int,
    *,
    isr: tuple[int, ...] | None = None,
    elr: tuple[int, ...] | None = None,
    leader: int | None = None,
    leader_epoch: int | None = None,
    partition: int = 0,
) -> PartitionChange:
    return PartitionChange(TOPIC_ID, partition, partition_epoch, isr=isr, elr=elr, leader=leader, leader_epoch=leader_epoch)


def beat(controller: Controller, node_id: int, now: float, *, want_shutdown: bool = False) -> BrokerHeartbeatReply:
    epoch = controller.image.brokers[node_id].broker_epoch
    reply = controller.decide(BrokerHeartbeat(node_id, epoch, caught_up=True, want_shutdown=want_shutdown), now).reply
    assert isinstance(reply, BrokerHeartbeatReply)
    return reply


def tick_until(controller: Controller, start: float, end: float) -> list[Record]:
    """Tick as the shell does, at each deadline."""
    written: list[Record] = []
    now = max(start, controller.next_deadline())
    while now <= end:
        written += controller.tick(now).records
        now = max(now + 0.001, controller.next_deadline())
    return written


# --- registering


def test_first_broker_brings_the_cluster_wide_min_isr(controller_of: ControllerOf) -> None:
    """The first registration writes down the least in-sync set, so that nodes configured differently cannot disagree."""
    controller = controller_of(Image("test"), broker_defaults={"min.insync.replicas": "2"})
    decision = controller.decide(registration(1, 77), now=1.0)
    assert decision.records == (ConfigRecord(ResourceKind.BROKER, "", "min.insync.replicas", "2"), registered(1, 77, epoch=1))
    assert decision.reply == RegisterBrokerReply(1)
    assert controller.decide(registration(2, 88), now=1.0).records == (registered(2, 88, epoch=2),)


def test_retry_of_a_registration_gets_the_same_epoch(controller_of: ControllerOf) -> None:
    """The same incarnation again changes nothing."""
    controller = controller_of(image_of(min_isr=1))
    first = controller.decide(registration(4, 77), now=1.0)
    again = controller.decide(registration(4, 77), now=2.0)
    assert (again.records, again.reply) == ((), first.reply)


def test_quick_restart_on_the_same_disk_does_not_wait_for_the_session(controller_of: ControllerOf) -> None:
    """A killed leader is back within its session: accepted at once, fenced, and led by another."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3))], min_isr=2))
    decision = controller.decide(registration(1, 77), now=0.1)
    assert decision.records == (registered(1, 77, epoch=4), change(1, isr=(2, 3), leader=2, leader_epoch=1))
    assert controller.decide(BrokerHeartbeat(1, 4, caught_up=True), now=0.2).records == (unfenced(1, 4),)


def test_restarted_follower_leaves_the_isr(controller_of: ControllerOf) -> None:
    """What is not flushed yet may be gone after a restart: the follower has to be taken in again."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3))], min_isr=2))
    assert controller.decide(registration(3, 77), now=0.1).records == (registered(3, 77, epoch=4), change(1, isr=(1, 2)))


def test_another_disk_is_refused_while_the_old_session_lives(controller_of: ControllerOf) -> None:
    """Two nodes with one id: the one that is there stays. Once it is fenced, the new one may come."""
    controller = controller_of(image_of(min_isr=1))
    with pytest.raises(ClusterError, match="another disk") as refused:
        controller.decide(registration(1, 77, disk=9), now=0.1)
    assert refused.value.code is ErrorCode.duplicate_broker_registration
    controller.on_process_gone(1, now=0.2)
    assert controller.decide(registration(1, 77, disk=9), now=0.3).records == (registered(1, 77, epoch=4, disk=9),)


@pytest.mark.parametrize(
    ("min_isr", "before", "expected"),
    [
        # Sole member of an ISR that may be that small: it stayed in the ISR while away, and must go now.
        (1, state((1, 2), (1,), leader=NO_LEADER), change(1, isr=())),
        # In the ELR: must go; the other one, which is live, is elected from it.
        (2, state((1, 2), (), elr=(1, 2), leader=NO_LEADER), change(1, isr=(2,), elr=(), leader=2, leader_epoch=1)),
        # Not complete before: nothing changes.
        (1, state((1, 2), (2,), leader=2), None),
    ],
)
def test_another_disk_is_complete_nowhere(
    controller_of: ControllerOf, min_isr: int, before: object, expected: PartitionChange | None
) -> None:
    """A replaced disk leaves every ISR and ELR before the broker may serve, even where nobody is left."""
    image = image_of([broker_record(1, 1, fenced=True), 2], [before], min_isr=min_isr)  # type: ignore[list-item]
    controller = controller_of(image)
    decision = controller.decide(registration(1, 77, disk=9), now=1.0)
    assert decision.records == (registered(1, 77, epoch=3, disk=9), *([expected] if expected else []))
    unfencing = controller.decide(BrokerHeartbeat(1, 3, caught_up=True), now=1.1)
    assert unfencing.records == (unfenced(1, 3),), "an empty disk is not elected"


def test_a_forgotten_broker_comes_back_as_an_unknown_disk(controller_of: ControllerOf) -> None:
    """After UnregisterBroker nobody remembers which disk it had, so what it promised does not count."""
    controller = controller_of(image_of([1], [state((1,))], min_isr=1))
    gone = controller.decide(UnregisterBroker(1), now=0.1)
    assert gone.records == (fenced(1, 1), change(1, leader=NO_LEADER, leader_epoch=1), records.UnregisterBroker(1, 1))
    assert gone.reply == Done()
    assert controller.decide(registration(1, 77), now=0.2).records == (registered(1, 77, epoch=2), change(2, isr=()))


# --- living


def test_wrong_epochs_and_unknown_brokers_are_refused(controller_of: ControllerOf) -> None:
    """A process that was replaced, or was never registered, learns it."""
    controller = controller_of(image_of())
    for request in (BrokerHeartbeat(1, 99, caught_up=True), AllocateProducerIds(1, 99)):
        with pytest.raises(ClusterError) as refused:
            controller.decide(request, now=0.1)
        assert refused.value.code is ErrorCode.stale_broker_epoch
    for other in (BrokerHeartbeat(9, 1, caught_up=True), UnregisterBroker(9)):
        with pytest.raises(ClusterError) as refused:
            controller.decide(other, now=0.1)
        assert refused.value.code is ErrorCode.broker_id_not_registered


def test_a_broker_serves_only_when_it_has_caught_up(controller_of: ControllerOf) -> None:
    """Unfencing waits for the metadata log, and elects at once whom it makes possible."""
    image = image_of([broker_record(1, 1, fenced=True), 2], [state((1, 2), (1,), leader=NO_LEADER)], min_isr=1)
    controller = controller_of(image)
    early = controller.decide(BrokerHeartbeat(1, 1, caught_up=False), now=0.1)
    assert (early.records, early.reply) == ((), BrokerHeartbeatReply(fenced=True, may_shut_down=False))
    ready = controller.decide(BrokerHeartbeat(1, 1, caught_up=True), now=0.2)
    assert ready.records == (unfenced(1, 1), change(1, leader=1, leader_epoch=1))
    assert ready.reply == BrokerHeartbeatReply(fenced=False, may_shut_down=False)


def test_silence_is_fenced_at_the_session_timeout_and_not_before(controller_of: ControllerOf) -> None:
    """Heartbeats keep a broker; 2 s without one fence it, and only it."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3))], min_isr=2))
    for step in range(1, 11):
        now = step * 0.3
        tick_until(controller, now - 0.3, now)
        for node in (2, 3):
            beat(controller, node, now)
        if now < 1.95:
            assert controller.image.is_live(1)
    assert [controller.image.is_live(node) for node in (1, 2, 3)] == [False, True, True]
    assert controller.image.partition("events", 0) == state((1, 2, 3), (2, 3), leader=2, leader_epoch=1, partition_epoch=1)


def test_a_new_controller_gives_everyone_a_full_session(controller_of: ControllerOf) -> None:
    """It cannot know who was heard of last: nobody is fenced before now + 2 s."""
    controller = controller_of(image_of())
    assert tick_until(controller, 0.0, 1.99) == []
    assert tick_until(controller, 1.99, 2.0) == [fenced(1, 1), fenced(2, 2), fenced(3, 3)]
    assert controller.next_deadline() == 300.0


def test_a_controller_that_slept_blames_nobody(controller_of: ControllerOf) -> None:
    """If the controller's own node stood still for 5 s, the brokers' heartbeats wait in its inbox: they count as in time."""
    controller = controller_of(image_of())
    assert tick_until(controller, 0.0, 1.0) == []
    assert controller.tick(6.0).records == ()
    beat(controller, 1, 6.1)
    assert tick_until(controller, 6.1, 8.0) == [fenced(2, 2), fenced(3, 3)]


def test_a_gone_process_is_fenced_without_waiting(controller_of: ControllerOf) -> None:
    """Connection dropped and port refused: the leader moves at once; hearing it twice, or of strangers, is nothing."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3))], min_isr=2))
    decision = controller.on_process_gone(1, now=0.05)
    assert decision.records == (fenced(1, 1), change(1, isr=(2, 3), leader=2, leader_epoch=1))
    assert controller.on_process_gone(1, now=0.06).records == ()
    assert controller.on_process_gone(9, now=0.06).records == ()


def test_controlled_shutdown_hands_everything_over(controller_of: ControllerOf) -> None:
    """Leadership and ISRs go to others in one decision, with leave to stop; the next heartbeat is answered alike."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3)), state((2, 1, 3), partition=1)], min_isr=2))
    request = BrokerHeartbeat(1, 1, caught_up=True, want_shutdown=True)
    decision = controller.decide(request, now=0.1)
    assert decision.records == (
        BrokerChange(1, 1, fenced=False, in_shutdown=True),
        change(1, isr=(2, 3), leader=2, leader_epoch=1),
        change(1, isr=(2, 3), partition=1),
    )
    assert decision.reply == BrokerHeartbeatReply(fenced=False, may_shut_down=True)
    again = controller.decide(request, now=0.2)
    assert (again.records, again.reply) == ((), decision.reply)
    assert beat(controller, 1, 0.3).may_shut_down, "there is no way back but a new registration"


# --- fencing and the sets


def test_a_small_isr_makes_its_leavers_eligible(controller_of: ControllerOf) -> None:
    """With min.insync.replicas=2: one down is normal, two down make an ELR, three down empty the ISR; any ELR member can lead."""
    controller = controller_of(image_of(partitions=[state((1, 2, 3))], min_isr=2))
    assert controller.on_process_gone(1, 0.1).records == (fenced(1, 1), change(1, isr=(2, 3), leader=2, leader_epoch=1))
    assert controller.on_process_gone(2, 0.2).records == (fenced(2, 2), change(2, isr=(3,), elr=(2,), leader=3, leader_epoch=2))
    assert controller.on_process_gone(3, 0.3).records == (
        fenced(3, 3),
        change(3, isr=(), elr=(2, 3), leader=NO_LEADER, leader_epoch=3),
    )
    back = controller.decide(BrokerHeartbeat(1, 1, caught_up=True), 0.4)
    assert back.records == (unfenced(1, 1),), "1 left a large enough ISR and may lack what was committed since"
    back = controller.decide(BrokerHeartbeat(2, 2, caught_up=True), 0.5)
    assert back.records == (unfenced(2, 2), change(4, isr=(2,), elr=(3,), leader=2, leader_epoch=4))


def test_the_last_of_a_min_isr_of_one_stays(controller_of: ControllerOf) -> None:
    """With min.insync.replicas=1 the last member stays in the ISR while it is away, and leads again when it is back."""
    controller = controller_of(image_of([1, 2], [state((1, 2))], min_isr=1))
    assert controller.on_process_gone(2, 0.1).records == (fenced(2, 2), change(1, isr=(1,)))
    assert controller.on_process_gone(1, 0.2).records == (fenced(1, 1), change(2, leader=NO_LEADER, leader_epoch=1))
    assert controller.decide(BrokerHeartbeat(2, 2, caught_up=True), 0.3).records == (unfenced(2, 2),)
    back = controller.decide(BrokerHeartbeat(1, 1, caught_up=True), 0.4)
    assert back.records == (unfenced(1, 1), change(3, leader=1, leader_epoch=2))


def test_min_isr_counts_no_more_than_there_are_replicas(controller_of: ControllerOf) -> None:
    """A single replica under min.insync.replicas=2 is handled as under 1."""
    controller = controller_of(image_of([1], [state((1,))], min_isr=2))
    assert controller.on_process_gone(1, 0.1).records == (fenced(1, 1), change(1, leader=NO_LEADER, leader_epoch=1))


def test_unclean_election_takes_anyone_where_the_topic_allows_it(controller_of: ControllerOf) -> None:
    """The topic's setting decides whether availability may cost records."""
    partitions = [state((1, 2), (1,))]
    allowed = {"unclean.leader.election.enable": "true"}
    controller = controller_of(image_of([1, 2], partitions, min_isr=1, topic_configs=allowed))
    assert controller.on_process_gone(1, 0.1).records == (fenced(1, 1), change(1, isr=(2,), leader=2, leader_epoch=1))
    controller = controller_of(image_of([1, 2], partitions, min_isr=1))
    assert controller.on_process_gone(1, 0.1).records == (fenced(1, 1), change(1, leader=NO_LEADER, leader_epoch=1))


# --- time alone


def test_a_new_controller_elects_what_was_left_unelected(controller_of: ControllerOf) -> None:
    """The first tick looks once through everything."""
    controller = controller_of(image_of([1, 2], [state((1, 2), leader=NO_LEADER)], min_isr=1))
    assert controller.next_deadline() == 0.0
    assert controller.tick(0.0).records == (change(1, leader=1, leader_epoch=1),)


def test_leadership_goes_back_to_preferred_replicas_slowly(controller_of: ControllerOf) -> None:
    """After the interval, a few per round; rounds follow each other until all is done."""
    partitions = [state((1, 2), leader=2, partition=index) for index in range(3)]
    controller = controller_of(image_of([1, 2], partitions), leader_rebalance_interval_s=30.0, leader_moves_max=2)
    moved: list[tuple[float, int]] = []
    for step in range(1, 200):
        now = step * 0.25
        for node in (1, 2):
            beat(controller, node, now)
        if records_now := controller.tick(now).records:
            moved.append((now, len(records_now)))
    assert moved == [(30.0, 2), (31.0, 1)]
    assert all(partition.leader == 1 for partition in controller.image.topics["events"].partitions.values())


def test_rebalancing_can_be_switched_off(controller_of: ControllerOf) -> None:
    """An interval of 0 is never."""
    controller = controller_of(image_of([], []), leader_rebalance_interval_s=0)
    controller.tick(0.0)
    assert controller.next_deadline() == float("inf")


def test_producer_ids_come_in_blocks(controller_of: ControllerOf) -> None:
    """No id is given out twice."""
    controller = controller_of(image_of())
    first = controller.decide(AllocateProducerIds(1, 1), 0.1)
    assert (first.records, first.reply) == ((ProducerIds(1000, 1),), AllocateProducerIdsReply(0, 1000))
    second = controller.decide(AllocateProducerIds(2, 2), 0.1)
    assert (second.records, second.reply) == ((ProducerIds(2000, 2),), AllocateProducerIdsReply(1000, 1000))
