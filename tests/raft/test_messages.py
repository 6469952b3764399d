"""The door for frames: what passes is well formed, within bounds, from a voter and for us."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.proto import raft_pb2 as pb
from quorumlog.raft import messages as m
from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import BadFrame
from quorumlog.raft.journal import Entry
from tests.raft.cluster import Cluster

CONFIG = QuorumConfig(node_id=1, voters=(1, 2, 3), command_bytes_max=50)
TERM = 9
numbers = st.integers(1, 1 << 40)
terms = st.integers(0, TERM)


@st.composite
def appends(draw: st.DrawFn) -> m.AppendEntries:
    prev_index, in_order = draw(numbers), sorted(draw(st.lists(terms, min_size=1, max_size=6)))
    commands = st.one_of(st.just(b"\x01"), st.binary(max_size=50).map(lambda payload: b"\x00" + payload))
    entries = tuple(Entry(draw(commands), prev_index + 1 + place, term) for place, term in enumerate(in_order[1:]))
    return m.AppendEntries(prev_index, in_order[0], draw(numbers), entries)


@st.composite
def chunks(draw: st.DrawFn) -> m.SnapshotChunk:
    data, before, behind = draw(st.binary(min_size=1, max_size=99)), draw(st.integers(0, 999)), draw(st.integers(0, 999))
    return m.SnapshotChunk(draw(numbers), draw(terms), before, before + len(data) + behind, data)


MESSAGES: st.SearchStrategy[m.Message] = st.one_of(
    st.builds(m.PreVote, numbers, terms),
    st.builds(m.PreVoteReply, numbers, st.booleans()),
    st.builds(m.RequestVote, numbers, terms),
    st.builds(m.Vote),
    appends(),
    st.builds(m.AppendReply, numbers, st.sampled_from(m.AppendOutcome)),
    st.builds(m.Heartbeat),
    chunks(),
    st.builds(m.SnapshotReply, numbers, numbers),
    st.builds(m.HigherTerm),
    st.builds(m.TimeoutNow),
)


@given(message=MESSAGES, round_=numbers)
def test_every_message_survives_its_bytes(message: m.Message, round_: int) -> None:
    """What one voter says is what the other hears."""
    envelope = m.Envelope(2, 1, TERM, round_, message)
    assert m.decode(m.encode(envelope), 2, CONFIG) == envelope


@given(message=MESSAGES, place=st.integers(0), value=st.integers(0, 255))
def test_damaged_frames_are_refused_or_still_within_bounds(message: m.Message, place: int, value: int) -> None:
    """No byte that differs makes the door raise anything but BadFrame."""
    frame = bytearray(m.encode(m.Envelope(2, 1, TERM, 1, message)))
    frame[place % len(frame)] = value
    _try(bytes(frame))


@given(frame=st.binary(max_size=200))
def test_rubbish_is_refused(frame: bytes) -> None:
    """Random bytes are never a message that does anything, and never an error of another kind."""
    _try(frame)


def _try(frame: bytes) -> None:
    with contextlib.suppress(BadFrame):
        m.decode(frame, 2, CONFIG)


def append_frame(**changes: object) -> pb.Envelope:
    append = pb.AppendEntries(prev_index=1, prev_term=0, commit_index=1, entries=[pb.Entry(term=5, command=b"\x00x")])
    frame = pb.Envelope(source=2, destination=1, term=5, append_entries=append)
    for name, value in changes.items():
        setattr(frame, name, value)
    return frame


def with_entries(*entries: tuple[int, bytes]) -> pb.Envelope:
    frame = append_frame()
    del frame.append_entries.entries[:]
    frame.append_entries.entries.extend(pb.Entry(term=term, command=command) for term, command in entries)
    return frame


def with_append(**changes: int) -> pb.Envelope:
    frame = append_frame()
    for name, value in changes.items():
        setattr(frame.append_entries, name, value)
    return frame


def chunk_frame(**changes: object) -> pb.Envelope:
    fields = {"index": 5, "snapshot_term": 1, "offset": 0, "total_bytes": 10, "data": b"abc"} | changes
    return pb.Envelope(source=2, destination=1, term=5, snapshot_chunk=pb.SnapshotChunk(**fields))  # type: ignore[arg-type]


HOSTILE = {
    "claims another source": append_frame(source=3),
    "meant for another node": append_frame(destination=2),
    "a term out of bounds": append_frame(term=1 << 63),
    "a round out of bounds": append_frame(round=1 << 63),
    "no message": pb.Envelope(source=2, destination=1, term=5),
    "an entry of a later term than the leader's": with_entries((6, b"\x00x")),
    "entry terms that go back": with_entries((5, b"\x00x"), (4, b"\x00y")),
    "an entry before the previous one's term": with_append(prev_term=6),
    "an empty command": with_entries((5, b"")),
    "a command of an unknown kind": with_entries((5, b"\x02x")),
    "a no-op with a load": with_entries((5, b"\x01x")),
    "a command over the limit": with_entries((5, b"\x00" + bytes(51))),
    "no previous index": with_append(prev_index=0),
    "no commit index": with_append(commit_index=0),
    "an unknown outcome": pb.Envelope(source=2, destination=1, term=5, append_reply=pb.AppendReply(next_index=1)),
    "a chunk beyond its end": chunk_frame(offset=9),
    "an empty chunk": chunk_frame(data=b""),
    "a snapshot over the limit": chunk_frame(total_bytes=1 << 40),
    "a log end in a later term": pb.Envelope(
        source=2, destination=1, term=5, request_vote=pb.RequestVote(last_log_index=1, last_log_term=6)
    ),
}
hostile = pytest.mark.parametrize("frame", HOSTILE.values(), ids=HOSTILE.keys())


@hostile
def test_hostile_frames_are_refused_and_change_nothing(frame: pb.Envelope) -> None:
    """A bad frame raises BadFrame, and the voter is what it was before."""
    cluster = Cluster(3, command_bytes_max=50).start_all()
    before, log = cluster.nodes[1].status(), cluster.log_of(1)
    with pytest.raises(BadFrame):
        cluster.nodes[1].on_message(2, frame.SerializeToString())
    assert (cluster.nodes[1].status(), cluster.log_of(1)) == (before, log)
    assert not cluster.links.queues[1, 2]


def test_the_checks_are_what_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checks out (S3) a hostile frame is taken in."""
    monkeypatch.setattr(m, "_require", lambda holds, complaint: None)
    cluster = Cluster(3, command_bytes_max=50).start_all()
    cluster.nodes[1].on_message(2, HOSTILE["a command over the limit"].SerializeToString())
    assert len(cluster.log_of(1)) == 2


def test_strangers_and_giants_are_refused() -> None:
    """A node that is no voter has no say, and no frame may be larger than a valid one can be."""
    stranger = m.encode(m.Envelope(7, 1, TERM, 0, m.Vote()))
    with pytest.raises(BadFrame, match="voters"):
        m.decode(stranger, 7, CONFIG)
    with pytest.raises(BadFrame, match="bytes"):
        m.decode(bytes(CONFIG.frame_bytes_max + 1), 2, CONFIG)
