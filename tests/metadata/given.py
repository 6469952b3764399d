"""Short ways to write "given this image" in the metadata tests."""

from collections.abc import Iterable
from uuid import UUID

from quorumlog.metadata.image import Endpoint, Image, PartitionState
from quorumlog.metadata.records import ConfigRecord, PartitionRecord, Record, RegisterBroker, ResourceKind, TopicRecord
from quorumlog.metadata.replay import replay_all

TOPIC_ID = UUID(int=0x70)


def uuid(number: int) -> UUID:
    return UUID(int=number)


def broker_record(node_id: int, epoch: int, *, fenced: bool = False, rack: str | None = None, disk: int = 0) -> RegisterBroker:
    """Node n with incarnation n*100+epoch, and storage n (or `disk`)."""
    return RegisterBroker(
        node_id=node_id,
        broker_epoch=epoch,
        incarnation_id=uuid(node_id * 100 + epoch),
        storage_id=uuid(disk or node_id),
        kafka=Endpoint(f"kafka{node_id}", 9092),
        peer=Endpoint(f"peer{node_id}", 9192),
        rack=rack,
        fenced=fenced,
        in_shutdown=False,
    )


def state(
    replicas: tuple[int, ...],
    isr: tuple[int, ...] | None = None,
    *,
    leader: int | None = None,
    elr: tuple[int, ...] = (),
    partition: int = 0,
    topic_id: UUID = TOPIC_ID,
    leader_epoch: int = 0,
    partition_epoch: int = 0,
) -> PartitionState:
    """A partition led by its first replica, all in sync, unless said otherwise."""
    isr = tuple(sorted(replicas)) if isr is None else isr
    return PartitionState(
        topic_id=topic_id,
        partition=partition,
        replicas=replicas,
        isr=isr,
        elr=elr,
        leader=replicas[0] if leader is None else leader,
        leader_epoch=leader_epoch,
        partition_epoch=partition_epoch,
    )


def image_of(
    brokers: Iterable[int | RegisterBroker] = (1, 2, 3),
    partitions: Iterable[PartitionState] = (),
    *,
    min_isr: int | None = None,
    topic_configs: dict[str, str] | None = None,
    broker_configs: dict[str, str] | None = None,
) -> Image:
    """Live brokers with epochs 1, 2, ..., and one topic "events" with these partitions; min_isr is the cluster's default."""
    records: list[Record] = []
    for epoch, broker in enumerate(brokers, start=1):
        records.append(broker_record(broker, epoch) if isinstance(broker, int) else broker)
    defaults = dict(broker_configs or {}) | ({} if min_isr is None else {"min.insync.replicas": str(min_isr)})
    records += [ConfigRecord(ResourceKind.BROKER, "", key, value) for key, value in defaults.items()]
    partitions = list(partitions)
    if partitions:
        records.append(TopicRecord("events", TOPIC_ID))
        records += [ConfigRecord(ResourceKind.TOPIC, "events", key, value) for key, value in (topic_configs or {}).items()]
        records += [PartitionRecord(held) for held in partitions]
    return replay_all(Image(cluster_id="test"), records, index=1)
