"""The state machine applies commands in order, and a snapshot of it makes an equal one."""

import pytest

from quorumlog.metadata.codec import CorruptRecord, encode_records
from quorumlog.metadata.image import Image
from quorumlog.metadata.machine import MetadataMachine, dump_image, load_image
from quorumlog.metadata.records import BrokerChange, ConfigRecord, ProducerIds, Record, RemoveTopic, ResourceKind, TopicRecord
from tests.metadata.given import broker_record, image_of, state, uuid

Heard = list[tuple[Image, tuple[Record, ...] | None]]


def machine_with_ears(cluster_id: str = "test") -> tuple[MetadataMachine, Heard]:
    heard: Heard = []
    return MetadataMachine(cluster_id, lambda image, records: heard.append((image, records))), heard


def test_each_entry_is_told_with_its_image() -> None:
    """Whoever listens gets every entry once, with the image after it."""
    machine, heard = machine_with_ears()
    first, second = (broker_record(1, 1),), (BrokerChange(1, 1, fenced=True, in_shutdown=False), ProducerIds(1000, 1))
    machine.apply(3, 1, encode_records(first))
    machine.apply(4, 1, encode_records(second))
    machine.apply(5, 2, b"")  # an entry without records still moves the index
    assert [(image.index, records) for image, records in heard] == [(3, first), (4, second), (5, ())]
    assert heard[-1][0] is machine.image and not machine.image.is_live(1)


def test_snapshot_makes_an_equal_machine() -> None:
    """Restoring a dump gives the same image, epochs of brokers that are gone included, and tells that all is new."""
    machine, _ = machine_with_ears()
    image = image_of(
        brokers=[broker_record(3, 1, rack="a"), broker_record(1, 5, fenced=True), broker_record(2, 9)],
        partitions=[state((1, 2, 3), (2, 3), leader=2, elr=(1,), leader_epoch=4, partition_epoch=8), state((2,), partition=1)],
        topic_configs={"retention.ms": "5"},
        broker_configs={"num.partitions": "3"},
    )
    machine.restore(40, dump_image(image))
    machine.apply(41, 3, encode_records((ProducerIds(5000, 2), TopicRecord("gone", uuid(7)), RemoveTopic(uuid(7)))))
    twin, heard = machine_with_ears()
    twin.restore(41, machine.dump())
    assert twin.image == machine.image and twin.dump() == machine.dump()
    assert (twin.image.index, twin.image.next_broker_epoch, twin.image.next_producer_id) == (41, 10, 5000)
    assert heard == [(twin.image, None)]


def test_equal_images_have_equal_bytes() -> None:
    """The order in which things came does not show in a snapshot."""
    settings = [ConfigRecord(ResourceKind.BROKER, str(n), key, "1") for n in range(3) for key in ("a", "b", "c")]
    one, two = machine_with_ears()[0], machine_with_ears()[0]
    one.apply(1, 1, encode_records(settings))
    two.apply(1, 1, encode_records(reversed(settings)))
    assert one.dump() == two.dump()


def test_foreign_and_damaged_snapshots_are_refused() -> None:
    """A snapshot of another cluster or of another shape never becomes our image."""
    machine, heard = machine_with_ears("ours")
    for data in (dump_image(Image(cluster_id="theirs")), b"\xff\xff", b""):
        with pytest.raises(CorruptRecord):
            machine.restore(1, data)
    assert machine.image == Image(cluster_id="ours") and not heard


def test_a_command_that_is_no_batch_is_refused() -> None:
    """Bytes that are no batch raise, and leave the image as it was."""
    machine, heard = machine_with_ears()
    with pytest.raises(CorruptRecord):
        machine.apply(1, 1, b"\xff\xff")
    assert machine.image.index == 0 and not heard


def test_load_is_the_inverse_of_dump() -> None:
    """An image survives on its own, too."""
    image = image_of(partitions=[state((1, 2, 3))], min_isr=2)
    assert load_image(dump_image(image)) == image
