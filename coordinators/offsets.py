"""The offsets that groups committed: how far each has read each partition.

They outlive the members of their group. They go when they are deleted, when their topic is, or when they are too old; the last
takes a group without members along (KIP-211).
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from struct import Struct as Layout
from typing import Any

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.message import Struct

from .classic_group import ClassicGroup, State
from .classic_subscription import CONSUMER_PROTOCOL_TYPE
from .classic_timers import begin_session
from .context import Context, Group
from .pending_offsets import PendingOffsets, Place
from .records import CommittedOffset, OffsetCommit
from .results import Body, Request, Waiter, Writer
from .timers import Key

RETENTION: Key = ("offsets", "retention")
EXPIRED_MAX = 2_000  # offsets that are taken out of one step, so that others are served in between
LOOKED_AT_MAX = 50_000
BETWEEN_STEPS_S = 0.02
GROUP_ID_NOT_FOUND_VERSION = 9  # of OffsetCommit: ILLEGAL_GENERATION before
TOPIC_IDS_VERSION = 10  # of OffsetCommit and OffsetFetch: topics by id, no longer by name

# An offset without metadata as its record has it: version 3, offset, leader epoch, length of the metadata, commit timestamp.
# It is kept so: a million of them cost 113 to 137 MB, not 184, and the garbage collector does not look at them.
STORED = Layout(">hqihq")
STORED_HEAD, STORED_EMPTY = b"\0\3", b"\0\0"

Stored = CommittedOffset | bytes
Partitions = dict[int, Stored]


class Offsets:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._committed: dict[str, dict[str, Partitions]] = {}  # group, topic, partition
        self._pending: PendingOffsets[Stored] = PendingOffsets()
        self._places: dict[bytes, Partitions] = {}  # while loading: by the key of a record, but for its partition
        self._unchecked: deque[str] = deque()  # groups that the running round of retention has not seen yet

    # --- records

    def load(self, key: bytes, value: bytes | None) -> bool:
        """Replay an offset the short way, if it is like most; False if it is not, and `replay` has to be called."""
        if value is None or len(value) != STORED.size or value[:2] != STORED_HEAD or value[14:16] != STORED_EMPTY:
            return False
        place = self._places.get(key[:-4])
        if place is None or self._pending:
            return False
        place[int.from_bytes(key[-4:], "big", signed=True)] = value
        return True

    def remember_place(self, key: bytes, record: OffsetCommit) -> None:
        """The next offsets of this topic are like this one."""
        if record.committed is not None:
            self._places[key[:-4]] = self._committed[record.group_id][record.topic]

    def forget_places(self) -> None:
        """Something else was replayed than an offset: groups and places may be gone."""
        self._places.clear()

    def replay(self, record: OffsetCommit) -> None:
        if record.committed is None:
            self._forget(record)
            return
        if self._pending:
            self._pending.outdo(_place(record))
        self._put(record.group_id, record.topic, record.partition, _stored(record.committed))

    def replay_pending(self, producer_id: int, record: OffsetCommit) -> None:
        """As `replay`, of what a producer has committed in a transaction."""
        self._places.clear()
        if record.committed is None:
            self._forget(record)
            return
        self._pending.add(producer_id, _place(record), _stored(record.committed))
        self._note_group(record.group_id)

    def end_transaction(self, producer_id: int, *, is_commit: bool) -> None:
        self._places.clear()
        for place, stored in self._pending.end(producer_id, is_commit=is_commit):
            self._put(place.group_id, place.topic, place.partition, stored)

    def _put(self, group_id: str, topic: str, partition: int, stored: Stored) -> None:
        topics = self._committed.get(group_id)
        if topics is None:
            topics = self._committed[group_id] = {}
        partitions = topics.get(topic)
        if partitions is None:
            partitions = topics[topic] = {}
        partitions[partition] = stored
        self._note_group(group_id)

    def _note_group(self, group_id: str) -> None:
        if group_id not in self._context.groups:
            # Nobody ever joined it: a tool, or a consumer that was assigned its partitions by hand.
            self._context.groups[group_id] = ClassicGroup(group_id)

    def _forget(self, record: OffsetCommit) -> None:
        self._places.clear()
        if self._pending:
            self._pending.forget(_place(record))
        topics = self._committed.get(record.group_id, {})
        partitions = topics.get(record.topic, {})
        partitions.pop(record.partition, None)
        if not partitions:
            topics.pop(record.topic, None)
        if not topics:
            self._committed.pop(record.group_id, None)

    def on_loaded(self, now: float) -> None:
        """Topics may have been deleted while nobody coordinated these groups."""
        self._places.clear()
        named = {topic for topics in self._committed.values() for topic in topics}
        named |= {place.topic for place in self._pending.places()}
        self._drop_topics(sorted(topic for topic in named if topic not in self._context.image.topics))
        self._context.timers.set(RETENTION, now + self._check_interval_s())

    # --- committing

    def commit(self, request: Request, now: float, wall_ms: int) -> None:
        message = request.message
        expire_ms = wall_ms + message.retention_time_ms if message.retention_time_ms >= 0 else -1
        self._commit(request, self._refusal(request, now), self._context.journal.log, wall_ms=wall_ms, expire_ms=expire_ms)

    def commit_in_transaction(self, request: Request, writer: Writer, wall_ms: int) -> None:
        def log(record: OffsetCommit) -> None:
            self._context.journal.log_for(writer, record)

        self._commit(request, self._transactional_refusal(request), log, wall_ms=wall_ms, expire_ms=-1)

    def _commit(
        self, request: Request, refused: ErrorCode, log: Callable[[OffsetCommit], None], *, wall_ms: int, expire_ms: int
    ) -> None:
        message, config = request.message, self._context.config_of(request.message.group_id)

        def one(topic: str, item: Struct) -> Body:
            code, metadata = refused, item.committed_metadata or ""
            if code is ErrorCode.none and _utf16_length(metadata) > config.offset_metadata_max_bytes:
                code = ErrorCode.offset_metadata_too_large
            if code is ErrorCode.none:
                committed = CommittedOffset(item.committed_offset, item.committed_leader_epoch, metadata, wall_ms, expire_ms)
                log(OffsetCommit(message.group_id, topic, item.partition_index, committed))
            return {"partition_index": item.partition_index, "error_code": code}

        topics = [self._for_known(topic, request.version, one) for topic in message.topics]
        self._context.journal.reply(request.waiter, {"topics": topics})

    def _transactional_refusal(self, request: Request) -> ErrorCode:
        message = request.message
        group = self._context.groups.get(message.group_id)
        if group is None:
            return ErrorCode.none if message.generation_id < 0 else ErrorCode.illegal_generation
        try:
            group.check_transactional_commit(
                member_id=message.member_id, instance_id=message.group_instance_id, generation=message.generation_id
            )
        except ClusterError as error:
            return error.code
        return ErrorCode.none

    def _refusal(self, request: Request, now: float) -> ErrorCode:
        """Why none of the offsets is taken; the session of a member that commits goes on."""
        message = request.message
        group = self._context.groups.get(message.group_id)
        if group is None:
            if message.generation_id_or_member_epoch < 0:
                return ErrorCode.none
            is_new = request.version >= GROUP_ID_NOT_FOUND_VERSION
            return ErrorCode.group_id_not_found if is_new else ErrorCode.illegal_generation
        try:
            group.check_commit(
                member_id=message.member_id,
                instance_id=message.group_instance_id,
                generation=message.generation_id_or_member_epoch,
                version=request.version,
            )
        except ClusterError as error:
            return error.code
        if isinstance(group, ClassicGroup) and group.state in (State.STABLE, State.PREPARING):
            member = group.members.get(message.member_id)
            if member is not None:
                begin_session(self._context.timers, group, member, now)
        return ErrorCode.none

    # --- fetching

    def fetch(self, request: Request, now: float, *, requires_stable: bool) -> None:
        """One group. Raises the ClusterError with which its members' reading is refused."""
        message = request.message
        group = self._context.groups.get(message.group_id)
        if group is not None:
            group.check_fetch(member_id=message.member_id, member_epoch=message.member_epoch)
        committed = self._committed.get(message.group_id, {}) if group is not None else {}
        unstable = frozenset(self._pending.places(message.group_id) if requires_stable else ())
        if message.topics is None:
            topics = list(self._all_of(message.group_id, committed, unstable, request.version >= TOPIC_IDS_VERSION))
        else:
            topics = [self._fetched(message.group_id, committed, topic, unstable, request.version) for topic in message.topics]
        self._context.journal.reply(request.waiter, {"group_id": message.group_id, "topics": topics})

    def _all_of(
        self, group_id: str, committed: dict[str, Partitions], unstable: frozenset[Place], with_ids: bool
    ) -> Iterator[Body]:
        for name in sorted(committed):
            topic = self._context.image.topics.get(name)
            partitions = [
                _offset_body(index, offset, is_unstable=Place(group_id, name, index) in unstable)
                for index, offset in sorted(committed[name].items())
            ]
            if not with_ids:
                yield {"name": name, "partitions": partitions}
            elif topic is not None:  # or it was deleted: there is no id to name it by
                yield {"topic_id": topic.topic_id, "partitions": partitions}

    def _fetched(
        self, group_id: str, committed: dict[str, Partitions], topic: Struct, unstable: frozenset[Place], version: int
    ) -> Body:
        """A topic that does not exist (any more) has no offsets, which is no error; an unknown id is."""
        name = self._name_of(topic, version)
        if name is None:
            unknown = {"error_code": ErrorCode.unknown_topic_id}
            return _named(topic, "", [_offset_body(index, None) | unknown for index in topic.partition_indexes])
        partitions = committed.get(name, {})
        found = [
            _offset_body(index, partitions.get(index), is_unstable=Place(group_id, name, index) in unstable)
            for index in topic.partition_indexes
        ]
        return _named(topic, name, found)

    # --- deleting

    def delete(self, request: Request, now: float) -> None:
        """OffsetDelete. Raises GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP where nobody can tell what the members read."""
        message = request.message
        group = self._existing(message.group_id)
        if not group.is_empty and group.type_name == "classic" and group.protocol_type != CONSUMER_PROTOCOL_TYPE:
            raise ClusterError(ErrorCode.non_empty_group, f"group {message.group_id} has members of type {group.protocol_type!r}")

        def one(topic: str, item: Struct) -> Body:
            code = ErrorCode.group_subscribed_to_topic if _reads(group, topic) else ErrorCode.none
            if code is ErrorCode.none and self._has(Place(message.group_id, topic, item.partition_index)):
                self._context.journal.log(OffsetCommit(message.group_id, topic, item.partition_index, None))
            return {"partition_index": item.partition_index, "error_code": code}

        topics = [self._for_known(topic, request.version, one) for topic in message.topics]
        self._context.journal.reply(request.waiter, {"error_code": ErrorCode.none, "topics": topics})

    def delete_group(self, group_id: str, waiter: Waiter) -> None:
        """Raises GROUP_ID_NOT_FOUND or NON_EMPTY_GROUP."""
        group = self._existing(group_id)
        if not group.is_empty:
            raise ClusterError(ErrorCode.non_empty_group, f"group {group_id} is {group.state_name}, not empty")
        for place in self._places_of(group_id):
            self._context.journal.log(OffsetCommit(*place, None))
        self._delete_empty(group)
        self._context.journal.reply(waiter, {"group_id": group_id, "error_code": ErrorCode.none})

    def _has(self, place: Place) -> bool:
        return place.partition in self._committed.get(place.group_id, {}).get(place.topic, {}) or place in self._pending

    def _places_of(self, group_id: str) -> list[Place]:
        """Where the group has committed, or is about to."""
        topics = self._committed.get(group_id, {})
        committed = [Place(group_id, topic, partition) for topic, partitions in topics.items() for partition in partitions]
        return list(dict.fromkeys([*committed, *self._pending.places(group_id)]))

    def _existing(self, group_id: str) -> Group:
        group = self._context.groups.get(group_id)
        if group is None:
            raise ClusterError(ErrorCode.group_id_not_found, f"there is no group {group_id!r}")
        return group

    def _delete_empty(self, group: Group) -> None:
        for record in group.tombstones():
            self._context.journal.log(record)

    # --- the cluster and time

    def on_topics_deleted(self, topics: Collection[str]) -> None:
        self._drop_topics(topics)

    def _drop_topics(self, topics: Collection[str]) -> None:
        doomed = [
            (group_id, topic, partition)
            for topic in topics
            for group_id, committed in self._committed.items()
            for partition in committed.get(topic, ())
        ]
        doomed += [place for place in self._pending.places() if place.topic in topics]
        for group_id, topic, partition in dict.fromkeys(doomed):
            self._context.journal.log(OffsetCommit(group_id, topic, partition, None))

    def on_timer(self, key: Key, now: float, wall_ms: int) -> None:
        """Retention, a step of it: many offsets that expire together would keep everybody else waiting."""
        assert key == RETENTION, key
        if not self._unchecked:
            self._unchecked.extend(sorted(self._context.groups))
        looked_at = expired = 0
        while self._unchecked and expired < EXPIRED_MAX and looked_at < LOOKED_AT_MAX:
            group = self._context.groups.get(self._unchecked.popleft())
            if group is not None:
                looked_at += 1 + sum(map(len, self._committed.get(group.group_id, {}).values()))
                expired += self._expire(group, wall_ms)
        self._context.timers.set(RETENTION, now + (BETWEEN_STEPS_S if self._unchecked else self._check_interval_s()))

    def _expire(self, group: Group, wall_ms: int) -> int:
        """Offsets that nobody came for in time; then the group, if nothing is left of it. How many offsets."""
        committed = self._committed.get(group.group_id, {})
        since = _counts_from(group)
        retention_ms = self._context.config_of(group.group_id).offsets_retention_minutes * 60_000
        expired = [
            (topic, partition)
            for topic, partitions in committed.items()
            if since is not None and not _reads(group, topic)
            for partition, offset in ((partition, _committed(stored)) for partition, stored in partitions.items())
            if _is_expired(offset, since(offset), retention_ms, wall_ms)
            and Place(group.group_id, topic, partition) not in self._pending
        ]
        for topic, partition in expired:
            self._context.journal.log(OffsetCommit(group.group_id, topic, partition, None))
        if group.is_empty and group.group_id not in self._committed and not self._pending.has_group(group.group_id):
            self._delete_empty(group)
        return len(expired)

    def _check_interval_s(self) -> float:
        return self._context.config_of("").offsets_retention_check_interval_ms / 1000

    # --- topics of requests

    def _for_known(self, topic: Any, version: int, one: Callable[[str, Any], Body]) -> Body:
        """Each partition's answer by `one(topic name, partition)`, unless it does not exist."""
        name = self._name_of(topic, version)
        if name is None:
            return _named(topic, "", [_refused(item, ErrorCode.unknown_topic_id) for item in topic.partitions])
        known = self._context.image.topics.get(name)
        return _named(
            topic,
            name,
            [
                one(name, item)
                if known is not None and item.partition_index in known.partitions
                else _refused(item, ErrorCode.unknown_topic_or_partition)
                for item in topic.partitions
            ],
        )

    def _name_of(self, topic: Any, version: int) -> str | None:
        if version < TOPIC_IDS_VERSION:
            return str(topic.name)
        return self._context.image.topic_names.get(topic.topic_id)


