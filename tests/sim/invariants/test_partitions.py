"""Each invariant of partitions: silent while the promise holds, and named when it is broken."""

from collections.abc import Callable

import pytest

from quorumlog.metadata.image import NO_LEADER
from quorumlog.partitions.partition import Damage, PartitionSettings
from tests.partitions.stage import TP, batch_of

from .sight import Violation
from .stage import KEY, Scene, image_of


def fires(name: str, scene: Scene, act: Callable[[], object] | None = None) -> str:
    """The message with which exactly this invariant is found broken, at the next look or by what is done."""
    with pytest.raises(Violation) as caught:
        (act or scene.look)()
    assert caught.value.name == name, caught.value
    return caught.value.message


def test_a_healthy_partition_is_silent() -> None:
    """Records committed, replicas lagging, a crash, an election, a restart: nothing is broken, and all of it was seen."""
    scene = Scene()
    for text in "abc":
        scene.commit(text)
        scene.look()
    scene.crash(1)
    scene.decide(leader=2, leader_epoch=2, isr=(2, 3))
    scene.learn(2, 3)
    scene.look()
    scene.fetch(3, 2)
    scene.acknowledge(3, 2)
    scene.produce(2, "d", followers=(3,))
    scene.look()
    scene.start(1)
    scene.learn(1)
    scene.fetch(1, 2)
    scene.hosts[1].flush(scene.partitions[1])
    scene.acknowledge(1, 2)
    scene.decide(isr=(1, 2, 3))
    scene.partitions[2].isr_proposed((1, 2, 3), 0.0)
    scene.look()
    scene.learn()
    scene.finish()
    assert scene.watch.model.ledgers[KEY].end == 4
    assert scene.watch.excuses == []


def test_looking_changes_nothing() -> None:
    """Neither bytes are read through the disk, nor does any replica stand elsewhere afterwards."""
    scene = Scene()
    scene.commit()
    before = [(disk.read_bytes, disk.sync_count, disk.appended_bytes) for disk in scene.disks.values()]
    positions = [partition.position() for partition in scene.partitions.values()]
    scene.look()
    scene.finish()
    assert [(disk.read_bytes, disk.sync_count, disk.appended_bytes) for disk in scene.disks.values()] == before
    assert [partition.position() for partition in scene.partitions.values()] == positions


def test_where_nothing_changed_no_invariant_is_asked() -> None:
    """The simulator looks thousands of times a second: a look at an unchanged cluster ends before the invariants."""
    scene = Scene()
    scene.commit()
    scene.look()
    assert scene.watch.model.look(scene.sight()) is None
    scene.produce()
    news = scene.watch.model.look(scene.sight())
    assert news is not None
    assert [copy.node_id for copy in news.copies] == [1]


# --- leaders


def test_two_leaders_in_one_epoch() -> None:
    """Another node acts as the leader of an epoch that has one."""
    scene = Scene()
    scene.partitions[2]._replica.lead(leader_epoch=1, replicas=(1, 2, 3), isr=(1, 2, 3), now=0.0)
    scene.partitions[2].role = scene.partitions[1].role
    assert "node 1 (process 1)" in fires("one-leader-an-epoch", scene)


def test_a_leader_that_goes_on_after_a_restart() -> None:
    """The same node, started anew, takes up the epoch that its dead process led."""
    scene = Scene()
    scene.crash(1)
    scene.start(1)
    scene.learn(1)
    assert "node 1 (process 2)" in fires("one-leader-an-epoch", scene)


def test_a_new_leader_without_a_committed_record() -> None:
    """Node 3 never had the record, and leads the next epoch."""
    scene = Scene()
    scene.decide(isr=(1, 2))
    scene.learn()
    scene.produce(1, "a", followers=(2,))
    scene.look()
    scene.decide(leader=3, leader_epoch=2, isr=(3,))
    scene.learn(3)
    assert "up to 0 of 1" in fires("leader-is-complete", scene)


def test_a_leader_that_was_replaced_may_lack_records() -> None:
    """Node 1 does not know that node 2 leads and commits."""
    scene = Scene()
    scene.decide(leader=2, leader_epoch=2, isr=(2, 3))
    scene.learn(2, 3)
    scene.fetch(3, 2)
    scene.acknowledge(3, 2)
    scene.produce(2, "a", followers=(3,))
    scene.look()
    assert scene.watch.model.ledgers[KEY].end == 1


