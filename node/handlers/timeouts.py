"""How long an admin request may take: as its client says, within bounds."""

from ..dispatch import Call

LEAST_S, MOST_S = 1.0, 60.0


def request_timeout_s(call: Call) -> float:
    timeout_ms: int = call.message.timeout_ms
    return min(MOST_S, max(LEAST_S, timeout_ms / 1000))
