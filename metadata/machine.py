"""The cluster image as the quorum's state machine: fed with committed commands, saved and loaded as a snapshot.

Lives as long as the node; owned by whoever applies the metadata log. A snapshot is an image written as the records that make
it anew (proto `Snapshot`), in one fixed order, so that equal images have equal bytes on every node.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from immutables import Map

from quorumlog.proto import metadata_pb2

from .codec import decode_records, record_messages, records_of
from .image import Image
from .mapping import parse
from .records import (
    ConfigRecord,
    CorruptRecord,
    PartitionRecord,
    ProducerIds,
    Record,
    RegisterBroker,
    ResourceKind,
    TopicRecord,
)
from .replay import replay_all

FORMAT = 1
NOBODY = -1

OnImage = Callable[[Image, tuple[Record, ...] | None], None]


class MetadataMachine:
    """Calls `on_image(image, records)` after each entry, with records None where a snapshot replaced everything."""

    def __init__(self, cluster_id: str, on_image: OnImage) -> None:
        self.image = Image(cluster_id=cluster_id)
        self._on_image = on_image

    def apply(self, index: int, term: int, command: bytes) -> None:
        """One committed entry. Raises CorruptRecord, after which the node must stop."""
        assert index > self.image.index, (index, self.image.index, term)
        records = decode_records(command)
        self.image = replay_all(self.image, records, index)
        self._on_image(self.image, records)

    def dump(self) -> bytes:
        """The image as a snapshot. The image never changes, so `dump_image(machine.image)` may also run elsewhere."""
        return dump_image(self.image)

    def restore(self, index: int, data: bytes) -> None:
        """Replace everything by a snapshot of the state after `index`. Raises CorruptRecord."""
        image = load_image(data)
        if image.cluster_id != self.image.cluster_id:
            raise CorruptRecord(f"snapshot of cluster {image.cluster_id!r}, this is cluster {self.image.cluster_id!r}")
        self.image = replace(image, index=index)
        self._on_image(self.image, None)


def dump_image(image: Image) -> bytes:
    return metadata_pb2.Snapshot(
        format=FORMAT,
        cluster_id=image.cluster_id,
        index=image.index,
        next_broker_epoch=image.next_broker_epoch,
        records=record_messages(records_that_make(image)),
    ).SerializeToString(deterministic=True)


def load_image(data: bytes) -> Image:
    """Raises CorruptRecord."""
    try:
        snapshot = parse(metadata_pb2.Snapshot, data)
        records = records_of(snapshot.records)
    except ValueError as error:
        raise CorruptRecord(f"metadata snapshot of {len(data)} bytes: {error}") from error
    if snapshot.format != FORMAT:
        raise CorruptRecord(f"metadata snapshot of format {snapshot.format}; this version reads {FORMAT}")
    image = replay_all(Image(cluster_id=snapshot.cluster_id), records, snapshot.index)
    return replace(image, next_broker_epoch=snapshot.next_broker_epoch)


def records_that_make(image: Image) -> Iterator[Record]:
    """Everything but cluster id, index and next broker epoch, in one fixed order."""
    # By epoch, as they came: replay demands that epochs rise.
    for broker in sorted(image.brokers.values(), key=lambda broker: broker.broker_epoch):
        yield RegisterBroker(**{name: getattr(broker, name) for name in broker.__slots__})
    for name, topic in sorted(image.topics.items()):
        yield TopicRecord(name, topic.topic_id)
        for _, state in sorted(topic.partitions.items()):
            yield PartitionRecord(state)
        yield from _configs_that_make(ResourceKind.TOPIC, name, image.topic_configs)
    for name in sorted(image.broker_configs):
        yield from _configs_that_make(ResourceKind.BROKER, name, image.broker_configs)
    for name in sorted(image.group_configs):
        yield from _configs_that_make(ResourceKind.GROUP, name, image.group_configs)
    if image.next_producer_id:
        yield ProducerIds(image.next_producer_id, NOBODY)


def _configs_that_make(kind: ResourceKind, name: str, configs: Map[str, Map[str, str]]) -> Iterator[Record]:
    for key, value in sorted(configs.get(name, {}).items()):
        yield ConfigRecord(kind, name, key, value)
