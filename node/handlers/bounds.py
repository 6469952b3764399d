"""How many things one admin request may name: each costs the controller a decision, and nobody else is served meanwhile."""

from collections.abc import Sized

from quorumlog.wire.errors import ClusterError, ErrorCode

NAMED_MAX = 2_000


def check_count(named: Sized, what: str) -> None:
    """Raises POLICY_VIOLATION."""
    if len(named) > NAMED_MAX:
        raise ClusterError(ErrorCode.policy_violation, f"{len(named)} {what} in one request; at most {NAMED_MAX} are taken")
