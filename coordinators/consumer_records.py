"""The records of consumer groups (KIP-848) in `__consumer_offsets`, in Apache Kafka's own format."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsumerGroupMetadata:
    """Key type 3. `epoch` None is a tombstone."""

    group_id: str
    epoch: int | None


ConsumerRecord = ConsumerGroupMetadata
CONSUMER_KEY_TYPES = range(3, 17)


def encode_key(record: ConsumerRecord) -> bytes:
    raise NotImplementedError


def encode_value(record: ConsumerRecord) -> bytes | None:
    raise NotImplementedError


def decode(key_type: int, key: bytes, value: bytes | None) -> ConsumerRecord | None:
    """None for a type that this version does not know. Raises CorruptRecord."""
    raise NotImplementedError