def _named(topic: Any, name: str, partitions: list[Body]) -> Body:
    """By what the request named it by: OffsetDelete knows no ids, and neither does who asks in an old version for one group."""
    ids = {"topic_id": topic.topic_id} if hasattr(topic, "topic_id") else {}
    return {"name": name, **ids, "partitions": partitions}


def _refused(item: Any, code: ErrorCode) -> Body:
    return {"partition_index": item.partition_index, "error_code": code}


def _stored(committed: CommittedOffset) -> Stored:
    if committed.metadata or committed.expire_timestamp_ms >= 0:
        return committed
    return STORED.pack(3, committed.offset, committed.leader_epoch, 0, committed.commit_timestamp_ms)


def _committed(stored: Stored) -> CommittedOffset:
    if isinstance(stored, CommittedOffset):
        return stored
    _, offset, leader_epoch, _, commit_timestamp_ms = STORED.unpack(stored)
    return CommittedOffset(offset, leader_epoch, "", commit_timestamp_ms, -1)


def _place(record: OffsetCommit) -> Place:
    return Place(record.group_id, record.topic, record.partition)


def _offset_body(partition: int, stored: Stored | None, *, is_unstable: bool = False) -> Body:
    """Of what a transaction may be about to change nothing is told: who asks must come again."""
    found: tuple[int, int, str] = (-1, -1, "")
    if stored is not None and not is_unstable:
        offset = _committed(stored)
        found = (offset.offset, offset.leader_epoch, offset.metadata)
    return {
        "partition_index": partition,
        "committed_offset": found[0],
        "committed_leader_epoch": found[1],
        "metadata": found[2],
        "error_code": ErrorCode.unstable_offset_commit if is_unstable else ErrorCode.none,
    }


