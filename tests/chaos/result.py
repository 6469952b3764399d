"""What a round found: as text, as JSON, as a row of the table in docs/chaos.md."""

import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quorumlog.checker.analysis import Verdict
from tests.chaos.round import Course
from tests.chaos.workloads import Counts
from tests.chaos.workloads.group_watch import GroupCounts

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "chaos.md"


@dataclass(frozen=True, slots=True)
class Result:
    """Clean if the cluster did all it must, the history has no anomaly, and the replicas are the same."""

    target: str
    seed: int
    minutes: float
    course: Course
    counts: Counts
    groups: Mapping[str, GroupCounts]
    operations: int
    verdict: Verdict
    differences: Sequence[str]
    shortcomings: Sequence[str]
    version: str
    date: str

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and not self.differences and not self.course.complaints

    @property
    def faults(self) -> dict[str, int]:
        return dict(sorted(Counter(made.name for made in self.course.made).items()))

    @property
    def longest_silence_s(self) -> float:
        return max((made.silence_s for made in self.course.made), default=0.0)

    @property
    def others_silence_s(self) -> float:
        return max((made.others_silence_s for made in self.course.made if made.others_silence_s is not None), default=0.0)

    @property
    def wrong(self) -> list[str]:
        """Everything that is wrong, a sentence each."""
        anomalies = [f"{anomaly.kind} in {anomaly.key}: {anomaly.message}" for anomaly in self.verdict.anomalies]
        return [*self.course.complaints, *anomalies, *self.differences]

    def fields(self) -> dict[str, Any]:
        course = self.course
        return {
            "date": self.date,
            "version": self.version,
            "target": self.target,
            "seed": self.seed,
            "minutes": self.minutes,
            "faults": self.faults,
            "operations": self.operations,
            **asdict(self.counts),
            "groups": {protocol: asdict(counts) for protocol, counts in self.groups.items()},
            "longest_silence_s": round(self.longest_silence_s, 2),
            "others_silence_s": round(self.others_silence_s, 2),
            "in_sync_after_s": None if course.in_sync_s is None else round(course.in_sync_s, 2),
            "ended_early": course.ended_early,
            "anomalies": len(self.verdict.anomalies),
            "allowed": dict(Counter(anomaly.kind for anomaly in self.verdict.allowed)),
            "wrong": self.wrong,
            "not_made": list(self.shortcomings),
            "made": [asdict(made) for made in course.made],
        }

    def row(self) -> str:
        """As docs/chaos.md has it."""
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items())
        in_sync = "not" if self.course.in_sync_s is None else f"{self.course.in_sync_s:.1f} s"
        silences = f"{self.others_silence_s:.1f} s | {self.longest_silence_s:.1f} s"
        outcome = "0" if self.is_clean else f"**{len(self.wrong)}**"
        counts = f"{self.operations:,} | {self.counts.acknowledged:,} | {self.counts.read:,}"
        run = f"{self.target} | {self.seed} | {self.minutes:g}"
        return f"| {self.date} | {self.version} | {run} | {faults} | {counts} | {silences} | {in_sync} | {outcome} |"


def append_row(result: Result) -> None:
    with TABLE.open("a", encoding="utf-8") as file:
        file.write(result.row() + "\n")


def described_version() -> str:
    """The package's version and the commit, with a plus where files differ from it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(git, check=False, capture_output=True, text=True, timeout=20)
    return f"{version('quorumlog')} {done.stdout.strip()}".strip()
