"""Whom a leader sends to a replica in the consumer's own rack, and whom it serves itself."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.node.config import LEADER_SELECTOR, RACK_AWARE_SELECTOR
from quorumlog.node.handlers.closest_replica import ClosestReplica
from quorumlog.wire.fetch import FetchPartition

RACKS = {1: "a", 2: "b", 3: "c", 4: "b"}


class FakeLeader:
    """On node 1, with records 10 to 19; node 4 has all of them, node 2 not the last."""

    node_id = 1
    log_start_offset = 10
    high_watermark = 19

    def read_replicas(self, offset: int) -> tuple[int, ...]:
        return (4, 2) if offset < 19 else (4,)


def chosen(rack: str, offset: int = 15, *, fenced: int | None = None, selector: str = RACK_AWARE_SELECTOR) -> int | None:
    brokers = {node: SimpleNamespace(rack=name) for node, name in RACKS.items()}
    image = SimpleNamespace(brokers=brokers, is_live=lambda node: node != fenced)
    services: Any = SimpleNamespace(image=image, config=SimpleNamespace(replica_selector_class=selector))
    closest = ClosestReplica.of(services, rack)
    leader: Any = FakeLeader()
    return closest.replica_for(leader, FetchPartition(0, offset, 1000)) if closest is not None else None


@pytest.mark.parametrize(
    ("rack", "node"),
    [("b", 4), ("a", None), ("c", None), ("elsewhere", None), ("", None)],
    ids=["the furthest there", "the leader's own", "nobody in sync there", "nobody there", "untold"],
)
def test_the_rack_decides(rack: str, node: int | None) -> None:
    """A consumer goes where a replica in sync stands in its rack, and stays with the leader otherwise."""
    assert chosen(rack) == node


def test_a_fenced_broker_is_no_choice() -> None:
    """Clients could not reach it; the next one there is named."""
    assert chosen("b", fenced=4) == 2


@pytest.mark.parametrize("offset", [9, 20])
def test_an_offset_out_of_range_stays_with_the_leader(offset: int) -> None:
    """Only the leader can say so: a follower may just be behind."""
    assert chosen("b", offset) is None


@pytest.mark.parametrize("selector", ["", LEADER_SELECTOR])
def test_by_default_everybody_stays(selector: str) -> None:
    """As in Kafka, where no class is set."""
    assert chosen("b", selector=selector) is None
