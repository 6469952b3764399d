"""Replicas are spread: leaders evenly, racks apart, neighbours mixed."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from quorumlog.metadata.image import Image
from quorumlog.metadata.placement import Placer, Replicas
from tests.metadata.given import broker_record, image_of, state


def image_with_racks(racks: list[str | None]) -> Image:
    return image_of([broker_record(node, node + 1, rack=rack) for node, rack in enumerate(racks)])


def spread(counts: Counter[int], nodes: int) -> int:
    held = [counts[node] for node in range(nodes)]
    return max(held) - min(held)


def leaders_of(placed: list[Replicas]) -> Counter[int]:
    return Counter(replicas[0] for replicas in placed)


def holders_of(placed: list[Replicas]) -> Counter[int]:
    return Counter(node for replicas in placed for node in replicas)


@given(st.data(), st.integers(1, 9), st.integers(1, 40))
def test_without_racks_everything_is_even(data: st.DataObject, nodes: int, count: int) -> None:
    """Leaders of a topic differ by at most one between brokers, replicas by at most two."""
    replication_factor = data.draw(st.integers(1, min(nodes, 4)))
    placed = Placer(image_with_racks([None] * nodes)).place((), count, replication_factor)
    assert all(len(set(replicas)) == replication_factor for replicas in placed)
    assert spread(leaders_of(placed), nodes) <= 1
    assert spread(holders_of(placed), nodes) <= 2


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9), st.data(), st.integers(1, 20))
def test_replicas_stand_on_as_many_racks_as_there_are(racks: list[str | None], data: st.DataObject, count: int) -> None:
    """Whatever the racks' sizes: no two replicas share a rack while another rack is free; leaders stay even."""
    replication_factor = data.draw(st.integers(1, min(len(racks), 4)))
    placed = Placer(image_with_racks(racks)).place((), count, replication_factor)
    for replicas in placed:
        assert len({racks[node] for node in replicas}) == min(replication_factor, len(set(racks)))
    assert spread(leaders_of(placed), len(racks)) <= 1


def test_a_death_does_not_burden_one_neighbour() -> None:
    """The second replicas of what one broker leads are spread over all others."""
    placed = Placer(image_with_racks([None] * 6)).place((), 30, 2)
    for leader in range(6):
        seconds = Counter(replicas[1] for replicas in placed if replicas[0] == leader)
        assert seconds == Counter({node: 1 for node in range(6) if node != leader})


def test_both_survivors_of_three_take_over_what_the_third_led() -> None:
    """Each holds every replica then: it is their order that tells who leads next."""
    placed = Placer(image_with_racks([None] * 3)).place((), 50, 3)
    heirs = Counter(replicas[:2] for replicas in placed)
    assert len(heirs) == 6
    assert max(heirs.values()) - min(heirs.values()) <= 1


def test_small_topics_share_the_cluster() -> None:
    """Many topics of one partition: the brokers take turns in leading them."""
    placer = Placer(image_with_racks([None] * 3))
    placed = [placer.place((), 1, 2)[0] for _ in range(9)]
    assert spread(leaders_of(placed), 3) == 0 and spread(holders_of(placed), 3) == 0


def test_more_partitions_keep_the_balance_of_the_topic() -> None:
    """What a topic has already counts when it grows."""
    existing = [(0, 1), (0, 2)]
    placed = Placer(image_with_racks([None] * 3)).place(existing, 4, 2)
    assert spread(leaders_of(existing + placed), 3) == 0


def test_what_the_cluster_holds_breaks_ties_only() -> None:
    """A newly added, empty broker does not get all leaders of the next topic."""
    image = image_of([1, 2, 3], [state((1, 2), partition=index) for index in range(6)])
    assert leaders_of(Placer(image).place((), 3, 1)) == Counter({1: 1, 2: 1, 3: 1})
    assert Placer(image).place((), 1, 1) == [(3,)]


def test_fenced_brokers_follow_where_live_ones_are_too_few() -> None:
    """As in Kafka: who is down for an hour keeps nobody from creating topics. They never come first."""
    placer = Placer(image_of([broker_record(1, 1), broker_record(2, 2, fenced=True), broker_record(3, 3)]))
    assert placer.broker_count == 3
    assert set(holders_of(placer.place((), 4, 2))) == {1, 3}
    assert all(replicas[2] == 2 and {1, 3} == set(replicas[:2]) for replicas in placer.place((), 4, 3))


def test_a_rack_of_its_own_is_more_than_being_live() -> None:
    """The replica stands apart once its broker is back."""
    image = image_of([broker_record(1, 1, rack="a"), broker_record(2, 2, rack="a"), broker_record(3, 3, rack="b", fenced=True)])
    assert all(replicas[1] == 3 for replicas in Placer(image).place((), 4, 2))


def test_without_a_live_broker_nothing_can_be_placed() -> None:
    """Nobody could lead it. One that shuts down takes nothing new."""
    assert Placer(image_of([broker_record(1, 1, fenced=True)])).broker_count == 0
    leaving = replace(broker_record(2, 2), in_shutdown=True)
    assert Placer(image_of([broker_record(1, 1), leaving])).broker_count == 1
