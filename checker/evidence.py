"""What a history proves, gathered once for all anomalies: who wrote and who read each value, what committed, and the logs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from quorumlog.checker.log import PartitionLog
from quorumlog.checker.operations import Operation, Outcome, Poll, Send

# Where a value was sent more than once (a client that tried again by itself), the surest of its writes stands for it.
SURENESS = {Outcome.OK: 2, Outcome.UNKNOWN: 1, Outcome.FAIL: 0}


@dataclass(slots=True)
class Evidence:
    """Operations are named by their places in `history`."""

    history: Sequence[Operation]
    logs: dict[str, PartitionLog] = field(default_factory=dict)  # by key
    writers: dict[str, dict[str, int]] = field(default_factory=dict)  # key -> value -> the operation that sent it
    readers: dict[str, dict[str, int]] = field(default_factory=dict)  # key -> value -> the first ok operation that read it
    committed: set[int] = field(default_factory=set)  # the operations of unknown outcome with a value that was read
    read_ranges: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> smallest and largest index in ok reads

    def is_committed(self, place: int) -> bool:
        """ok, or unknown with one of its values seen in an ok read."""
        return self.history[place].outcome is Outcome.OK or place in self.committed

    def log(self, key: str) -> PartitionLog:
        log = self.logs.get(key)
        if log is None:
            log = self.logs[key] = PartitionLog()
        return log

    def committed_writer(self, key: str, value: str) -> int | None:
        writer = self.writers.get(key, {}).get(value)
        return writer if writer is not None and self.is_committed(writer) else None

    def index_of_send(self, place: int, send: Send) -> int | None:
        """By its own offset if it committed and was told one, else by the offset at which polls found its value, if it is one."""
        log = self.logs.get(send.key)
        if log is None or self.history[place].outcome is Outcome.FAIL:
            return None
        if send.offset is not None and self.is_committed(place):
            return log.indexes[send.offset]
        return log.only_index(send.value)


def gather(history: Sequence[Operation]) -> Evidence:
    evidence = Evidence(history)
    for place, operation in enumerate(history):
        _note_steps(evidence, place, operation)
    evidence.committed.update(_proven(evidence))
    for place, operation in enumerate(history):
        if evidence.is_committed(place):
            _place_sends(evidence, operation)
    for log in evidence.logs.values():
        log.seal()
    evidence.read_ranges = _read_ranges(evidence)
    return evidence


def _note_steps(evidence: Evidence, place: int, operation: Operation) -> None:
    for step in operation.steps:
        if isinstance(step, Send):
            _note_writer(evidence, place, step)
        elif step.records:
            evidence.log(step.key).put_all(step.records)
            if operation.outcome is Outcome.OK:
                note = evidence.readers.setdefault(step.key, {}).setdefault
                for _, value in step.records:
                    note(value, place)


def _note_writer(evidence: Evidence, place: int, send: Send) -> None:
    writers = evidence.writers.setdefault(send.key, {})
    before = writers.setdefault(send.value, place)
    history = evidence.history
    if before != place and SURENESS[history[place].outcome] > SURENESS[history[before].outcome]:
        writers[send.value] = place


def _proven(evidence: Evidence) -> Iterator[int]:
    for place, operation in enumerate(evidence.history):
        if operation.outcome is Outcome.UNKNOWN:
            for send in sends_of(operation):
                if send.value in evidence.readers.get(send.key, {}) and evidence.writers[send.key][send.value] == place:
                    yield place
                    break


def _place_sends(evidence: Evidence, operation: Operation) -> None:
    for step in operation.steps:
        if isinstance(step, Send) and step.offset is not None:
            evidence.log(step.key).put(step.offset, step.value)


def _read_ranges(evidence: Evidence) -> dict[str, tuple[int, int]]:
    offsets: dict[str, tuple[int, int]] = {}
    for operation in evidence.history:
        if operation.outcome is Outcome.OK:
            for poll in polls_of(operation):
                if poll.records:
                    low, high = min(poll.records)[0], max(poll.records)[0]
                    lowest, highest = offsets.get(poll.key, (low, high))
                    offsets[poll.key] = min(low, lowest), max(high, highest)
    return {key: (evidence.logs[key].indexes[low], evidence.logs[key].indexes[high]) for key, (low, high) in offsets.items()}


def sends_of(operation: Operation) -> Iterator[Send]:
    return (step for step in operation.steps if isinstance(step, Send))


def polls_of(operation: Operation) -> Iterator[Poll]:
    return (step for step in operation.steps if isinstance(step, Poll))


def reads_by_key(operation: Operation) -> dict[str, Sequence[tuple[int, str]]]:
    """The records that an operation read of each key, the polls of one key strung together."""
    reads: dict[str, Sequence[tuple[int, str]]] = {}
    for poll in polls_of(operation):
        if poll.records:
            reads[poll.key] = [*reads[poll.key], *poll.records] if poll.key in reads else poll.records
    return reads


def sends_by_key(operation: Operation) -> dict[str, list[Send]]:
    sends: dict[str, list[Send]] = {}
    for send in sends_of(operation):
        sends.setdefault(send.key, []).append(send)
    return sends


def by_process(history: Sequence[Operation]) -> dict[int, list[int]]:
    """The places of each process's operations in the order in which it began them."""
    places: dict[int, list[int]] = {}
    for place, operation in enumerate(history):
        places.setdefault(operation.process, []).append(place)
    for own in places.values():
        own.sort(key=lambda place: history[place].invoked)
    return places