def _utf16_length(text: str) -> int:
    """Kafka counts as Java does."""
    return len(text) + sum(char > "\uffff" for char in text) if not text.isascii() else len(text)


def _reads(group: Group, topic: str) -> bool:
    """Do its members read the topic? Where that cannot be told of consumers, they may."""
    topics = group.subscribed_topics()
    if topics is None:
        return group.protocol_type == CONSUMER_PROTOCOL_TYPE
    return topic in topics


def _counts_from(group: Group) -> Callable[[CommittedOffset], int] | None:
    """From when on the retention of the group's offsets counts, ms; None while they may not expire."""
    if group.type_name == "consumer" or not group.has_protocol:
        return lambda offset: offset.commit_timestamp_ms
    if group.is_empty:
        since_ms = group.empty_since_ms()
        return lambda offset: offset.commit_timestamp_ms if since_ms is None else since_ms
    if group.state_name == State.STABLE and group.subscribed_topics() is not None:
        return lambda offset: offset.commit_timestamp_ms
    return None


def _is_expired(offset: CommittedOffset, since_ms: int, retention_ms: int, wall_ms: int) -> bool:
    if offset.expire_timestamp_ms >= 0:  # a client of old asked for this time
        return wall_ms >= offset.expire_timestamp_ms
    return wall_ms - since_ms >= retention_ms
