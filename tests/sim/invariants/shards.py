"""What the coordinators of groups hold in memory, beside what their logs say.

A shard is what its log says: one that is replayed anew is the same, but for what is never logged (who waits, timers). And in a
group of KIP-848 no partition is with two members, counting those that have not said yet that they gave it up.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from quorumlog.coordinators.classic_group import ClassicGroup, State
from quorumlog.coordinators.consumer_group import ConsumerGroup
from quorumlog.coordinators.offsets import _committed
from quorumlog.coordinators.shard import GroupShard
from quorumlog.node.group_coordinator_log import replay_batches
from quorumlog.node.group_coordinator_shard import LedShard
from quorumlog.node.group_coordinator_shard import State as LedState
from quorumlog.node.node import Node
from quorumlog.wire.errors import ClusterError, ErrorCode

from .sight import Sight, Violation

READ_BYTES = 1 << 20


class ShardWatch:
    """Owned by one run."""

    def __init__(self) -> None:
        self._seen: dict[LedShard, tuple[GroupShard, int]] = {}

    def look(self, sight: Sight) -> None:
        """At shards that have logged something since."""
        for node_id in sight.moved:
            node = sight.nodes.get(node_id)
            for led in () if node is None else served_by(node):
                seen = (led._shard, led.partition.log_end_offset)
                if self._seen.get(led) != seen:
                    self._seen[led] = seen
                    self._check_owners(node_id, led)

    def _check_owners(self, node_id: int, led: LedShard) -> None:
        for group in led._shard._context.groups.values():
            if isinstance(group, ConsumerGroup):
                check_group(f"node {node_id}, group {group.group_id}", group)

    def finish(self, sight: Sight) -> int:
        """All is quiet: every shard is that of its log. How many were looked at."""
        count = 0
        for node_id, node in sorted(sight.nodes.items()):
            for led in served_by(node):
                try:
                    check_replayed(f"node {node_id}, {led.partition.tp}", led)
                except ClusterError as error:
                    if error.code is not ErrorCode.kafka_storage_error:
                        raise
                    continue  # a read error was planted, and it is this look that meets it
                count += 1
        return count


def served_by(node: Node) -> Iterator[LedShard]:
    for _, led in sorted(node.services.groups._led.items()):
        if led.state is LedState.SERVING:
            yield led


def check_group(place: str, group: ConsumerGroup) -> None:
    """Between any two steps."""
    owners: dict[tuple[Any, int], str] = {}
    for member_id, member in group.members.items():
        position = member.position
        if not position.epoch <= group.target_epoch <= group.epoch:
            raise Violation(
                "epochs-follow",
                f"{place}: epoch {group.epoch}, that of the targets {group.target_epoch}, of {member_id} {position.epoch}",
            )
        for held in (position.assigned, position.revoking):
            for topic_id, partitions in held.items():
                for partition in partitions:
                    other = owners.setdefault((topic_id, partition), member_id)
                    if other != member_id:
                        raise Violation(
                            "one-owner-at-a-time", f"{place}: {other} and {member_id} both have {topic_id}-{partition}"
                        )


def check_replayed(place: str, led: LedShard) -> None:
    partition, live = led.partition, led._shard
    replayed = led._make_shard(live._context.image)
    offset = partition.log_start_offset
    while offset < partition.log_end_offset:
        read = partition.read(offset, max_bytes=READ_BYTES, up_to_end=True)
        replay_batches(read.buffers, replayed)
        offset = read.next_offset
    expected, held = logged_state(replayed), logged_state(live)
    busy = {f"group {group_id}" for group_id, group in live._context.groups.items() if _is_between_records(group)}
    for name in sorted({*expected, *held} - busy):
        if expected.get(name) != held.get(name):
            raise Violation(
                "shards-are-their-logs", f"{place}: {name} is {held.get(name)}, by its log it would be {expected.get(name)}"
            )


def logged_state(shard: GroupShard) -> Mapping[str, object]:
    """All that follows from the log, by name."""
    state: dict[str, object] = {}
    for group_id, topics in shard._offsets._committed.items():
        state[f"offsets of {group_id}"] = {
            topic: {number: _committed(stored) for number, stored in partitions.items()} for topic, partitions in topics.items()
        }
    for group_id, group in shard._context.groups.items():
        if isinstance(group, ConsumerGroup):
            state[f"group {group_id}"] = {name: value for name, value in vars(group).items() if name != "checked_topics"}
        elif isinstance(group, ClassicGroup) and not _is_between_records(group):
            state[f"group {group_id}"] = _classic(group)
    return state


def _is_between_records(group: object) -> bool:
    """A classic group that rebalances: only Empty and Stable are ever logged."""
    return isinstance(group, ClassicGroup) and group.state not in (State.EMPTY, State.STABLE)


def _classic(group: ClassicGroup) -> object:
    members = {
        member_id: (member.instance_id, bytes(member.assignment), member.session_timeout_ms, member.rebalance_timeout_ms)
        for member_id, member in group.members.items()
    }
    return group.state, group.generation, group.protocol_type, group.protocol, group.leader, members
