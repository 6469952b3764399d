"""How many things one admin request may name: each costs the controller a decision, and nobody else is served meanwhile."""

from collections.abc import Iterable, Sized

from quorumlog.wire.errors import ClusterError, ErrorCode

NAMED_MAX = 2_000
PARTITIONS_MAX = 10_000


def check_count(named: Sized, what: str) -> None:
    """Raises POLICY_VIOLATION."""
    if len(named) > NAMED_MAX:
        raise ClusterError(ErrorCode.policy_violation, f"{len(named)} {what} in one request; at most {NAMED_MAX} are taken")


def check_partition_count(named: Iterable[Sized]) -> None:
    """The partitions that a request names under its topics. Raises POLICY_VIOLATION."""
    count = sum(map(len, named))
    if count > PARTITIONS_MAX:
        raise ClusterError(ErrorCode.policy_violation, f"{count} partitions in one request; at most {PARTITIONS_MAX} are taken")
