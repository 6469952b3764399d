from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FollowerMessage(_message.Message):
    __slots__ = ("begins", "acknowledgments", "ends", "pauses", "resumes")
    BEGINS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGMENTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    PAUSES_FIELD_NUMBER: _ClassVar[int]
    RESUMES_FIELD_NUMBER: _ClassVar[int]
    begins: _containers.RepeatedCompositeFieldContainer[Begin]
    acknowledgments: _containers.RepeatedCompositeFieldContainer[Acknowledgment]
    ends: _containers.RepeatedScalarFieldContainer[int]
    pauses: _containers.RepeatedScalarFieldContainer[int]
    resumes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, begins: _Optional[_Iterable[_Union[Begin, _Mapping]]] = ..., acknowledgments: _Optional[_Iterable[_Union[Acknowledgment, _Mapping]]] = ..., ends: _Optional[_Iterable[int]] = ..., pauses: _Optional[_Iterable[int]] = ..., resumes: _Optional[_Iterable[int]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("handle", "topic_id", "partition", "leader_epoch", "fetch_offset", "flushed_offset", "last_epoch", "broker_epoch")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FETCH_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_EPOCH_FIELD_NUMBER: _ClassVar[int]
    BROKER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    handle: int
    topic_id: bytes
    partition: int
    leader_epoch: int
    fetch_offset: int
    flushed_offset: int
    last_epoch: int
    broker_epoch: int
    def __init__(self, handle: _Optional[int] = ..., topic_id: _Optional[bytes] = ..., partition: _Optional[int] = ..., leader_epoch: _Optional[int] = ..., fetch_offset: _Optional[int] = ..., flushed_offset: _Optional[int] = ..., last_epoch: _Optional[int] = ..., broker_epoch: _Optional[int] = ...) -> None: ...

class Acknowledgment(_message.Message):
    __slots__ = ("handle", "leader_epoch", "flushed_offset")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    FLUSHED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    handle: int
    leader_epoch: int
    flushed_offset: int
    def __init__(self, handle: _Optional[int] = ..., leader_epoch: _Optional[int] = ..., flushed_offset: _Optional[int] = ...) -> None: ...

class LeaderMessage(_message.Message):
    __slots__ = ("sections",)
    SECTIONS_FIELD_NUMBER: _ClassVar[int]
    sections: _containers.RepeatedCompositeFieldContainer[Section]
    def __init__(self, sections: _Optional[_Iterable[_Union[Section, _Mapping]]] = ...) -> None: ...

class Section(_message.Message):
    __slots__ = ("handle", "leader_epoch", "high_watermark", "log_start_offset", "size", "diverging", "reset_offset", "error_code")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    HIGH_WATERMARK_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DIVERGING_FIELD_NUMBER: _ClassVar[int]
    RESET_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    leader_epoch: int
    high_watermark: int
    log_start_offset: int
    size: int
    diverging: Divergence
    reset_offset: int
    error_code: int
    def __init__(self, handle: _Optional[int] = ..., leader_epoch: _Optional[int] = ..., high_watermark: _Optional[int] = ..., log_start_offset: _Optional[int] = ..., size: _Optional[int] = ..., diverging: _Optional[_Union[Divergence, _Mapping]] = ..., reset_offset: _Optional[int] = ..., error_code: _Optional[int] = ...) -> None: ...

class Divergence(_message.Message):
    __slots__ = ("epoch", "end_offset")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    end_offset: int
    def __init__(self, epoch: _Optional[int] = ..., end_offset: _Optional[int] = ...) -> None: ...
