"""Until when each broker is believed to live. Not replicated: a new controller gives every broker a fresh start."""

from collections.abc import Iterable


class Sessions:
    """Deadlines of the unfenced brokers, in seconds of the controller's clock. Lives and dies with its controller."""

    def __init__(self, nodes: Iterable[int], now: float, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadlines = dict.fromkeys(sorted(nodes), now + timeout_s)
        self._seen_at = now

    def wake(self, now: float) -> None:
        """Call first in each decision. Time that the controller itself slept through, hearing nobody, counts against nobody."""
        slept_s = now - self._seen_at
        self._seen_at = now
        if slept_s > self._timeout_s / 2:
            latest = now + self._timeout_s
            self._deadlines = {node: min(latest, deadline + slept_s) for node, deadline in self._deadlines.items()}

    def refresh(self, node_id: int, now: float) -> None:
        self._deadlines[node_id] = now + self._timeout_s

    def end(self, node_id: int) -> None:
        self._deadlines.pop(node_id, None)

    def is_alive(self, node_id: int, now: float) -> bool:
        return node_id in self._deadlines and now < self._deadlines[node_id]

    def expired(self, now: float) -> list[int]:
        return sorted(node for node, deadline in self._deadlines.items() if deadline <= now)

    def next_deadline(self) -> float:
        """When to look again; often enough that a sleeping controller can be told from silent brokers."""
        if not self._deadlines:
            return float("inf")
        return min(self._seen_at + self._timeout_s / 4, *self._deadlines.values())
