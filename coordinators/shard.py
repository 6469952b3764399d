"""One shard of the group coordinator: all groups whose id hashes to one partition of `__consumer_offsets`.

    load:    replay(key, value) for each record of the partition -> on_loaded
    serve:   request -> ClassicGroups | ConsumerGroups | Offsets -> Result(records, replies)
    time:    next_deadline -> tick

Pure: the shell (node/group_coordinator.py) appends the records, holds the replies back until they are committed, and drops the
shard when its partition moves or an append fails. Every operation may raise a ClusterError, before anything has changed.
"""

from collections.abc import Callable, Collection
from uuid import UUID

from quorumlog.metadata.group_config import GroupConfig
from quorumlog.metadata.image import Image

from .classic import ClassicGroups
from .codec import CorruptRecord, Record, decode_record, encode_record
from .consumer import ConsumerGroups
from .context import Context
from .journal import Journal
from .offsets import Offsets
from .records import GroupMetadata, OffsetCommit
from .results import Body, Request, Result, Waiter, Writer
from .timers import NEVER

__all__ = ["NEVER", "GroupShard"]


OFFSET_KEY = b"\0\1"


class GroupShard:
    """`now` is monotonic time in seconds, `wall_ms` is ms since 1970. Lives as long as this node leads the partition."""

    def __init__(self, image: Image, *, config_of: Callable[[str], GroupConfig], new_uuid: Callable[[], UUID]) -> None:
        self._journal = Journal(encode_record, self._replay, self._replay_pending)
        self._context = context = Context(image, config_of, new_uuid, self._journal)
        self._offsets = Offsets(context)
        self._classic = ClassicGroups(context)
        self._consumer = ConsumerGroups(context, self._classic)

    # --- loading

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One record of the partition, in order. Raises CorruptRecord; the shard cannot be served then."""
        if key[:2] == OFFSET_KEY and self._offsets.load(key, value):
            return
        record = decode_record(key, value)
        if record is None:
            return
        self._replay(record)
        if isinstance(record, OffsetCommit):
            self._offsets.remember_place(key, record)
        else:
            self._offsets.forget_places()

    def replay_for(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        """The same, of a record that is part of a producer's transaction: offsets that its end decides on."""
        record = decode_record(key, value)
        if record is not None:
            self._replay_pending(producer_id, record)

    def replay_end(self, producer_id: int, *, is_commit: bool) -> None:
        """A producer's transaction has ended."""
        self._offsets.end_transaction(producer_id, is_commit=is_commit)

    def on_loaded(self, image: Image, now: float, wall_ms: int) -> Result:
        """All was replayed: every member begins with a full session timeout. `image` is the newest."""
        self._context.image = image
        self._classic.on_loaded(now, wall_ms)
        self._consumer.on_loaded(now)
        self._offsets.on_loaded(now)
        return self._journal.take()

    def _replay(self, record: Record) -> None:
        match record:
            case OffsetCommit():
                self._offsets.replay(record)
            case GroupMetadata():
                self._classic.replay(record)
            case _:
                self._consumer.replay(record)

    def _replay_pending(self, producer_id: int, record: Record) -> None:
        if not isinstance(record, OffsetCommit):
            raise CorruptRecord(f"a record of the transaction of producer {producer_id} that is no offset: {record}")
        self._offsets.replay_pending(producer_id, record)

    def limit_records(self, bytes_max: int) -> None:
        """Of key and value of one record together, from here on."""
        self._context.record_bytes_max = bytes_max

    @property
    def is_settled(self) -> bool:
        """Nothing was decided that no result has told of: true between operations."""
        return self._journal.is_empty

    # --- members

    def join(self, request: Request, now: float, wall_ms: int) -> Result:
        """JoinGroup. The reply may come with a later operation."""
        if self._consumer.takes(request):
            self._consumer.classic_join(request, now)
        else:
            self._classic.join(request, now, wall_ms)
        return self._journal.take()

    def sync(self, request: Request, now: float, wall_ms: int) -> Result:
        """SyncGroup. The reply may come with a later operation."""
        if self._consumer.takes(request):
            self._consumer.classic_sync(request, now)
        else:
            self._classic.sync(request, now, wall_ms)
        return self._journal.take()

    def heartbeat(self, request: Request, now: float) -> Result:
        (self._consumer.classic_heartbeat if self._consumer.takes(request) else self._classic.heartbeat)(request, now)
        return self._journal.take()

    def leave(self, request: Request, now: float, wall_ms: int) -> Result:
        if self._consumer.takes(request):
            self._consumer.classic_leave(request, now)
        else:
            self._classic.leave(request, now, wall_ms)
        return self._journal.take()

    def consumer_heartbeat(self, request: Request, now: float) -> Result:
        """ConsumerGroupHeartbeat (KIP-848)."""
        self._consumer.heartbeat(request, now)
        return self._journal.take()

    # --- offsets

    def commit(self, request: Request, now: float, wall_ms: int) -> Result:
        """OffsetCommit."""
        self._offsets.commit(request, now, wall_ms)
        return self._journal.take()

    def commit_in_transaction(self, request: Request, writer: Writer, wall_ms: int) -> Result:
        """TxnOffsetCommit."""
        self._offsets.commit_in_transaction(request, writer, wall_ms)
        return self._journal.take()

    def fetch_offsets(self, request: Request, now: float, *, requires_stable: bool = False) -> Result:
        """One group of OffsetFetch. Whoever requires stable offsets is told of none that a transaction may be about to change."""
        self._offsets.fetch(request, now, requires_stable=requires_stable)
        return self._journal.take()

    def delete_offsets(self, request: Request, now: float) -> Result:
        """OffsetDelete."""
        self._offsets.delete(request, now)
        return self._journal.take()

    # --- groups

    def delete_group(self, group_id: str, waiter: Waiter) -> Result:
        """DeleteGroups, for one of them: its offsets go with it."""
        self._offsets.delete_group(group_id, waiter)
        return self._journal.take()

    def describe(self, group_id: str) -> Body:
        """A group of DescribeGroups."""
        return self._classic.describe(group_id)

    def describe_consumer(self, group_id: str) -> Body:
        """A group of ConsumerGroupDescribe."""
        return self._consumer.describe(group_id)

    def groups(self) -> list[Body]:
        """All groups of this shard, as ListGroups v5 has them."""
        return [
            {
                "group_id": group.group_id,
                "protocol_type": group.protocol_type,
                "group_state": group.state_name,
                "group_type": group.type_name,
            }
            for _, group in sorted(self._context.groups.items())
        ]

    # --- time and the cluster

    def on_image(self, image: Image, now: float, *, deleted: Collection[str]) -> Result:
        """Topics, partitions or settings changed, and topics of these names were deleted (perhaps to be created anew)."""
        old, self._context.image = self._context.image, image
        if deleted:
            self._offsets.on_topics_deleted(deleted)
        self._consumer.on_image(old, image, now)
        return self._journal.take()

    def next_deadline(self) -> float:
        """When `tick` has something to do, unless a request comes first."""
        return self._context.timers.next_deadline()

    def tick(self, now: float, wall_ms: int) -> Result:
        """What time alone decides: sessions, rebalances, offsets that nobody needs any more."""
        parts = {"classic": self._classic.on_timer, "consumer": self._consumer.on_timer, "offsets": self._offsets.on_timer}
        while (key := self._context.timers.due(now)) is not None:
            parts[str(key[0])](key, now, wall_ms)
        return self._journal.take()
