"""The quorum's door: it elects, commits, refuses, hands over and says who leads."""

import pytest
from quorumlog.raft.ports import ProposeOutcome

from tests.raft.cluster import Cluster

COMMITTED = ProposeOutcome.COMMITTED


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_quorum_elects_itself_a_leader_and_commits(size: int) -> None:
    """Voters that hear each other agree on one leader, and what it commits reaches all of them."""
    cluster = Cluster(size).start_all()
    cluster.run(2.0)
    (leader,) = cluster.leaders()
    outcomes = cluster.propose(leader, "a")
    cluster.run(0.3)
    assert outcomes == [COMMITTED]
    assert [cluster.items(voter) for voter in cluster.voters] == [["a"]] * size
