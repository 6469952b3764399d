"""Messages from a leader to a follower, as bytes."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.node.replication_messages import BadMessage, decode_leader_message, encode_leader_message
from quorumlog.proto.replication_pb2 import LeaderMessage

SECTIONS = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.integers(-1, 2**31 - 1), st.binary(max_size=50)), max_size=5)


def encoded(sections: list[tuple[int, int, bytes]]) -> bytes:
    message = LeaderMessage()
    for handle, epoch, records in sections:
        message.sections.add(handle=handle, leader_epoch=epoch, high_watermark=7, log_start_offset=3, size=len(records))
    return b"".join(bytes(part) for part in encode_leader_message(message, [records for _, _, records in sections]))


@given(SECTIONS)
def test_sections_come_with_their_records(sections: list[tuple[int, int, bytes]]) -> None:
    """In order, each with as many bytes as it says, which are views of the message."""
    data = encoded(sections)
    found = [(section.handle, section.leader_epoch, bytes(records)) for section, records in decode_leader_message(data)]
    assert found == sections
    assert all(records.obj is data for _, records in decode_leader_message(data))


@given(st.binary(max_size=200))
def test_strange_bytes_are_no_message(data: bytes) -> None:
    """They parse, or are refused; nothing else happens."""
    with contextlib.suppress(BadMessage):
        list(decode_leader_message(data))


@given(SECTIONS, st.data())
def test_a_damaged_message_is_refused_or_whole(sections: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    """Cut short or longer than it says: never a section with other bytes than its own."""
    whole = encoded(sections)
    size = data.draw(st.integers(0, len(whole)))
    if size == len(whole):
        with pytest.raises(BadMessage):
            list(decode_leader_message(whole + b"x"))
    elif any(records for _, _, records in sections) or size < 4:
        with pytest.raises(BadMessage):
            list(decode_leader_message(whole[:size]))
