"""Makes all that the store holds about partitions anew, from the segment files alone. For a node that is not running."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from quorumlog.host.ports import Disk, KVStore, WriteBatch
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.ids import TopicPartition

from .dedup import begin
from .keys import Keys
from .log import LOGS_DIRECTORY, Log, parse_directory_name
from .partition import PartitionSettings
from .producers import ProducerStates
from .recovery import RecoveryReport, recover
from .renewal import renew_unpromised
from .rolling import segment_bytes_max


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """One partition, read from end to end."""

    directory: str
    topic_id: UUID
    partition: int
    report: RecoveryReport


def rebuild(
    disk: Disk,
    store: KVStore,
    *,
    wall_ms: int,
    config: TopicConfig | None = None,
    settings: PartitionSettings | None = None,
    progress: Callable[[Rebuilt], None] | None = None,
) -> list[Rebuilt]:
    """Rebuild every partition under `logs/`; `progress` is told after each. A damaged one is reported and left as it is.

    Which events were seen is learned anew only where `config`, for all of them, has a window: a topic's own settings are in the
    metadata, which is not looked at here.
    """
    config, settings = config or TopicConfig(), settings or PartitionSettings()
    renew_unpromised(disk, store)
    done = []
    for name in disk.list(LOGS_DIRECTORY):
        owner = parse_directory_name(name)
        if owner is None:
            continue
        tp, topic_id = owner
        report = _rebuild_one(
            disk, store, f"{LOGS_DIRECTORY}/{name}", tp, Keys(topic_id, tp.partition), config, settings, wall_ms
        )
        done.append(Rebuilt(f"{LOGS_DIRECTORY}/{name}", topic_id, tp.partition, report))
        if progress is not None:
            progress(done[-1])
    return done


def _rebuild_one(
    disk: Disk,
    store: KVStore,
    directory: str,
    tp: TopicPartition,
    keys: Keys,
    config: TopicConfig,
    settings: PartitionSettings,
    wall_ms: int,
) -> RecoveryReport:
    batch = WriteBatch()
    batch.delete_range(*keys.everything())
    store.write(batch)
    producers = ProducerStates(expiration_ms=int(settings.producer_id_expiration_s * 1000), producers_max=settings.producers_max)
    log = Log(
        disk,
        store,
        directory,
        keys,
        producers,
        segment_bytes=segment_bytes_max(config),
        index_interval_bytes=config.index_interval_bytes,
        checkpoint_interval_bytes=settings.checkpoint_interval_bytes,
    )
    log.dedup = begin(tp, store, keys, config, decompressed_bytes_max=settings.decompressed_bytes_max)
    found = recover(log, wall_ms)
    if found.damage is None:
        batch = WriteBatch()
        log.put_final(batch)
        store.write(batch)
    log.close()
    store.sync()
    return found.report
