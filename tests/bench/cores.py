"""Which cores the brokers run on and which the clients: decided once for a run, the same for every contestant."""

import os
import shutil
from dataclasses import dataclass

SEPARATE_FROM = 4  # with fewer cores, giving clients their own would leave the brokers of both contestants starving


@dataclass(frozen=True, slots=True)
class Cores:
    brokers: tuple[int, ...]
    clients: tuple[int, ...]

    @property
    def command_prefix(self) -> list[str]:
        """The words that start a command on the brokers' cores; taskset replaces itself by the command."""
        taskset = shutil.which("taskset")
        if taskset is None:
            raise FileNotFoundError("taskset is not installed (apt-get install util-linux)")
        return [taskset, "--cpu-list", _listed(self.brokers)]

    def __str__(self) -> str:
        if self.brokers == self.clients:
            return f"brokers and clients share cores {_listed(self.brokers)}"
        return f"brokers on cores {_listed(self.brokers)}, clients on {_listed(self.clients)}"


def decide() -> Cores:
    """A third of the cores for clients; on small machines everybody shares all."""
    return divided(sorted(os.sched_getaffinity(0)))


def divided(available: list[int]) -> Cores:
    if len(available) < SEPARATE_FROM:
        return Cores(tuple(available), tuple(available))
    border = len(available) - len(available) // 3
    return Cores(tuple(available[:border]), tuple(available[border:]))


def parse(text: str) -> tuple[int, ...]:
    """0,1 or 0-3."""
    ranges = [part.partition("-") for part in text.split(",")]
    return tuple(core for first, _, last in ranges for core in range(int(first), int(last or first) + 1))


def _listed(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))
