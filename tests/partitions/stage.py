"""What the tests of partitions stand on: a node's disk and store, batches, and the shorthand of opening and flushing."""

import random
from uuid import UUID

from quorumlog.host.ports import Buffer, KVStore, WriteBatch
from quorumlog.metadata.image import PartitionState
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.flush import sync_together
from quorumlog.partitions.partition import Partition, PartitionSettings
from quorumlog.wire.batches import HEADER, BatchHeader, iterate_headers
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.records import Record, build_batch, sealed
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

TP = TopicPartition("orders", 0)
TOPIC_ID = UUID(int=7)
TINY = TopicConfig(segment_bytes=1024, index_interval_bytes=100)
SETTINGS = PartitionSettings(checkpoint_interval_bytes=2048)


def batch_of(
    values: list[bytes],
    *,
    timestamp: int = 1000,
    producer_id: int = -1,
    producer_epoch: int = 0,
    base_sequence: int = -1,
) -> bytes:
    """What a producer sends."""
    records = [Record(offset=i, timestamp=timestamp + i, value=value) for i, value in enumerate(values)]
    if producer_id < 0:
        return build_batch(records)
    return build_batch(records, producer_id=producer_id, producer_epoch=producer_epoch, base_sequence=base_sequence)


def changed(batch: bytes, **fields: int) -> bytes:
    """The batch with other header fields, and a CRC that matches them."""
    header = BatchHeader._make(HEADER.unpack_from(batch))._replace(**fields)
    return sealed(HEADER.pack(*header) + batch[HEADER.size :])


def state_of(
    *,
    leader: int,
    leader_epoch: int,
    partition_epoch: int,
    isr: tuple[int, ...] = (1,),
    replicas: tuple[int, ...] = (1,),
    topic_id: UUID = TOPIC_ID,
) -> PartitionState:
    return PartitionState(
        topic_id=topic_id,
        partition=0,
        replicas=replicas,
        isr=isr,
        elr=(),
        leader=leader,
        leader_epoch=leader_epoch,
        partition_epoch=partition_epoch,
    )


class Host:
    """One node's disk and store."""

    def __init__(
        self, seed: int = 1, *, node_id: int = 1, config: TopicConfig = TINY, settings: PartitionSettings = SETTINGS
    ) -> None:
        rng = random.Random(seed)
        self.node_id = node_id
        self.disk = SimDisk(rng)
        self.store = SimStore(rng)
        self.config = config
        self.settings = settings

    def open(self, *, wall_ms: int = 1000) -> Partition:
        return Partition.open(
            TP,
            TOPIC_ID,
            node_id=self.node_id,
            disk=self.disk,
            store=self.store,
            config=self.config,
            settings=self.settings,
            now=0.0,
            wall_ms=wall_ms,
        )

    def lead(self, partition: Partition, *, leader_epoch: int = 1) -> Partition:
        """Alone in the in-sync set."""
        partition.apply_state(
            state_of(
                leader=self.node_id,
                leader_epoch=leader_epoch,
                partition_epoch=partition.partition_epoch + 1,
                isr=(self.node_id,),
                replicas=(self.node_id,),
            ),
            0.0,
        )
        return partition

    def leader(self, *, leader_epoch: int = 1) -> Partition:
        return self.lead(self.open(), leader_epoch=leader_epoch)

    def crash(self, *, power: bool) -> None:
        self.disk.crash(power=power)
        self.store.crash(power=power)
        self.store.reopen()

    @property
    def directory(self) -> str:
        return f"logs/orders-0-{TOPIC_ID.hex}"

    def segment_names(self) -> list[str]:
        return self.disk.list(self.directory)

    def flush(self, partition: Partition, *, sync_store: bool = False) -> bool:
        """One round of the flusher."""
        moved = flush_round(partition, self.store)
        if moved is not None and sync_store:
            self.store.sync()
        return bool(moved)


def flush_round(partition: Partition, store: KVStore) -> bool | None:
    """As the node's flusher does, of one partition alone: whether the high watermark moved, None if there was nothing to do."""
    flush = partition.begin_flush()
    if flush is None:
        return None
    sync_together([flush])
    batch = WriteBatch()
    flush.checkpoint(batch)
    store.write(batch)
    return partition.end_flush(flush)


def send(partition: Partition, values: list[bytes], *, timestamp: int = 1000, wall_ms: int = 1000, **producer: int) -> int:
    """Append a batch as a client does; its base offset."""
    return partition.append(batch_of(values, timestamp=timestamp, **producer), acks=1, now=0.0, wall_ms=wall_ms).base_offset


def joined(buffers: list[Buffer]) -> bytes:
    return b"".join(bytes(buffer) for buffer in buffers)


def stored(partition: Partition, *, start: int | None = None, end: int | None = None) -> list[tuple[int, int, bytes]]:
    """(base offset, leader epoch, bytes) of every batch of the log, whatever the role."""
    log = partition._log
    offset = log.start_offset if start is None else start
    limit = log.end_offset if end is None else end
    batches = []
    while offset < limit:
        buffers, _, offset = log.read(offset, limit=limit, max_bytes=1 << 20)
        if not buffers:
            break
        data = joined(buffers)
        batches += [(h.base_offset, h.leader_epoch, data[p : p + h.size]) for p, h in iterate_headers(data)]
    return batches
