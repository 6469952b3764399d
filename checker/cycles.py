"""Circles of operations: by write-write edges alone (G0), with write-read edges among them (G1c).

    ww  A's value lies before B's in the log of a key, with no value of another operation of the graph between
    wr  A sent a value that the ok operation B read; A committed

G0, and G1c with a ww edge in it, are allowed: Kafka's transactions do not isolate writes from each other. G1c by wr edges
alone is never allowed: each operation would have seen another's records before that one had committed.

Only *joints* can be on a circle: operations with several sends, or with sends and reads. An operation of one single send lies
on a circle only between joints, and its part there is a ww edge between its neighbours - unless a joint has read it: then it
stays in the graph. The rest is left out, so that a history without transactions costs nothing here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, polls_of, sends_of
from quorumlog.checker.graph import cyclic_parts, shortest_cycle, shortest_path
from quorumlog.checker.operations import Operation, Outcome

EDGES_TRIED_MAX = 50  # for a mixed circle in one part of the graph; the first few edges find one if there is any to speak of


@dataclass(frozen=True, slots=True)
class Edge:
    """Why one operation comes before another: `value` of `key` was read by the other, or lies before its `next_value`."""

    key: str
    value: str
    next_value: str | None = None

    def describe(self, source: int, target: int) -> str:
        sent = f"operation {source} sent {self.value!r} to {self.key}"
        if self.next_value is None:
            return f"{sent}, which operation {target} read"
        return f"{sent} before operation {target} sent {self.next_value!r}"


Edges = dict[int, dict[int, Edge]]  # source -> target -> the first reason found


@dataclass(slots=True)
class Dependencies:
    """What comes before what, among the operations that could be on a circle."""

    writes: Edges = field(default_factory=dict)  # ww
    reads: Edges = field(default_factory=dict)  # wr

    def both(self) -> Edges:
        """All edges; where there is a ww and a wr edge, the wr edge."""
        sources = sorted({*self.writes, *self.reads})
        return {source: {**self.writes.get(source, {}), **self.reads.get(source, {})} for source in sources}


def find_cycles(evidence: Evidence) -> tuple[list[Anomaly], list[Anomaly]]:
    """G1c by write-read edges alone; and the allowed: G0, and G1c with write-write edges in it. One of each connected part."""
    dependencies = _dependencies(evidence)
    reads, writes, both = dependencies.reads, dependencies.writes, dependencies.both()
    found = [_anomaly("G1c", "by write-read edges alone", reads, shortest_cycle(reads, part)) for part in cyclic_parts(reads)]
    allowed = [_anomaly("G0", "by write-write edges", writes, shortest_cycle(writes, part)) for part in cyclic_parts(writes)]
    for part in cyclic_parts(both):
        mixed = _mixed_cycle(dependencies, both, part)
        if mixed is not None:
            allowed.append(_anomaly("G1c", "with a write-write edge in it", both, mixed))
    return found, allowed


def _mixed_cycle(dependencies: Dependencies, both: Edges, part: list[int]) -> list[int] | None:
    """The shortest circle found with a wr edge in it and another that is ww only."""
    inside = set(part)
    edges = [(source, target) for source in part for target in dependencies.reads.get(source, {}) if target in inside]
    cycles = []
    for source, target in edges[:EDGES_TRIED_MAX]:
        path = shortest_path(both, inside, target, source)
        assert path is not None, (source, target)  # the part is strongly connected
        if any(after not in dependencies.reads.get(before, {}) for before, after in pairwise(path)):
            cycles.append([source, *path[:-1]])
    return min(cycles, key=len, default=None)


def _anomaly(kind: str, how: str, edges: Edges, cycle: list[int]) -> Anomaly:
    steps = [(source, target, edges[source][target]) for source, target in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
    keys = {edge.key for _, _, edge in steps}
    values = dict.fromkeys(value for _, _, edge in steps for value in (edge.value, edge.next_value) if value is not None)
    message = f"a circle {how}: " + "; ".join(edge.describe(source, target) for source, target, edge in steps)
    return Anomaly(kind, keys.pop() if len(keys) == 1 else None, message, tuple(cycle), tuple(values))


def _dependencies(evidence: Evidence) -> Dependencies:
    dependencies = Dependencies()
    joints = {place for place, operation in enumerate(evidence.history) if _is_joint(evidence, place, operation)}
    if not joints:
        return dependencies
    members = set(joints)
    for place in sorted(joints):
        for source, edge in _sources_of_reads(evidence, place):
            members.add(source)
            dependencies.reads.setdefault(source, {}).setdefault(place, edge)
    for key in sorted(evidence.writers):
        for source, target, edge in _write_edges(evidence, key, members):
            dependencies.writes.setdefault(source, {}).setdefault(target, edge)
    return dependencies


def _is_joint(evidence: Evidence, place: int, operation: Operation) -> bool:
    if len(operation.steps) < 2 or not evidence.is_committed(place):
        return False
    send_count = sum(1 for _ in sends_of(operation))
    return send_count > 1 or (send_count == 1 and any(poll.records for poll in polls_of(operation)))


def _sources_of_reads(evidence: Evidence, place: int) -> Iterator[tuple[int, Edge]]:
    if evidence.history[place].outcome is not Outcome.OK:
        return
    for poll in polls_of(evidence.history[place]):
        for _, value in poll.records:
            writer = evidence.committed_writer(poll.key, value)
            if writer is not None and writer != place:
                yield writer, Edge(poll.key, value)


def _write_edges(evidence: Evidence, key: str, members: set[int]) -> Iterator[tuple[int, int, Edge]]:
    """Values at an offset that holds several have no place in the order; a duplicate's is its first."""
    log = evidence.logs.get(key)
    if log is None:
        return
    before: tuple[int, str] | None = None
    for index, offset in enumerate(log.offsets):
        value = log.at[offset]
        writer = evidence.committed_writer(key, value)
        if offset in log.conflicts or log.first_index[value] != index or writer is None or writer not in members:
            continue
        if before is not None and before[0] != writer:
            yield before[0], writer, Edge(key, before[1], value)
        before = writer, value
