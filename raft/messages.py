"""What voters say to each other, as frozen values, and their bytes.

`decode` is the door: whatever passes it is well formed and within bounds, so that nothing behind it checks again.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from google.protobuf.message import DecodeError

from quorumlog.proto import raft_pb2 as pb
from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import BadFrame
from quorumlog.raft.journal import COMMAND, NO_OP, Entry

NUMBER_MAX = 1 << 62
"""Terms, indices and rounds stay below it, so that no arithmetic on them can overflow a store's eight bytes."""


@dataclass(frozen=True, slots=True)
class PreVote:
    last_log_index: int
    last_log_term: int


@dataclass(frozen=True, slots=True)
class PreVoteReply:
    proposed_term: int
    granted: bool


@dataclass(frozen=True, slots=True)
class RequestVote:
    last_log_index: int
    last_log_term: int


@dataclass(frozen=True, slots=True)
class Vote:
    pass


@dataclass(frozen=True, slots=True)
class AppendEntries:
    prev_index: int
    prev_term: int
    commit_index: int
    entries: tuple[Entry, ...]


class AppendOutcome(IntEnum):
    MATCHES = 1
    MISSING = 2
    CONFLICTS = 3


@dataclass(frozen=True, slots=True)
class AppendReply:
    next_index: int
    outcome: AppendOutcome


@dataclass(frozen=True, slots=True)
class Heartbeat:
    pass


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    index: int
    snapshot_term: int
    offset: int
    total_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SnapshotReply:
    index: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class HigherTerm:
    pass


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    pass


