"""Waiting for offsets."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.node.waits import OffsetWaits, ReadWaits
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

TP, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


@given(offsets=st.lists(st.integers(0, 50), max_size=20), marks=st.lists(st.integers(0, 60), max_size=20))
def test_exactly_those_reached_go_on(offsets: list[int], marks: list[int]) -> None:
    """After any marks, a wait is over if and only if some mark reached its offset."""

    async def run() -> None:
        waits = OffsetWaits()
        futures = [(offset, waits.reached(TP, offset)) for offset in sorted(offsets)]
        for mark in marks:
            waits.release(TP, mark)
        assert [future.done() for _, future in futures] == [bool(marks) and offset <= max(marks) for offset, _ in futures]

    asyncio.run(run())


def test_another_partition_is_left_alone() -> None:
    """A mark of one partition says nothing about another."""

    async def run() -> None:
        waits = OffsetWaits()
        future = waits.reached(TP, 1)
        waits.release(OTHER, 5)
        assert not future.done()

    asyncio.run(run())


def test_a_failed_wait_carries_the_reason() -> None:
    """When the leadership goes, whoever waits is told, and later marks reach nobody."""

    async def run() -> None:
        waits = OffsetWaits()
        future = waits.reached(TP, 1)
        waits.fail(TP, ClusterError(ErrorCode.not_leader_or_follower, "moved"))
        waits.release(TP, 5)
        with pytest.raises(ClusterError, match="moved"):
            await future

    asyncio.run(run())


def test_a_read_is_woken_by_any_of_its_partitions_until_it_is_removed() -> None:
    """A fetch over two partitions hears of both, and of none when it is over."""

    async def run() -> None:
        waits, event = ReadWaits(), asyncio.Event()
        waits.add([TP, OTHER], event.set)
        waits.wake(OTHER)
        assert event.is_set()
        event.clear()
        waits.remove([TP, OTHER], event.set)
        waits.wake(TP)
        assert not event.is_set()

    asyncio.run(run())
