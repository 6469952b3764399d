"""Compaction and transactions on one log, against a dictionary of what was committed, read as consumers read it."""

from collections import deque
from typing import Literal

import hypothesis.strategies as st
from hypothesis import given, settings

from quorumlog.partitions.partition import Partition
from quorumlog.wire.batches import iterate_headers
from quorumlog.wire.markers import read_marker
from quorumlog.wire.records import Record, build_batch, iterate_records
from tests.partitions.compaction_stage import close_segment, compact, last_values, with_config
from tests.partitions.stage import Host
from tests.partitions.transactions import end

PRODUCERS, KEYS = (7, 8, 9), (b"a", b"b", b"c")
DELETE_RETENTION_MS = 500

writes = st.tuples(st.just("write"), st.sampled_from(PRODUCERS), st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
ends = st.tuples(st.sampled_from(["commit", "abort"]), st.sampled_from(PRODUCERS), st.just([]))
passes = st.tuples(st.sampled_from(["compact", "later", "restart"]), st.just(0), st.just([]))
Step = tuple[Literal["write", "commit", "abort", "compact", "later", "restart"], int, list[bytes]]


class Twin:
    """What the writes that are committed come to; a log whose values are their own numbers."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.order: dict[bytes, int] = {}
        self.open: dict[int, list[tuple[int, bytes, bytes]]] = {}
        self.sequences = dict.fromkeys(PRODUCERS, 0)

    def commit(self, producer_id: int) -> None:
        for offset, key, value in self.open.pop(producer_id, []):
            if offset >= self.order.get(key, -1):  # of two records of a key the later one counts, whichever was committed last
                self.values[key], self.order[key] = value, offset


def write(partition: Partition, twin: Twin, producer_id: int, keys: list[bytes], number: int) -> None:
    sequence = twin.sequences[producer_id]
    made = [Record(i, 1000, key, b"%d" % (number * 10 + i)) for i, key in enumerate(keys)]
    batch = build_batch(made, producer_id=producer_id, producer_epoch=0, base_sequence=sequence, is_transactional=True)
    asked = partition.transaction_to_verify(batch)
    base = partition.append(batch, acks=1, now=0.0, wall_ms=1000, guard=asked[1] if asked else None).base_offset
    twin.sequences[producer_id] += len(keys)
    opened = twin.open.setdefault(producer_id, [])
    opened += [(base + one.offset, one.key or b"", one.value or b"") for one in made]


def read_committed(partition: Partition) -> list[Record]:
    """As consumers do it (KIP-98): whose batches to leave out follows from the answer's list and the marks between them."""
    offset, found = partition.log_start_offset, list[Record]()
    while offset < partition.last_stable_offset:
        answer = partition.read(offset, max_bytes=150, isolation_committed=True)
        coming = deque(sorted(answer.aborted, key=lambda one: one.first_offset))
        ignored: set[int] = set()
        data = b"".join(answer.buffers)
        for position, header in iterate_headers(data):
            batch = data[position : position + header.size]
            while coming and coming[0].first_offset <= header.last_offset:
                ignored.add(coming.popleft().producer_id)
            if header.is_control:
                marker = read_marker(batch, header)
                if marker is not None and not marker.is_commit:
                    ignored.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in ignored):
                found += iterate_records(batch, header, decompressed_bytes_max=1 << 20)
        offset = answer.next_offset
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(writes, writes, ends, passes), max_size=40))
def test_readers_of_what_is_committed_end_with_what_was_committed(steps: list[Step]) -> None:
    """Whatever is compacted when, between transactions, in the middle of some, and behind aborted ones."""
    host = Host(config=with_config(delete_retention_ms=DELETE_RETENTION_MS))
    partition, twin, wall_ms = host.leader(), Twin(), 1000
    steps = [*steps, *(("commit", producer_id, []) for producer_id in PRODUCERS)]
    for number, (what, producer_id, keys) in enumerate(steps):
        match what:
            case "write":
                write(partition, twin, producer_id, keys, number)
            case "commit" | "abort" if producer_id in twin.open:
                end(partition, producer_id=producer_id, commit=what == "commit")
                twin.commit(producer_id) if what == "commit" else twin.open.pop(producer_id)
            case "compact":
                close_segment(partition, host)
                compact(partition, host, wall_ms=wall_ms)
            case "later":
                wall_ms += DELETE_RETENTION_MS + 1
            case "restart":
                host.flush(partition)
                host.crash(power=False)
                partition = host.leader(leader_epoch=number + 2)
    host.flush(partition)
    assert last_values(read_committed(partition)) == twin.values
    close_segment(partition, host)
    for _ in range(3):
        wall_ms += DELETE_RETENTION_MS + 1
        compact(partition, host, wall_ms=wall_ms)
        assert last_values(read_committed(partition)) == twin.values
    left = [record for record in read_committed(partition) if record.offset < partition.log_end_offset]
    assert len(left) == len(twin.values), "each key is there once"


def test_a_pass_over_the_dirty_part_knows_which_transactions_are_over() -> None:
    """An aborted one that ended in the clean part says nothing of its producer's later records."""
    host = Host(config=with_config(delete_retention_ms=DELETE_RETENTION_MS))
    partition, twin = host.leader(), Twin()
    write(partition, twin, 7, [b"a"], 1)
    end(partition, producer_id=7, commit=False)
    close_segment(partition, host)
    compact(partition, host)
    for number in (2, 3):
        write(partition, twin, 7, [b"a"], number)
        end(partition, producer_id=7, commit=True)
    close_segment(partition, host)
    compact(partition, host)
    assert [record.value for record in read_committed(partition)] == [b"30"]
