"""Committed values that nobody read though others behind them were (lost-write), or though somebody looked (unseen)."""

from collections.abc import Iterator

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence
from quorumlog.checker.operations import Outcome
from quorumlog.checker.passes import Pass, completed_passes


def find_lost_writes(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomaly: lost-write.

    The bound is the largest *first* index among the values of ok reads, and a value must have been read if its *last* index
    is at most the bound: so that a duplicate neither proves that a reader came far nor hides a value.
    """
    for key, readers in sorted(evidence.readers.items()):
        log = evidence.logs[key]
        farthest = max(readers, key=log.first_index.__getitem__)
        bound = log.first_index[farthest]
        for value in sorted(log.first_index.keys() - readers.keys(), key=log.last_index):
            writer = evidence.committed_writer(key, value)
            if writer is not None and log.last_index(value) <= bound:
                at = log.offsets[log.last_index(value)]
                seen = f"{farthest!r} at offset {log.offsets[bound]} was read by operation {readers[farthest]}"
                message = f"{value!r} at offset {at} of operation {writer} was read by nobody, though {seen}"
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
    for key, writers in evidence.writers.items():
        unread = writers.keys() - evidence.readers.get(key, {}).keys()
        sends = [(writers[value], value) for value in unread if evidence.history[writers[value]].outcome is Outcome.OK]
        if sends:
            missing[key] = sorted(sends)
    return missing


def _unseen(evidence: Evidence, key: str, place: int, value: str, latest: Pass | None) -> Anomaly | None:
    acknowledged = evidence.history[place].completed
    if latest is None or acknowledged is None or acknowledged > latest.begun:
        return None
    end = "found nothing at all" if latest.last is None else f"read to offset {evidence.logs[key].offsets[latest.last]}"
    reader = f"process {evidence.history[latest.place].process} started over later (operation {latest.place}) and {end}"
    message = f"{value!r} was acknowledged to operation {place}, but polled by nobody; {reader}"
    return Anomaly("unseen", key, message, (place, latest.place), (value,))
