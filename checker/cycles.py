"""Circles of operations: by write-write edges alone (G0), with write-read edges among them (G1c).

    ww  A's value lies before B's in the log of a key, with no value of another operation of the graph between
    wr  A sent a value that the ok operation B read; A committed

G0, and G1c with a ww edge in it, are allowed: Kafka's transactions do not isolate writes from each other. G1c by wr edges
alone is never allowed: each operation would have seen another's records before that one had committed.

Only *joints* can be on a circle: operations with several sends, or with sends and reads. An operation of one single send lies
on a circle only between joints, and its part there is a ww edge between its neighbours - unless a joint has read it: then it
stays in the graph. The rest is left out, so that a history without transactions costs nothing here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from quorumlog.checker.anomalies import Anomaly
from quorumlog.checker.evidence import Evidence, polls_of, sends_of
from quorumlog.checker.graph import SHORTEST, cyclic_parts, shortest_cycle, shortest_path
from quorumlog.checker.operations import Operation, Outcome

EDGES_TRIED_MAX = 20  # for a mixed circle in one part of the graph; the first few edges find one if there is any to speak of


class Edge(NamedTuple):
    """Why operation `source` comes before `target`: that one read its `value`, or sent `next_value` behind it."""

    source: int
    target: int
    key: str
    value: str
    next_value: str | None = None

    def describe(self) -> str:
        sent = f"operation {self.source} sent {self.value!r} to {self.key}"
        if self.next_value is None:
            return f"{sent}, which operation {self.target} read"
        return f"{sent} before operation {self.target} sent {self.next_value!r}"


Successors = dict[int, set[int]]


@dataclass(slots=True)
class Dependencies:
    """What comes before what, among the operations that could be on a circle: the joints, and the single sends they read."""

    evidence: Evidence
    joints: list[int]
    members: set[int] = field(default_factory=set)
    writes: Successors = field(default_factory=dict)  # ww
    reads: Successors = field(default_factory=dict)  # wr

    def both(self) -> Successors:
        none: set[int] = set()
        sources = sorted({*self.writes, *self.reads})
        return {source: self.writes.get(source, none) | self.reads.get(source, none) for source in sources}

    def read_edges(self) -> Iterator[Edge]:
        for place in self.joints:
            yield from _read_edges(self.evidence, place)

    def write_edges(self) -> Iterator[Edge]:
        for key in sorted(self.evidence.writers):
            yield from _write_edges(self.evidence, key, self.members)


def find_cycles(evidence: Evidence) -> tuple[list[Anomaly], list[Anomaly]]:
    """G1c by write-read edges alone; and the allowed: G0, and G1c with write-write edges in it. One of each connected part."""
    joints = [place for place, operation in enumerate(evidence.history) if _is_joint(evidence, place, operation)]
    if not joints:
        return [], []
    dependencies = _dependencies(evidence, joints)
    reads, writes, both = dependencies.reads, dependencies.writes, dependencies.both()
    seen = [shortest_cycle(reads, part) for part in cyclic_parts(reads)]
    written = [shortest_cycle(writes, part) for part in cyclic_parts(writes)]
    mixed = [cycle for part in cyclic_parts(both) if (cycle := _mixed_cycle(dependencies, both, part)) is not None]
    pairs = {pair for cycle in (*seen, *written, *mixed) for pair in _pairs(cycle)}
    read_edges = {edge[:2]: edge for edge in dependencies.read_edges() if edge[:2] in pairs}
    write_edges = {edge[:2]: edge for edge in dependencies.write_edges() if edge[:2] in pairs}
    found = [_anomaly("G1c", "by write-read edges alone", read_edges, cycle) for cycle in seen]
    allowed = [_anomaly("G0", "by write-write edges", write_edges, cycle) for cycle in written]
    allowed += [_anomaly("G1c", "with a write-write edge in it", write_edges | read_edges, cycle) for cycle in mixed]
    return found, allowed


def _dependencies(evidence: Evidence, joints: list[int]) -> Dependencies:
    dependencies = Dependencies(evidence, joints, set(joints))
    for edge in dependencies.read_edges():
        dependencies.members.add(edge.source)
        dependencies.reads.setdefault(edge.source, set()).add(edge.target)
    for edge in dependencies.write_edges():
        dependencies.writes.setdefault(edge.source, set()).add(edge.target)
    return dependencies


def _mixed_cycle(dependencies: Dependencies, both: Successors, part: list[int]) -> list[int] | None:
    """The shortest circle found with a wr edge in it and another that is ww only."""
    inside = set(part)
    reads = dependencies.reads
    edges = [(source, target) for source in part for target in sorted(reads.get(source, ())) if target in inside]
    best: list[int] | None = None
    for source, target in edges[:EDGES_TRIED_MAX]:
        path = shortest_path(both, inside, target, source)
        assert path is not None, (source, target)  # the part is strongly connected
        is_mixed = any(after not in reads.get(before, ()) for before, after in pairwise(path))
        if is_mixed and (best is None or len(path) < len(best)):
            best = [source, *path[:-1]]
        if best is not None and len(best) == SHORTEST:
            break
    return best


def _pairs(cycle: list[int]) -> list[tuple[int, int]]:
    return list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))


def _anomaly(kind: str, how: str, edges: Mapping[tuple[int, int], Edge], cycle: list[int]) -> Anomaly:
    steps = [edges[pair] for pair in _pairs(cycle)]
    keys = {edge.key for edge in steps}
    values = dict.fromkeys(value for edge in steps for value in (edge.value, edge.next_value) if value is not None)
    message = f"a circle {how}: " + "; ".join(edge.describe() for edge in steps)
    return Anomaly(kind, keys.pop() if len(keys) == 1 else None, message, tuple(cycle), tuple(values))


def _is_joint(evidence: Evidence, place: int, operation: Operation) -> bool:
    if len(operation.steps) < 2 or not evidence.is_committed(place):
        return False
    send_count = sum(1 for _ in sends_of(operation))
    return send_count > 1 or (send_count == 1 and any(poll.records for poll in polls_of(operation)))


def _read_edges(evidence: Evidence, place: int) -> Iterator[Edge]:
    if evidence.history[place].outcome is not Outcome.OK:
        return
    for poll in polls_of(evidence.history[place]):
        for _, value in poll.records:
            writer = evidence.committed_writer(poll.key, value)
            if writer is not None and writer != place:
                yield Edge(writer, place, poll.key, value)


def _write_edges(evidence: Evidence, key: str, members: set[int]) -> Iterator[Edge]:
    """Values at an offset that holds several have no place in the order; a duplicate's is its first."""
    log = evidence.logs.get(key)
    if log is None:
        return
    source, value = None, ""
    for index, offset in enumerate(log.offsets):
        next_value = log.at[offset]
        target = evidence.committed_writer(key, next_value)
        if target is None or target not in members or offset in log.conflicts or log.first_index[next_value] != index:
            continue
        if source is not None and source != target:
            yield Edge(source, target, key, value, next_value)
        source, value = target, next_value