def test_a_high_watermark_that_falls() -> None:
    """A leader takes back what it said."""
    scene = Scene()
    scene.commit()
    scene.look()
    scene.partitions[1]._replica.high_watermark = 0
    fires("high-watermark-rises", scene)


def test_a_high_watermark_beyond_what_the_leader_has_flushed() -> None:
    """It counts what it merely appended."""
    scene = Scene()
    scene.partitions[1].append(batch_of([b"a"]), acks=1, now=0.0, wall_ms=1000)
    scene.partitions[1]._replica.high_watermark = 1
    fires("high-watermark-rises", scene)


def test_a_log_that_starts_beyond_what_is_committed() -> None:
    """Retention must not take what may still be cut off."""
    scene = Scene()
    scene.produce(1)
    scene.partitions[1]._log.raise_start(1)
    fires("high-watermark-rises", scene)


def test_records_deleted_below_the_high_watermark_are_allowed() -> None:
    """Deleted records, and replicas that follow the new start, miss nothing."""
    scene = Scene()
    for text in ("a" * 400, "b" * 400, "c" * 400, "d" * 400):
        scene.commit(text)
    scene.look()
    scene.partitions[1].delete_records(3)
    scene.look()
    scene.crash(1)
    scene.decide(leader=2, leader_epoch=2)
    scene.start(1)
    scene.learn()
    scene.look()
    assert scene.partitions[1].log_start_offset == 3
    scene.finish()


def test_segments_that_go_in_the_instant_in_which_they_are_committed() -> None:
    """A paused node comes back and does much at once: what was read before it was committed still counts (seed 172)."""
    scene = Scene()
    scene.produce(1, "a" * 900)
    scene.produce(1, "b" * 900)
    scene.look()
    for follower in (2, 3):
        scene.fetch(follower)
        scene.hosts[follower].flush(scene.partitions[follower])
        scene.acknowledge(follower)
    scene.produce(1, "c" * 900)
    scene.partitions[1].delete_records(2)
    scene.look()
    assert scene.partitions[1]._log.segments[0].base_offset == 2
    assert scene.watch.model.ledgers[KEY].end == 2
    for follower in (2, 3):
        scene.fetch(follower)
        scene.hosts[follower].flush(scene.partitions[follower])
        scene.acknowledge(follower)
    scene.look()
    assert scene.watch.model.ledgers[KEY].end == 3
    scene.finish()


# --- logs


def test_a_follower_with_other_content_below_its_high_watermark() -> None:
    """Node 2 holds another record at the committed offset."""
    scene = Scene()
    scene.produce(1, "a")
    twin = Scene()
    twin.produce(1, "b")
    data = twin.partitions[1].read(0, max_bytes=1000, up_to_end=True).buffers[0]
    scene.decide(isr=(1, 3))
    scene.learn()
    scene.partitions[2].apply_fetched(1, data, high_watermark=0, log_start_offset=0, wall_ms=1000)
    scene.fetch(3)
    scene.hosts[3].flush(scene.partitions[3])
    scene.acknowledge(3)
    scene.look()  # it is out of sync, and claims nothing
    scene.partitions[2]._replica.high_watermark = 1
    fires("committed-stays", scene)


def test_a_committed_record_that_is_cut_off() -> None:
    """A follower truncates below its high watermark, and goes on claiming it."""
    scene = Scene()
    scene.commit()
    scene.fetch(2)
    scene.look()
    scene.decide(isr=(1, 3))
    scene.partitions[2]._log.truncate(0, 1000)
    assert "its log ends at 0" in fires("committed-stays", scene)


def test_stored_bytes_that_do_not_fit() -> None:
    """A byte of a batch changes on the disk: broken, unless the simulator says that it did it."""
    for is_told in (False, True):
        scene = Scene()
        scene.commit()
        scene.look()
        path = scene.partitions[3]._log.active.path
        scene.hosts[3].disk.corrupt(path, 65)
        if is_told:
            scene.watch.on_rot(3, path)
            scene.finish()
        else:
            assert "CRC" in fires("stored-is-sound", scene, scene.finish)


