"""The machine's clocks."""

import time


class SystemClock:
    """Implements `Clock` with the monotonic clock for deadlines and Unix time for timestamps."""

    def now(self) -> float:
        return time.monotonic()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000
