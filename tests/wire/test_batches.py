"""Aim: batch headers are read from any buffer of whole batches, and everything that is none is named for what it is."""

import contextlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecords

from quorumlog.wire.batches import (
    HEADER_SIZE,
    BatchError,
    CorruptBatch,
    OldFormat,
    check_crc,
    iterate_headers,
    read_header,
    stamped_prefix,
)
from quorumlog.wire.records import Record, build_batch, sealed

LEAST_LENGTH = HEADER_SIZE - 12


def some_batch(base_offset: int = 0, count: int = 1) -> bytes:
    return build_batch([Record(base_offset + index, value=b"value") for index in range(count)])


@given(st.lists(st.integers(1, 4), max_size=5))
def test_a_log_is_walked_batch_by_batch(counts: list[int]) -> None:
    """The twin is kafka-python's reader of the same bytes."""
    log = b"".join(some_batch(sum(counts[:index]), count) for index, count in enumerate(counts))
    seen = list(iterate_headers(memoryview(log)))
    twin = MemoryRecords(log)
    for position, header in seen:
        batch = twin.next_batch()
        assert (header.base_offset, header.next_offset, header.size) == (
            batch.base_offset,
            batch.next_offset,
            batch.size_in_bytes,
        )
        check_crc(memoryview(log)[position : position + header.size], header)
    assert twin.next_batch() is None
    assert [header.record_count for _, header in seen] == counts


@given(st.integers(1, 2 * len(some_batch()) - 1))
def test_a_cut_log_is_refused(size: int) -> None:
    """Only whole batches are batches."""
    log = some_batch() + some_batch(1)
    if size == len(some_batch()):
        return
    with pytest.raises(BatchError):
        list(iterate_headers(log[:size]))


def test_offset_and_epoch_are_stamped_outside_the_checksum() -> None:
    """The leader's stamp leaves the producer's bytes and their checksum alone."""
    batch = some_batch(0, 3)
    header = read_header(batch)
    stored = stamped_prefix(header, base_offset=1000, leader_epoch=9) + batch[16:]
    stamped = read_header(stored)
    check_crc(stored, stamped)
    assert (stamped.base_offset, stamped.last_offset, stamped.leader_epoch) == (1000, 1002, 9)
    assert stored[16:] == batch[16:]


@pytest.mark.parametrize("position", range(21, len(some_batch())))
def test_every_flipped_bit_is_noticed(position: int) -> None:
    """CRC-32C finds a flip anywhere behind it."""
    batch = bytearray(some_batch())
    header = read_header(batch)
    batch[position] ^= 1 << position % 8
    with pytest.raises(CorruptBatch, match="the header says"):
        check_crc(batch, header)


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("size", [30, 100])
def test_old_message_sets_are_named(magic: int, size: int) -> None:
    """An old client must learn why it is refused."""
    with pytest.raises(OldFormat, match=f"message format v{magic}"):
        read_header(bytes(16) + bytes([magic]) + bytes(size))


@pytest.mark.parametrize("length", [-1, 0, LEAST_LENGTH - 1, -(2**31)])
def test_impossible_lengths_are_refused(length: int) -> None:
    """A batch is at least its header, so that a walk always goes forward."""
    batch = some_batch()
    with pytest.raises(BatchError, match=f"batch length {length}"):
        read_header(batch[:8] + length.to_bytes(4, "big", signed=True) + batch[12:])


def test_sequences_wrap() -> None:
    """After 2^31-1 comes 0."""
    batch = build_batch([Record(0), Record(1), Record(2)], producer_id=1, producer_epoch=0, base_sequence=2**31 - 2)
    assert read_header(batch).last_sequence == 0


@pytest.mark.parametrize("seed", range(100))
def test_damaged_headers_are_refused_or_read(seed: int) -> None:
    """Nothing but BatchError comes out of arbitrary bytes."""
    random = Random(seed)
    log = bytearray(some_batch() + some_batch(1))
    for _ in range(random.randrange(1, 5)):
        log[random.randrange(len(log))] = random.randrange(256)
    with contextlib.suppress(BatchError):
        for position, header in iterate_headers(log):
            check_crc(log[position : position + header.size], header)


def test_sealed_sets_the_checksum() -> None:
    """The tool that makes hostile batches makes sound ones too."""
    batch = some_batch()
    assert sealed(batch[:17] + b"\x00\x00\x00\x00" + batch[21:]) == batch