def test_damage_without_a_cause() -> None:
    """A log that ends before its recovery point lost synced bytes; only a damaged disk excuses that."""
    for is_told in (False, True):
        scene = Scene()
        scene.commit("a" * 100)
        scene.commit("b" * 100)
        scene.look()
        path = scene.partitions[3]._log.active.path
        scene.crash(3, power=False)
        content = scene.disks[3]._files[path]
        del content.live[100:]
        if is_told:
            scene.watch.on_rot(3, path)
        scene.start(3)
        assert scene.partitions[3].damage is not None
        if is_told:
            scene.look()
        else:
            fires("in-sync-is-complete", scene)


def test_a_replica_that_declares_itself_damaged() -> None:
    """Nobody touched its disk, and its log is whole."""
    scene = Scene()
    scene.commit()
    scene.look()
    scene.partitions[3].damage = Damage(0, "the leader ends below the high watermark")
    fires("damage-has-a-cause", scene)


def test_sequences() -> None:
    """In order, with a new epoch, by several producers: fine. A gap, a repeat or an older epoch is not."""
    scene = Scene()
    for sequence, epoch, producer in ((0, 0, 5), (1, 0, 5), (0, 0, 6), (0, 1, 5)):
        scene.commit(producer_id=producer, base_sequence=sequence, producer_epoch=epoch)
        scene.look()
    for sequence, epoch in ((2, 1), (0, 1), (2, 0)):
        broken = Scene()
        for at, of in ((0, 0), (0, 1)):
            broken.commit(producer_id=5, base_sequence=at, producer_epoch=of)
        broken.look()
        for partition in broken.partitions.values():
            # The bug: the producer is forgotten far too early, and of one that was forgotten anything is taken.
            partition._log.producers.expire(1 << 50)
        broken.commit(producer_id=5, base_sequence=sequence, producer_epoch=epoch)
        fires("sequences-go-on", broken)


# --- in-sync sets


def test_an_in_sync_member_without_a_committed_record() -> None:
    """The leader counts an acknowledgment that node 3 never made."""
    scene = Scene()
    scene.produce(1, "a", followers=(2,))
    scene.partitions[1].on_follower_position(3, scene.partitions[3].position(), 0.0)
    scene.partitions[1].on_follower_ack(3, 1, 1, 0.0)
    assert "node 3" in fires("in-sync-is-complete", scene)


def test_an_in_sync_member_that_has_not_synced() -> None:
    """Node 3 acknowledges what a power cut would take."""
    scene = Scene()
    scene.produce(1, "a", followers=(2,))
    scene.fetch(3)
    scene.partitions[1].on_follower_ack(3, 1, 1, 0.0)
    assert "on its disk up to 0" in fires("in-sync-is-complete", scene)


def test_without_fsync_having_it_is_enough() -> None:
    """With flush.policy=os the operating system's memory counts, and a power cut may cost records."""
    scene = Scene(settings=PartitionSettings(fsync=False))
    scene.produce(1, "a")
    for follower in (2, 3):
        scene.fetch(follower)
        scene.acknowledge(follower)
    scene.look()
    assert scene.watch.model.ledgers[KEY].end == 1
    scene.crash(3, power=True)
    assert len(scene.watch.excuses) == 1
    scene.start(3)
    scene.learn(3)
    scene.look()


def test_a_member_that_is_down_counts_by_its_disk() -> None:
    """Node 3 dies; it stays in the set, and the others commit without it."""
    scene = Scene()
    scene.commit()
    scene.look()
    scene.crash(3)
    scene.look()
    scene.decide(elr=(), isr=(1, 2))
    scene.learn(1, 2)
    scene.produce(1, "b", followers=(2,))
    scene.look()  # it has left the set
    scene.decide(isr=(1, 2, 3))
    scene.partitions[1].isr_proposed((1, 2, 3), 0.0)
    fires("in-sync-is-complete", scene)


def test_an_eligible_member_must_be_complete() -> None:
    """The ELR promises the same as the in-sync set."""
    scene = Scene()
    scene.decide(isr=(1, 2))
    scene.learn()
    scene.produce(1, "a", followers=(2,))
    scene.look()
    scene.decide(isr=(1, 2), elr=(3,))
    fires("in-sync-is-complete", scene)


