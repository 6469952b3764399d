"""What lies where: two values at one offset (inconsistent-offsets), one value at two offsets (duplicate)."""

from collections.abc import Iterator

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence
from quorumlog.checker.operations import Send

Witnesses = dict[tuple[str, int, str], int]


def find_misplaced(evidence: Evidence) -> Iterator[Anomaly]:
    """Anomalies: inconsistent-offsets, duplicate."""
    wanted = {
        (key, offset)
        for key, log in evidence.logs.items()
        for offset in (*log.conflicts, *(log.offsets[index] for indexes in log.repeats.values() for index in indexes))
    }
    if not wanted:
        return
    witnesses = _witnesses(evidence, wanted)
    for key in sorted(evidence.logs):
        yield from _conflicts(evidence, key, witnesses)
        yield from _repeats(evidence, key, witnesses)


def _conflicts(evidence: Evidence, key: str, witnesses: Witnesses) -> Iterator[Anomaly]:
    for offset, values in sorted(evidence.logs[key].conflicts.items()):
        claims = [f"{value!r} ({_claim(evidence, witnesses, key, offset, value)})" for value in values]
        operations = tuple(witnesses[key, offset, value] for value in values)
        yield Anomaly("inconsistent-offsets", key, f"offset {offset} holds {' and '.join(claims)}", operations, tuple(values))


def _repeats(evidence: Evidence, key: str, witnesses: Witnesses) -> Iterator[Anomaly]:
    log = evidence.logs[key]
    for value, indexes in log.repeats.items():
        offsets = [log.offsets[index] for index in indexes]
        claims = [f"{offset} ({_claim(evidence, witnesses, key, offset, value)})" for offset in offsets]
        operations = tuple(dict.fromkeys(witnesses[key, offset, value] for offset in offsets))
        yield Anomaly("duplicate", key, f"{value!r} is at offsets {' and '.join(claims)}", operations, (value,))


def _claim(evidence: Evidence, witnesses: Witnesses, key: str, offset: int, value: str) -> str:
    """Who says so: the first operation that was told of the value at the offset."""
    place = witnesses[key, offset, value]
    is_own = Send(key, value, offset) in evidence.history[place].steps
    return f"{'acknowledged to' if is_own else 'read by'} operation {place}"


def _witnesses(evidence: Evidence, wanted: set[tuple[str, int]]) -> Witnesses:
    found: Witnesses = {}
    for place, operation in enumerate(evidence.history):
        for step in operation.steps:
            if isinstance(step, Send):
                if step.offset is not None and (step.key, step.offset) in wanted and evidence.is_committed(place):
                    found.setdefault((step.key, step.offset, step.value), place)
                continue
            for offset, value in step.records:
                if (step.key, offset) in wanted:
                    found.setdefault((step.key, offset, value), place)
    return found
