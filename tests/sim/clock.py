"""A clock that moves only when told to."""


class SimClock:
    """Implements `Clock` on virtual time. `offset_ms` is how wrong this node's wall clock is; it never touches `now()`."""

    def __init__(self, *, start_s: float = 0.0, wall_start_ms: int = 1_700_000_000_000, offset_ms: int = 0) -> None:
        self._elapsed_s = 0.0
        self._start_s = start_s
        self._wall_start_ms = wall_start_ms
        self.offset_ms = offset_ms

    def now(self) -> float:
        return self._start_s + self._elapsed_s

    def wall_ms(self) -> int:
        return self._wall_start_ms + self.offset_ms + int(self._elapsed_s * 1000)

    def advance(self, seconds: float) -> None:
        """Let time pass. Monotonic time cannot go back; a wall clock that jumps is a change of `offset_ms`."""
        assert seconds >= 0, seconds
        self._elapsed_s += seconds
