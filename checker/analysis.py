"""The checker's one entry: a history in, a verdict out. Each kind of anomaly is found in the file of its noun.

from quorumlog.checker.analysis import check
from quorumlog.checker.history import read_history

verdict = check(read_history("history.jsonl"))
assert verdict.is_clean, verdict.anomalies
"""

from collections.abc import Iterable, Iterator

from quorumlog.checker.anomalies import MEANINGS, Anomaly, Verdict
from quorumlog.checker.collector import collector_paused
from quorumlog.checker.cycles import find_cycles
from quorumlog.checker.evidence import Evidence, gather
from quorumlog.checker.losses import find_lost_writes, find_unseen
from quorumlog.checker.offsets import find_misplaced
from quorumlog.checker.operations import Operation
from quorumlog.checker.polls import find_internal_poll_steps, find_poll_steps
from quorumlog.checker.sends import find_internal_send_steps, find_send_steps
from quorumlog.checker.torn import find_torn
from quorumlog.checker.visibility import (
    count_unwritten,
    find_aborted_reads,
    find_intermediate_reads,
    find_precommitted_reads,
)

__all__ = ["Anomaly", "Verdict", "check"]

RANKS = {kind: rank for rank, kind in enumerate(MEANINGS)}


def check(history: Iterable[Operation]) -> Verdict:
    """Judge a history, of any size that fits into memory. The order of its operations matters to nothing but the places."""
    with collector_paused():
        return _judge(gather(list(history)))


def _judge(evidence: Evidence) -> Verdict:
    unseen, unjudged = find_unseen(evidence)
    poll_steps, allowed_poll_steps = find_poll_steps(evidence)
    send_steps, allowed_send_steps = find_internal_send_steps(evidence)
    cycles, allowed_cycles = find_cycles(evidence)
    anomalies = [
        *find_lost_writes(evidence),
        *unseen,
        *find_torn(evidence),
        *find_misplaced(evidence),
        *find_aborted_reads(evidence),
        *find_intermediate_reads(evidence),
        *find_precommitted_reads(evidence),
        *find_internal_poll_steps(evidence),
        *poll_steps,
        *send_steps,
        *find_send_steps(evidence),
        *cycles,
    ]
    allowed = [*allowed_poll_steps, *allowed_send_steps, *allowed_cycles]
    return Verdict(
        anomalies=_ranked(anomalies), allowed=_ranked(allowed), notes=tuple(_notes(unjudged, count_unwritten(evidence)))
    )


def _ranked(anomalies: list[Anomaly]) -> tuple[Anomaly, ...]:
    return tuple(sorted(anomalies, key=lambda anomaly: RANKS[anomaly.kind]))


def _notes(unjudged: list[str], unwritten_count: int) -> Iterator[str]:
    if unjudged:
        keys = ", ".join(unjudged[:3]) + (", ..." if len(unjudged) > 3 else "")
        yield (
            f"keys with acknowledged values that nobody polled: {len(unjudged)} ({keys}). They are not called unseen, since no"
            " reader started over after the acknowledgment and read to the known end."
        )
    if unwritten_count:
        yield f"values read that no operation of the history sent: {unwritten_count}"
