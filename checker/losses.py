"""Committed values that nobody read though others behind them were (lost-write), or though somebody looked (unseen)."""

from collections.abc import Iterator

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, sends_of
from quorumlog.checker.operations import Outcome
from quorumlog.checker.passes import Pass, completed_passes


def find_lost_writes(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: lost-write.

    The bound is the largest *first* index among the values of ok reads, and a value must have been read if its *last* index
    is at most the bound: so that a duplicate neither proves that a reader came far nor hides a value.
    """
    for key, readers in sorted(evidence.readers.items()):
        log = evidence.logs[key]
        bound, farthest = max((log.first_index[value], value) for value in readers)
        for index, offset in enumerate(log.offsets[: bound + 1]):
            for value in log.values_at(offset):
                if value in readers or log.last_index(value) != index:
                    continue
                writer = evidence.committed_writer(key, value)
                if writer is not None:
                    seen = f"{farthest!r} at offset {log.offsets[bound]} was read by operation {readers[farthest]}"
                    message = f"{value!r} at offset {offset} of operation {writer} was read by nobody, though {seen}"
                    yield Anomaly("lost-write", key, message, (writer, readers[farthest]), (value, farthest))


def find_unseen(evidence: Evidence) -> tuple[list[Anomaly], list[str]]:
    """Anomaly: unseen; and the keys with acknowledged values that nobody polled, but nobody looked for either."""
    missing = _never_polled(evidence)
    passes = completed_passes(evidence, set(missing))
    anomalies: list[Anomaly] = []
    unjudged: list[str] = []
    for key, sends in sorted(missing.items()):
        found = [anomaly for place, value in sends if (anomaly := _unseen(evidence, key, place, value, passes.get(key)))]
        anomalies += found
        if len(found) < len(sends):
            unjudged.append(key)
    return anomalies, unjudged


def _never_polled(evidence: Evidence) -> dict[str, list[tuple[int, str]]]:
    """key -> the (operation, value) of its acknowledged sends that no ok poll returned."""
    missing: dict[str, list[tuple[int, str]]] = {}
    for place, operation in enumerate(evidence.history):
        if operation.outcome is Outcome.OK:
            for send in sends_of(operation):
                if send.value not in evidence.readers.get(send.key, ()):
                    missing.setdefault(send.key, []).append((place, send.value))
    return missing


def _unseen(evidence: Evidence, key: str, place: int, value: str, latest: Pass | None) -> Anomaly | None:
    acknowledged = evidence.history[place].completed
    if latest is None or acknowledged is None or acknowledged > latest.begun:
        return None
    end = "found nothing at all" if latest.last is None else f"read to offset {evidence.logs[key].offsets[latest.last]}"
    reader = f"process {evidence.history[latest.place].process} started over later (operation {latest.place}) and {end}"
    message = f"{value!r} was acknowledged to operation {place}, but polled by nobody; {reader}"
    return Anomaly("unseen", key, message, (place, latest.place), (value,))
