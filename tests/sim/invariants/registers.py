"""An offset that a group commits for a partition is a register: who asks later is answered with the last commit, or a later one.

Every commit carries a token of its own in its metadata, so that an answer tells which commit it saw. A commit whose answer was
lost may have taken effect at any time since, or never. Whether some order of all commits and answers explains what was seen
within the times at which each was under way is then a question about intervals (Gibbons and Korach, "Testing Shared Memories").
"""

from dataclasses import dataclass, field
from itertools import pairwise

NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Write:
    """A commit. `completed` is NEVER while no answer says that it is stored."""

    token: str
    offset: int
    invoked: float
    completed: float = NEVER
    is_refused: bool = False

    def __str__(self) -> str:
        end = "never acknowledged" if self.completed == NEVER else f"known to be there at {self.completed:.3f} s"
        return f"offset {self.offset} ({self.token}, sent at {self.invoked:.3f} s, {end})"


@dataclass(slots=True)
class Zone:
    """When a value was seen: it was written before `first_end`, and still there at `last_start`."""

    write: Write
    first_end: float
    last_start: float

    @property
    def is_forward(self) -> bool:
        return self.first_end < self.last_start


@dataclass(slots=True)
class Register:
    """One group's offset of one partition. Methods return what is wrong, or None."""

    writes: dict[str, Write] = field(default_factory=dict)
    zones: dict[str, Zone] = field(default_factory=dict)  # of values that were seen, by token
    last_acknowledged: Write | None = None  # the one that was sent last

    def __post_init__(self) -> None:
        nothing = Write("", -1, -NEVER, -NEVER)
        self.writes[""] = nothing
        self.zones[""] = Zone(nothing, -NEVER, -NEVER)

    def write(self, token: str, offset: int, invoked: float) -> None:
        self.writes[token] = Write(token, offset, invoked)

    def acknowledge(self, token: str, now: float) -> None:
        write = self.writes[token]
        write.completed = min(write.completed, now)
        self._see(write, now, write.invoked)
        if self.last_acknowledged is None or self.last_acknowledged.invoked < write.invoked:
            self.last_acknowledged = write

    def refuse(self, token: str) -> None:
        """The answer said that nothing was stored."""
        self.writes[token].is_refused = True

    def read(self, token: str, offset: int, invoked: float, now: float) -> str | None:
        """An answer; the empty token where there is no commit."""
        write = self.writes.get(token)
        if write is None or write.is_refused or write.invoked > now:
            return f"answered is offset {offset} with {token!r}, which nobody has stored"
        if write.offset != offset:
            return f"answered is offset {offset} with {token!r}, of which {write} is known"
        self._see(write, now, invoked)
        last = self.last_acknowledged
        if last is not None and write is not last and write.completed < last.invoked and last.completed < invoked:
            return f"asked at {invoked:.3f} s, the answer is {write}; a later commit is {last}"
        return None

    def _see(self, write: Write, end: float, start: float) -> None:
        write.completed = min(write.completed, end)
        zone = self.zones.get(write.token)
        if zone is None:
            self.zones[write.token] = Zone(write, end, start)
        else:
            zone.first_end, zone.last_start = min(zone.first_end, end), max(zone.last_start, start)

    def judge(self) -> str | None:
        """Over everything that was seen: does any order explain it?"""
        zones = sorted(self.zones.values(), key=lambda zone: min(zone.first_end, zone.last_start))
        forward = [zone for zone in zones if zone.is_forward]
        for one, other in pairwise(forward):
            if other.first_end < one.last_start:
                return f"{_seen(one)} and {_seen(other)}: one came after the other, and both were there at once"
        for zone in zones:
            around = next((one for one in forward if _covers(one, zone)), None)
            if around is not None:
                return f"{zone.write} was written while {_seen(around)} was there all the time"
        return None


def _covers(around: Zone, zone: Zone) -> bool:
    return not zone.is_forward and around.first_end < zone.last_start and zone.first_end < around.last_start


def _seen(zone: Zone) -> str:
    return f"{zone.write}, seen from {zone.first_end:.3f} to {zone.last_start:.3f} s"