Message = (
    PreVote
    | PreVoteReply
    | RequestVote
    | Vote
    | AppendEntries
    | AppendReply
    | Heartbeat
    | SnapshotChunk
    | SnapshotReply
    | HigherTerm
    | TimeoutNow
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One frame. `term` is the sender's current term; `round` ties acknowledgments to read barriers."""

    source: int
    destination: int
    term: int
    round: int
    message: Message


def encode(envelope: Envelope) -> bytes:
    frame = pb.Envelope(source=envelope.source, destination=envelope.destination, term=envelope.term, round=envelope.round)
    match envelope.message:
        case PreVote(index, term):
            frame.pre_vote.CopyFrom(pb.PreVote(last_log_index=index, last_log_term=term))
        case PreVoteReply(proposed_term, granted):
            frame.pre_vote_reply.CopyFrom(pb.PreVoteReply(proposed_term=proposed_term, granted=granted))
        case RequestVote(index, term):
            frame.request_vote.CopyFrom(pb.RequestVote(last_log_index=index, last_log_term=term))
        case Vote():
            frame.vote.SetInParent()
        case AppendEntries() as append:
            _fill_append(frame.append_entries, append)
        case AppendReply(next_index, outcome):
            frame.append_reply.CopyFrom(pb.AppendReply(next_index=next_index, outcome=outcome.name))
        case Heartbeat():
            frame.heartbeat.SetInParent()
        case SnapshotChunk(index, term, offset, total_bytes, data):
            frame.snapshot_chunk.CopyFrom(
                pb.SnapshotChunk(index=index, snapshot_term=term, offset=offset, total_bytes=total_bytes, data=data)
            )
        case SnapshotReply(index, received_bytes):
            frame.snapshot_reply.CopyFrom(pb.SnapshotReply(index=index, received_bytes=received_bytes))
        case HigherTerm():
            frame.higher_term.SetInParent()
        case TimeoutNow():
            frame.timeout_now.SetInParent()
        case _:
            assert_never(envelope.message)
    return frame.SerializeToString(deterministic=True)


def _fill_append(frame: pb.AppendEntries, append: AppendEntries) -> None:
    frame.prev_index, frame.prev_term, frame.commit_index = append.prev_index, append.prev_term, append.commit_index
    frame.SetInParent()
    for entry in append.entries:
        frame.entries.add(term=entry.term, command=entry.command)


def decode(frame: bytes, sender: int, config: QuorumConfig) -> Envelope:
    """Parse and check a frame that `sender` (as its connection proved) sent to us. Raises BadFrame."""
    _require(len(frame) <= config.frame_bytes_max, f"{len(frame)} bytes, at most {config.frame_bytes_max} are allowed")
    try:
        parsed = pb.Envelope.FromString(frame)
    except DecodeError as error:
        raise BadFrame("raft frame: not a protobuf Envelope") from error
    # A frame that names another source than its connection is a lie; one from a non-voter has no say here.
    _require(
        parsed.source == sender and sender in config.peers, f"from {sender}, claims {parsed.source}, voters are {config.voters}"
    )
    _require(parsed.destination == config.node_id, f"meant for node {parsed.destination}, this is node {config.node_id}")
    _number("term", parsed.term)
    _number("round", parsed.round)
    return Envelope(sender, config.node_id, parsed.term, parsed.round, _message(parsed, config))


def _message(frame: pb.Envelope, config: QuorumConfig) -> Message:
    match frame.WhichOneof("message"):
        case "pre_vote":
            return PreVote(*_log_end(frame.pre_vote, frame.term))
        case "pre_vote_reply":
            return PreVoteReply(_number("proposed term", frame.pre_vote_reply.proposed_term), frame.pre_vote_reply.granted)
        case "request_vote":
            return RequestVote(*_log_end(frame.request_vote, frame.term))
        case "vote":
            return Vote()
        case "append_entries":
            return _append(frame.append_entries, frame.term, config)
        case "append_reply":
            return _append_reply(frame.append_reply)
        case "heartbeat":
            return Heartbeat()
        case "snapshot_chunk":
            return _snapshot_chunk(frame.snapshot_chunk, frame.term, config)
        case "snapshot_reply":
            return SnapshotReply(
                _number("index", frame.snapshot_reply.index), _number("received", frame.snapshot_reply.received_bytes)
            )
        case "higher_term":
            return HigherTerm()
        case "timeout_now":
            return TimeoutNow()
        case unknown:
            raise BadFrame(f"raft frame: no known message in it ({unknown})")


def _log_end(vote: pb.PreVote | pb.RequestVote, term: int) -> tuple[int, int]:
    index = _number("last log index", vote.last_log_index, lowest=1)
    return index, _number("last log term", vote.last_log_term, highest=term)


def _append(frame: pb.AppendEntries, term: int, config: QuorumConfig) -> AppendEntries:
    prev_index = _number("previous index", frame.prev_index, lowest=1)
    prev_term = _number("previous term", frame.prev_term, highest=term)
    entries = tuple(Entry(entry.command, prev_index + place, entry.term) for place, entry in enumerate(frame.entries, start=1))
    lowest = prev_term
    for entry in entries:
        lowest = _number(f"term of entry {entry.index}", entry.term, lowest=lowest, highest=term)
        _require_command(entry, config)
    return AppendEntries(prev_index, prev_term, _number("commit index", frame.commit_index, lowest=1), entries)


def _require_command(entry: Entry, config: QuorumConfig) -> None:
    size, kind = len(entry.command), entry.command[:1]
    allowed = (kind == bytes([COMMAND]) and size <= config.command_bytes_max + 1) or entry.command == bytes([NO_OP])
    _require(
        allowed, f"entry {entry.index} is of kind {kind!r} with {size} bytes, commands have at most {config.command_bytes_max}"
    )


def _append_reply(frame: pb.AppendReply) -> AppendReply:
    try:
        outcome = AppendOutcome(frame.outcome)
    except ValueError as error:
        raise BadFrame(f"raft frame: unknown outcome {frame.outcome} of an append") from error
    return AppendReply(_number("next index", frame.next_index, lowest=1), outcome)


def _snapshot_chunk(frame: pb.SnapshotChunk, term: int, config: QuorumConfig) -> SnapshotChunk:
    index = _number("snapshot index", frame.index, lowest=1)
    snapshot_term = _number("snapshot term", frame.snapshot_term, highest=term)
    total = _number("snapshot size", frame.total_bytes, lowest=1, highest=config.snapshot_bytes_max)
    offset = _number("snapshot offset", frame.offset, highest=total - 1)
    _require(0 < len(frame.data) <= total - offset, f"chunk of {len(frame.data)} bytes at {offset} of {total}")
    return SnapshotChunk(index, snapshot_term, offset, total, frame.data)


def _number(name: str, value: int, lowest: int = 0, highest: int = NUMBER_MAX) -> int:
    _require(lowest <= value <= min(highest, NUMBER_MAX), f"{name} is {value}, {lowest} to {highest} are allowed")
    return value


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise BadFrame(f"raft frame: {complaint}")
