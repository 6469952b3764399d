"""Time from taking over a shard of the group coordinator to serving it: the log is read, replayed, and on_loaded is done.

One shard holds what falls to it of many groups with many committed offsets each; `--rewrites` commits each offset again, as a
log does that was not compacted since. In-process, on a memory disk: no network, no election, whose time `failover` measures.
"""

import asyncio
import gc
import json
import random
import time
from typing import Any, cast
from uuid import UUID

import click
from immutables import Map

from quorumlog.coordinators.codec import encode_record
from quorumlog.coordinators.records import CommittedOffset, OffsetCommit
from quorumlog.coordinators.results import LogRecord
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image, PartitionState, Topic
from quorumlog.metadata.internal_topics import OFFSETS_TOPIC
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.node.group_coordinator_log import batches_of
from quorumlog.node.group_coordinator_shard import LedShard
from quorumlog.partitions.partition import Partition, PartitionSettings
from quorumlog.wire.ids import TopicPartition
from tests.node.virtual import LoopClock
from tests.sim.disk import SimDisk
from tests.sim.store import SimStore

TOPIC_ID, OFFSETS_ID = UUID(int=1), UUID(int=2)
TOPIC = "orders-of-all-customers"
COMMITTED_AT_ONCE = 500  # offsets of one OffsetCommit, and so of one batch


def records_of(groups: int, offsets: int, rewrites: int) -> list[LogRecord]:
    return [
        encode_record(OffsetCommit(f"consumer-group-{group}", TOPIC, index, CommittedOffset(index * 1000 + round_, 3, "", 0, -1)))
        for round_ in range(1 + rewrites)
        for group in range(groups)
        for index in range(offsets)
    ]


def partition_of(records: list[LogRecord]) -> Partition:
    rng = random.Random(1)
    partition = Partition.open(
        TopicPartition(OFFSETS_TOPIC, 0),
        OFFSETS_ID,
        node_id=1,
        disk=SimDisk(rng),
        store=SimStore(rng),
        config=TopicConfig(),
        settings=PartitionSettings(fsync=False),
        now=0.0,
        wall_ms=0,
    )
    partition.apply_state(PartitionState(OFFSETS_ID, 0, (1,), (1,), (), 1, 1, 1), 0.0)
    for first in range(0, len(records), COMMITTED_AT_ONCE):
        for batch in batches_of(records[first : first + COMMITTED_AT_ONCE], wall_ms=0, bytes_max=1 << 20):
            partition.append(batch, acks=-1, now=0.0, wall_ms=0)
    return partition


async def measure_load(partition: Partition, offsets: int) -> dict[str, float]:
    """Of the whole load, and of the longest slice of it in which nobody else is served."""
    states = Map({index: PartitionState(TOPIC_ID, index, (1,), (1,), (), 1, 0, 0) for index in range(offsets)})
    image = Image("c", topics=Map({TOPIC: Topic(TOPIC, TOPIC_ID, states)}), topic_names=Map({TOPIC_ID: TOPIC}))
    config = GroupConfig()
    led = LedShard(
        partition,
        cast(Any, None),
        LoopClock(),
        image=lambda: image,
        config_of=lambda _: config,
        new_uuid=lambda: UUID(int=9),
        load_later=lambda _: None,
    )
    load = asyncio.get_running_loop().create_task(led.load())
    cpu_before = time.process_time()
    started = longest_from = time.perf_counter()
    longest = 0.0
    while not load.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, longest_from = max(longest, now - longest_from), now
    await load
    taken, cpu_s = time.perf_counter() - started, time.process_time() - cpu_before
    led.leave()
    return {"load_s": round(taken, 3), "cpu_s": round(cpu_s, 3), "longest_slice_ms": round(longest * 1000, 1)}


@click.command("shard")
@click.option("--groups", default=20, show_default=True, help="Groups in the shard: 1,000 of them fall to 50 shards.")
@click.option("--offsets", default=5_000, show_default=True, help="Committed offsets of each group.")
@click.option("--rewrites", default=0, show_default=True, help="How often each was committed before, and not compacted.")
@click.option("--rounds", default=3, show_default=True)
def command(groups: int, offsets: int, rewrites: int, rounds: int) -> None:
    """Time until a shard of the group coordinator serves."""
    records = records_of(groups, offsets, rewrites)
    partition = partition_of(records)
    gc.collect()
    gc.freeze()  # as a node does after its start
    measured = [asyncio.run(measure_load(partition, offsets)) for _ in range(rounds)]
    print(json.dumps({"records": len(records), "log_bytes": partition.size, "rounds": measured}))