def test_a_replaced_disk() -> None:
    """An empty disk is excused until the node has registered with it; if it is in the set then, that is broken."""
    scene = Scene()
    scene.commit()
    scene.look()
    scene.wipe(3)
    scene.look()
    scene.decide(leader=2, leader_epoch=2)
    scene.look()
    scene.storage[3] = 33
    scene.decide(isr=(1, 2))
    scene.look()
    scene.decide(isr=(1, 2, 3))
    scene.learn(1, 2)
    assert "without a log" in fires("in-sync-is-complete", scene)


def test_all_complete_replicas_lose_their_disks() -> None:
    """Nobody can have what is committed: that is no fault of the cluster's, and it is said."""
    scene = Scene()
    scene.decide(isr=(1,))
    scene.learn()
    scene.commit()
    scene.look()
    scene.wipe(1)
    scene.storage[1] = 11
    scene.decide(isr=(), leader=NO_LEADER, leader_epoch=2)
    scene.learn(2, 3)
    scene.look()
    scene.decide(isr=(3,), leader=3, leader_epoch=3)
    scene.learn(2, 3)
    scene.look()
    assert scene.watch.excuses == ["orders-0: all complete replicas, [1], lost a disk"]


@pytest.mark.parametrize(("allowed", "asked"), [(True, False), (False, True), (False, False)])
def test_unclean_elections(allowed: bool, asked: bool) -> None:
    """A leader that was not complete is excused where the topic allows it, or somebody asked for it."""
    scene = Scene()
    scene.unclean = allowed
    scene.decide(isr=(1, 2))
    scene.learn()
    scene.produce(1, "a", followers=(2,))
    scene.look()
    if asked:
        scene.watch.on_unclean_election(TP.topic)
    scene.decide(leader=3, leader_epoch=2, isr=(3,))
    scene.learn()
    if allowed or asked:
        scene.look()
        assert scene.watch.excuses == ["orders-0: node 3 was elected uncleanly in epoch 2"]
    else:
        fires("leader-is-complete", scene)


@pytest.mark.parametrize("changes", [{"isr": (2, 3)}, {"isr": ()}, {"isr": (1, 4)}, {"isr": (1, 2), "elr": (2,)}])
def test_an_in_sync_set_that_cannot_be(changes: dict[str, tuple[int, ...]]) -> None:
    """Without the leader, empty, with a stranger, with somebody twice."""
    scene = Scene()
    scene.decide(**changes)
    fires("in-sync-is-valid", scene)


def test_a_leader_that_counts_too_few() -> None:
    """The controller put node 3 in, and the leader has not asked for it, or has forgotten that it did."""
    scene = Scene()
    scene.decide(isr=(1, 2))
    scene.learn()
    scene.look()
    scene.partitions[1].isr_proposed((1, 2, 3), 0.0)
    scene.decide(isr=(1, 2, 3))
    scene.look()
    scene.partitions[1]._replica._forget_proposals()
    assert "counts [1, 2]" in fires("leader-counts-all", scene)


# --- what clients hear, and topics that go


def test_acknowledgments() -> None:
    """An acknowledged offset is committed at the next look."""
    scene = Scene()
    scene.commit()
    scene.watch.on_acknowledged("orders", 0, 0)
    scene.look()
    scene.watch.on_acknowledged("orders", 0, 1)
    assert "offset 1" in fires("acknowledged-is-committed", scene)


def test_a_leader_that_dies_right_after_it_committed() -> None:
    """What it did in its last instant counts: the answer to the client is on its way already."""
    scene = Scene()
    scene.look()
    scene.commit()
    scene.crash(1)
    scene.watch.on_acknowledged("orders", 0, 0)
    scene.look()
    assert scene.watch.model.ledgers[KEY].end == 1


def test_a_deleted_topic_proves_nothing() -> None:
    """Replicas of it may linger and do as they like; an answer may speak of it."""
    scene = Scene()
    scene.commit()
    scene.look()
    scene.index += 1
    scene.show(image_of(scene.index, storage=scene.storage))
    scene.look()
    scene.partitions[1]._replica.high_watermark = 0
    scene.watch.on_acknowledged("orders", 0, 7)
    scene.look()
    scene.finish()
    assert scene.watch.model.states == {}


def test_replicas_that_lack_records_at_the_end() -> None:
    """Healed, every replica that runs has everything."""
    scene = Scene()
    scene.decide(isr=(1, 2))
    scene.learn()
    scene.produce(1, "a", followers=(2,))
    scene.look()
    assert "node 3" in fires("committed-stays", scene, scene.finish)
