"""How many things one admin request may name."""

import pytest

from quorumlog.node.handlers.bounds import NAMED_MAX, PARTITIONS_MAX, check_count, check_partition_count
from quorumlog.wire.errors import ClusterError, ErrorCode


def test_so_many_and_no_more() -> None:
    """The message says how many were named and how many may be."""
    check_count(range(NAMED_MAX), "topics")
    with pytest.raises(ClusterError, match=f"{NAMED_MAX + 1} topics in one request; at most {NAMED_MAX}") as refused:
        check_count(range(NAMED_MAX + 1), "topics")
    assert refused.value.code is ErrorCode.policy_violation


def test_partitions_are_counted_over_all_topics() -> None:
    """One more than may be, in two topics."""
    check_partition_count([range(PARTITIONS_MAX)])
    with pytest.raises(ClusterError, match=f"{PARTITIONS_MAX + 1} partitions") as refused:
        check_partition_count([range(PARTITIONS_MAX), range(1)])
    assert refused.value.code is ErrorCode.policy_violation
