"""Ctrl-C and SIGTERM as a question that a command asks when it is ready for the answer."""

import signal
from types import FrameType, TracebackType
from typing import Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequested(Exception):
    """Somebody wants the command to end."""


class StopSignals:
    """Within the `with` block the first SIGINT or SIGTERM only makes `check` raise; the second ends us by its default action.

    An exception out of the blue could strike between the start of a process and the moment we know of it.
    """

    def __init__(self) -> None:
        self._is_requested = False

    def check(self) -> None:
        """Raises StopRequested once a signal has come."""
        if self._is_requested:
            raise StopRequested

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._is_requested = True
        signal.signal(number, signal.SIG_DFL)
