"""Offsets by time, where the leader has just changed."""

from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.list_offsets import handle_list_offsets
from quorumlog.partitions.partition import Role
from quorumlog.wire.errors import ErrorCode

LATEST, EARLIEST, MAX_TIMESTAMP = -1, -2, -3


class FakePartition:
    """A new leader that holds 10 records, of which it knows the first 5 to be committed."""

    role = Role.LEADER
    leader_epoch = 7
    log_start_offset = 0
    high_watermark = last_stable_offset = 5
    knows_committed = False

    def check_leads(self, leader_epoch: int) -> None:
        pass

    def epoch_at(self, offset: int) -> int:
        return offset

    def max_timestamp(self, *, isolation_committed: bool) -> tuple[int, int]:
        return 4000, 4

    def offset_for_timestamp(self, timestamp: int, *, isolation_committed: bool) -> tuple[int, int, int] | None:
        return (timestamp // 1000, timestamp, 7) if timestamp < 5000 else None


def ask(partition: Any, timestamp: int, version: int) -> dict[str, Any]:
    services: Any = SimpleNamespace(replicas=SimpleNamespace(get=lambda _tp, _image: partition), image=None)
    wanted = SimpleNamespace(partition_index=0, timestamp=timestamp, current_leader_epoch=-1)
    message = SimpleNamespace(isolation_level=0, topics=[SimpleNamespace(name="t", partitions=[wanted])])
    answer: dict[str, Any] = handle_list_offsets(services, Call(version, message, None, ""))["topics"][0]["partitions"][0]
    return answer


@pytest.mark.parametrize(("version", "code"), [(4, ErrorCode.leader_not_available), (5, ErrorCode.offset_not_available)])
def test_a_new_leader_does_not_guess_the_end(version: int, code: ErrorCode) -> None:
    """The last one may have told readers of a later end (KIP-207); what surely is committed is answered meanwhile."""
    for timestamp in (LATEST, MAX_TIMESTAMP, 5000) if version >= 7 else (LATEST, 5000):
        refused = ask(FakePartition(), timestamp, version)
        assert (refused["error_code"], refused["offset"]) == (code, -1)
    assert ask(FakePartition(), EARLIEST, version)["offset"] == 0
    assert ask(FakePartition(), 3000, version)["offset"] == 3


def test_each_offset_has_the_epoch_of_its_record() -> None:
    """A reader that begins there can have it checked by OffsetForLeaderEpoch; the end has the epoch of the leader."""
    partition = FakePartition()
    partition.knows_committed, partition.log_start_offset = True, 2
    assert [ask(partition, timestamp, 7)["leader_epoch"] for timestamp in (LATEST, EARLIEST, MAX_TIMESTAMP)] == [7, 2, 4]


@pytest.mark.parametrize(("timestamp", "first"), [(-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99)])
def test_what_a_version_does_not_know_is_unsupported(timestamp: int, first: int) -> None:
    """UNSUPPORTED_VERSION, as Kafka says: a client that gets it asks for something else. Nothing is tiered here."""
    partition = FakePartition()
    partition.knows_committed = True
    for version in range(1, 12):
        answer = ask(partition, timestamp, version)
        assert (answer["error_code"] == ErrorCode.unsupported_version) is (version < first)
        assert timestamp in (-3, -4) or answer["offset"] == -1


def test_once_it_knows_it_answers() -> None:
    """The end, the newest, and nothing where there is nothing so new."""
    partition = FakePartition()
    partition.knows_committed = True
    assert [ask(partition, timestamp, 7)["offset"] for timestamp in (LATEST, MAX_TIMESTAMP, 5000)] == [5, 4, -1]
    assert all(ask(partition, timestamp, 7)["error_code"] is ErrorCode.none for timestamp in (LATEST, MAX_TIMESTAMP, 5000))
