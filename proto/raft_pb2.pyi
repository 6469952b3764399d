from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Envelope(_message.Message):
    __slots__ = ("source", "destination", "term", "round", "pre_vote", "pre_vote_reply", "request_vote", "vote", "append_entries", "append_reply", "heartbeat", "snapshot_chunk", "snapshot_reply", "higher_term", "timeout_now")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_REPLY_FIELD_NUMBER: _ClassVar[int]
    HIGHER_TERM_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    source: int
    destination: int
    term: int
    round: int
    pre_vote: PreVote
    pre_vote_reply: PreVoteReply
    request_vote: RequestVote
    vote: Vote
    append_entries: AppendEntries
    append_reply: AppendReply
    heartbeat: Heartbeat
    snapshot_chunk: SnapshotChunk
    snapshot_reply: SnapshotReply
    higher_term: HigherTerm
    timeout_now: TimeoutNow
    def __init__(self, source: _Optional[int] = ..., destination: _Optional[int] = ..., term: _Optional[int] = ..., round: _Optional[int] = ..., pre_vote: _Optional[_Union[PreVote, _Mapping]] = ..., pre_vote_reply: _Optional[_Union[PreVoteReply, _Mapping]] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., vote: _Optional[_Union[Vote, _Mapping]] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_reply: _Optional[_Union[AppendReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ..., snapshot_reply: _Optional[_Union[SnapshotReply, _Mapping]] = ..., higher_term: _Optional[_Union[HigherTerm, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ...) -> None: ...

class PreVote(_message.Message):
    __slots__ = ("last_log_index", "last_log_term")
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    last_log_index: int
    last_log_term: int
    def __init__(self, last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ...) -> None: ...

class PreVoteReply(_message.Message):
    __slots__ = ("proposed_term", "granted")
    PROPOSED_TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    proposed_term: int
    granted: bool
    def __init__(self, proposed_term: _Optional[int] = ..., granted: _Optional[bool] = ...) -> None: ...

class RequestVote(_message.Message):
    __slots__ = ("last_log_index", "last_log_term")
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    last_log_index: int
    last_log_term: int
    def __init__(self, last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("prev_index", "prev_term", "commit_index", "entries")
    PREV_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    prev_index: int
    prev_term: int
    commit_index: int
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    def __init__(self, prev_index: _Optional[int] = ..., prev_term: _Optional[int] = ..., commit_index: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("term", "command")
    TERM_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    term: int
    command: bytes
    def __init__(self, term: _Optional[int] = ..., command: _Optional[bytes] = ...) -> None: ...

class AppendReply(_message.Message):
    __slots__ = ("next_index", "outcome")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[AppendReply.Outcome]
        MATCHES: _ClassVar[AppendReply.Outcome]
        MISSING: _ClassVar[AppendReply.Outcome]
        CONFLICTS: _ClassVar[AppendReply.Outcome]
    OUTCOME_UNSPECIFIED: AppendReply.Outcome
    MATCHES: AppendReply.Outcome
    MISSING: AppendReply.Outcome
    CONFLICTS: AppendReply.Outcome
    NEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    next_index: int
    outcome: AppendReply.Outcome
    def __init__(self, next_index: _Optional[int] = ..., outcome: _Optional[_Union[AppendReply.Outcome, str]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("index", "snapshot_term", "offset", "total_bytes", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TERM_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    snapshot_term: int
    offset: int
    total_bytes: int
    data: bytes
    def __init__(self, index: _Optional[int] = ..., snapshot_term: _Optional[int] = ..., offset: _Optional[int] = ..., total_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotReply(_message.Message):
    __slots__ = ("index", "received_bytes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    index: int
    received_bytes: int
    def __init__(self, index: _Optional[int] = ..., received_bytes: _Optional[int] = ...) -> None: ...

class HigherTerm(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
