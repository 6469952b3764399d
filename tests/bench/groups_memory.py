"""What the state of groups costs in memory: of each committed offset and each group, in bytes as Python counts them.

Told as the growth of a shard that takes many of a kind, from the log or by requests. In-process; the C allocator adds some 10 to
15 percent of its own.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from uuid import UUID

import click

from quorumlog.coordinators.codec import encode_record
from quorumlog.coordinators.records import CommittedOffset, GroupMetadata, GroupState, MemberMetadata, OffsetCommit
from quorumlog.coordinators.results import Body, LogRecord, Request
from quorumlog.coordinators.shard import GroupShard
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.wire.codec import decode_request, encode_request
from tests.bench.groups_peers import output_option, show
from tests.coordinators.consumer_stage import CONSUMER_GROUP_HEARTBEAT, image_of

TOPIC, PARTITIONS, OFFSET_COMMIT = "orders", 5_000, 8
MEMBERS = 3
WALL_MS = 1_700_000_000_000
IMAGE = image_of({TOPIC: PARTITIONS, "read": 24})
CONFIG = GroupConfig()


def new_shard() -> GroupShard:
    return GroupShard(IMAGE, config_of=lambda _: CONFIG, new_uuid=lambda: UUID(int=1))


def loaded(records: Iterable[LogRecord]) -> Callable[[GroupShard], None]:
    def load(shard: GroupShard) -> None:
        for record in records:
            shard.replay(copy(record.key), copy(record.value or b""))
        shard.on_loaded(IMAGE, 0.0, 0)

    return load


def copy(data: bytes) -> bytes:
    """As what is read from a batch is one."""
    return bytes(bytearray(data))


def growth(fill: Callable[[GroupShard], None], count: int) -> int:
    """Bytes for each of so many."""
    shard = new_shard()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    fill(shard)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round((after - before) / count)


def offsets_of(group: str, count: int) -> Iterable[LogRecord]:
    for partition in range(count):
        yield encode_record(OffsetCommit(group, TOPIC, partition, CommittedOffset(10**9 + partition, 3, "", WALL_MS, -1)))


def commit(shard: GroupShard, groups: int) -> None:
    """By requests, of 500 offsets each."""
    for group in range(groups):
        for first in range(0, PARTITIONS, 500):
            partitions = [
                {"partition_index": index, "committed_offset": 10**9 + index, "committed_metadata": ""}
                for index in range(first, first + 500)
            ]
            body = {"group_id": f"g-{group}", "topics": [{"name": TOPIC, "partitions": partitions}]}
            shard.commit(request(OFFSET_COMMIT, 8, body), 0.0, WALL_MS)


def request(api_key: int, version: int, body: Body) -> Request:
    return Request(1, version, decode_request(api_key, version, encode_request(api_key, version, body)), "client", "/10.0.0.1")


def classic_group(number: int) -> LogRecord:
    ids = [f"client-{number}-{member}-{UUID(int=member)}" for member in range(MEMBERS)]
    members = tuple(
        MemberMetadata(member_id, None, "client", "/10.0.0.1", 300_000, 45_000, b"s" * 40, b"a" * 60) for member_id in ids
    )
    return encode_record(GroupMetadata(f"g-{number}", GroupState("consumer", 1, "range", members[0].member_id, 0, members)))


def consume(shard: GroupShard, groups: int) -> None:
    """Members of KIP-848 come, each with a third of 24 partitions in the end."""
    for group in range(groups):
        for member in range(MEMBERS):
            body: Body = {"group_id": f"g-{group}", "member_id": str(UUID(int=group * MEMBERS + member + 1))}
            body |= {"rebalance_timeout_ms": 300_000, "subscribed_topic_names": ["read"], "topic_partitions": []}
            shard.consumer_heartbeat(request(CONSUMER_GROUP_HEARTBEAT, 1, body), 0.0)


@click.command("memory")
@click.option("--groups", default=200, show_default=True, help="Of each kind of group.")
@output_option
def command(groups: int, output: str) -> None:
    """Bytes of each committed offset, group and member."""
    many = [record for group in range(20) for record in offsets_of(f"g-{group}", PARTITIONS)]
    one_each = [record for group in range(groups) for record in offsets_of(f"g-{group}", 1)]
    figures = {
        "offset_loaded_bytes": growth(loaded(many), len(many)),
        "offset_committed_bytes": growth(lambda shard: commit(shard, 10), 10 * PARTITIONS),
        "group_without_members_bytes": growth(loaded(one_each), groups),
        "classic_group_of_3_members_bytes": growth(loaded(map(classic_group, range(groups))), groups),
        "consumer_group_of_3_members_bytes": growth(lambda shard: consume(shard, groups), groups),
    }
    show(output, "memory of groups", figures)
