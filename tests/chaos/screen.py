"""What a round shows while it runs: a line for each fault, and beneath them how far it is."""

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.chaos.workloads import Running


class Screen:
    """Lines on standard error; where that is a terminal, a status line that renews itself. From `with` to its end."""

    def __init__(self, seconds: float) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._seconds = seconds
        self._began: float | None = None
        self._work: Running | None = None
        self._doing = "starting"
        self._live = Live(get_renderable=self._status, console=self._console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Screen":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._live.stop()

    def begin(self, work: Running) -> None:
        """The clients are at work from now on."""
        self._began, self._work = time.monotonic(), work

    def doing(self, what: str) -> None:
        self._doing = what

    def say(self, line: str) -> None:
        at = f"{self._elapsed_s:7.1f} s  " if self._began is not None else ""
        self._console.print(Text(at + line))

    @property
    def _elapsed_s(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def _status(self) -> Text:
        counts = self._work and self._work.counts
        records = f"  {counts.acknowledged:,} acknowledged, {counts.read:,} read" if counts else ""
        return Text(f"{min(self._elapsed_s, self._seconds):.0f} of {self._seconds:.0f} s{records}  {self._doing}", style="bold")
