"""Records of `__consumer_offsets` to bytes and back: the first two bytes of a key say which kind it is."""

from quorumlog.metadata.records import CorruptRecord

from . import consumer_records, records
from .consumer_records import CONSUMER_KEY_TYPES, ConsumerRecord
from .records import GroupMetadata, OffsetCommit
from .results import LogRecord

__all__ = ["CorruptRecord", "Record", "decode_record", "encode_record"]

Record = OffsetCommit | GroupMetadata | ConsumerRecord


def encode_record(record: Record) -> LogRecord:
    module = records if isinstance(record, OffsetCommit | GroupMetadata) else consumer_records
    return LogRecord(module.encode_key(record), module.encode_value(record))


def decode_record(key: bytes, value: bytes | None) -> Record | None:
    """None for a kind that this version does not know. Raises CorruptRecord."""
    if len(key) < 2:
        raise CorruptRecord(f"group record with a key of {len(key)} bytes")
    key_type = int.from_bytes(key[:2], "big")
    if key_type in CONSUMER_KEY_TYPES:
        return consumer_records.decode(key_type, key, value)
    return records.decode(key_type, key, value)
