"""What the checker says: the anomalies that it found, and whether they are allowed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One anomaly. `operations` are places in the history that was checked, from 0."""

    kind: str
    key: str | None
    message: str
    operations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`anomalies` are never allowed; `allowed` are worth knowing, but a correct cluster shows them."""

    anomalies: tuple[Anomaly, ...]
    allowed: tuple[Anomaly, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return not self.anomalies
