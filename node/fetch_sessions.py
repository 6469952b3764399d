"""Fetch sessions (KIP-227): what a consumer fetches is kept here, so that each request names only what is new to it, and each
answer only what has changed.

A session goes further than to save bytes: it knows which of its partitions may have news, because what becomes readable wakes
them. A step looks at those alone, so a consumer of a thousand partitions costs what its busy ones cost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.fetch import FetchPartition, FetchRequest, FetchTopic
from quorumlog.wire.ids import TopicPartition

NO_SESSION = 0
INITIAL_EPOCH, FINAL_EPOCH = 0, -1
EPOCH_MAX = ID_MAX = 2**31 - 1
SESSIONS_MAX = 1_000
PARTITIONS_MAX = 200_000  # of all sessions together, at some 500 bytes each
EVICTION_S = 120.0  # who was used, or who began, within this time does not make room for another

Marks = tuple[int, int, int]  # high watermark, last stable offset, log start
UNTOLD: Marks = (-1, -1, -1)
Key = tuple[str | None, UUID, int]


class Watches(Protocol):
    """Calls back when a partition may have news: more to read, another start, another role. Rather once too often."""

    def add(self, tps: Iterable[TopicPartition], callback: Callable[[], None]) -> None: ...
    def remove(self, tps: Iterable[TopicPartition], callback: Callable[[], None]) -> None: ...


@dataclass(slots=True, eq=False)
class Asked:
    """One partition that a consumer fetches: for one request, or for the life of a session."""

    topic: str | None  # None where the topic is named by its id
    topic_id: UUID
    wanted: FetchPartition
    told: Marks = UNTOLD
    watched: TopicPartition | None = None  # under which name; an id gets its name only when the topic is known here
    session: "FetchSession | None" = None

    @property
    def key(self) -> Key:
        return self.topic, self.topic_id, self.wanted.partition

    def wake(self) -> None:
        """There may be news of it."""
        if self.session is not None:
            self.session.mark(self)


class News(NamedTuple):
    """What a read has found, as far as a session cares."""

    marks: Marks
    size: int = 0  # bytes of records
    is_at_end: bool = False  # nothing more can be read until somebody wakes the partition
    is_urgent: bool = False  # an error, a divergence, another replica to read from: told each time as long as it holds


class FetchSession:
    """Owned by `FetchSessions`, from the first full fetch until the client ends it or another needs its place."""

    def __init__(self, session_id: int, *, uses_topic_ids: bool, watches: Watches, now: float) -> None:
        self.id = session_id
        self.epoch = INITIAL_EPOCH + 1  # that the next request must have
        self.uses_topic_ids = uses_topic_ids
        self.created_at = self.used_at = now
        self.is_open = True
        self._on_news: Callable[[], None] | None = None  # the request that waits
        self._watches = watches
        self._isolation_level = -1
        self._partitions: dict[Key, Asked] = {}
        self._unsettled: dict[Asked, None] = {}  # those that may have news, in the order in which they get room

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def unsettled(self) -> tuple[Asked, ...]:
        """Whom to look at. Who was given records goes behind the others, so that nobody starves."""
        return tuple(self._unsettled)

    def update(self, request: FetchRequest) -> None:
        """What the request adds, moves and forgets."""
        for asked in asked_in(request.topics):
            self._put(asked)
        for topic in request.forgotten_topics:
            for partition in topic.partitions:
                self._forget((topic.name, topic.topic_id, partition))
        if request.isolation_level != self._isolation_level:
            self._isolation_level = request.isolation_level
            self._unsettled.update(dict.fromkeys(self._partitions.values()))  # their end is another one now

    def adopt(self, partitions: Sequence[Asked], isolation_level: int) -> None:
        """What the full fetch named that begins the session."""
        self._isolation_level = isolation_level
        for asked in partitions:
            self._put(asked)

    def _put(self, asked: Asked) -> None:
        """Add a partition, or take over what the request says of one that is here."""
        known = self._partitions.get(asked.key)
        if known is None:
            asked.session = self
            self._partitions[asked.key] = known = asked
        known.wanted = asked.wanted
        self._unsettled[known] = None

    def watch(self, asked: Asked, tp: TopicPartition) -> None:
        """Hear of the partition under this name: in the same turn in which it is read, so that nothing falls in between."""
        if asked.watched != tp and self.is_open and asked.session is self:
            self._unwatch(asked)
            self._watches.add((tp,), asked.wake)
            asked.watched = tp

    def mark(self, asked: Asked) -> None:
        """There may be news of it."""
        self._unsettled[asked] = None
        self._call()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call this when there may be news. A session has one request at once: who waited before was told."""
        self._on_news = callback

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        if self._on_news == callback:
            self._on_news = None

    def refusal(self, epoch: int) -> ClusterError | None:
        """Why a request that left the session in this epoch gets nothing from it any more."""
        if not self.is_open:
            return ClusterError(ErrorCode.fetch_session_id_not_found, f"fetch session {self.id} was closed")
        if epoch != self.epoch:
            return ClusterError(ErrorCode.invalid_fetch_session_epoch, f"fetch session {self.id}: another request came meanwhile")
        return None

    def is_worth_telling(self, asked: Asked, news: News) -> bool:
        """Whether an answer must have it. If not, and nothing more can be read, it rests until it is woken."""
        if news.is_urgent or news.size or news.marks != asked.told:
            return True
        if news.is_at_end:
            self._unsettled.pop(asked, None)
        return False

    def on_told(self, asked: Asked, news: News) -> None:
        """It was in an answer."""
        asked.told = UNTOLD if news.is_urgent else news.marks
        if asked not in self._unsettled or news.is_urgent:
            return  # forgotten meanwhile, or told again the next time
        if news.size:
            del self._unsettled[asked]
            self._unsettled[asked] = None
        elif news.is_at_end:
            del self._unsettled[asked]

    def close(self) -> None:
        self.is_open = False
        for asked in self._partitions.values():
            self._unwatch(asked)
        self._call()

    def advance(self, now: float) -> None:
        """A request was taken; the next one has another epoch."""
        self.epoch = self.epoch % EPOCH_MAX + 1
        self.used_at = now
        self._call()

    def _call(self) -> None:
        if self._on_news is not None:
            self._on_news()

    def _forget(self, key: Key) -> None:
        asked = self._partitions.pop(key, None)
        if asked is not None:
            asked.session = None
            self._unsettled.pop(asked, None)
            self._unwatch(asked)

    def _unwatch(self, asked: Asked) -> None:
        if asked.watched is not None:
            self._watches.remove((asked.watched,), asked.wake)
            asked.watched = None


class FetchSessions:
    """Owned by the node. Bounded: where there is no room, a consumer goes on without a session, naming everything each time."""

    def __init__(
        self,
        watches: Watches,
        draw: Callable[[int, int], int],  # a number between two, both included
        *,
        sessions_max: int = SESSIONS_MAX,
        partitions_max: int = PARTITIONS_MAX,
        eviction_s: float = EVICTION_S,
    ) -> None:
        self._watches = watches
        self._draw = draw
        self._sessions_max = sessions_max
        self._partitions_max = partitions_max
        self._eviction_s = eviction_s
        self._sessions: dict[int, FetchSession] = {}  # the least recently used first
        self.partition_count = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def step(self, request: FetchRequest, *, uses_topic_ids: bool, now: float) -> FetchSession | None:
        """The session with what the request says in it; None if nothing is left in it. Raises ClusterError."""
        session = self._expected(request, uses_topic_ids=uses_topic_ids)
        size = len(session)
        session.update(request)
        self.partition_count += len(session) - size
        if not len(session):
            self._remove(session)
            return None
        if self.partition_count > self._partitions_max:
            self._remove(session)
            raise ClusterError(
                ErrorCode.fetch_session_id_not_found,
                f"fetch session {session.id} is closed: all have more than {self._partitions_max} partitions together",
            )
        session.advance(now)
        self._sessions[session.id] = self._sessions.pop(session.id)
        return session

    def open(self, partitions: Sequence[Asked], *, isolation_level: int, uses_topic_ids: bool, now: float) -> FetchSession | None:
        """A new session for what a full fetch named, or None if there is no room."""
        if not partitions or not self._has_room(len(partitions), now):
            return None
        session = FetchSession(self._new_id(), uses_topic_ids=uses_topic_ids, watches=self._watches, now=now)
        session.adopt(partitions, isolation_level)
        self._sessions[session.id] = session
        self.partition_count += len(session)
        return session

    def close(self, session_id: int) -> None:
        """The client is done with it, or begins anew."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._remove(session)

    def _expected(self, request: FetchRequest, *, uses_topic_ids: bool) -> FetchSession:
        session = self._sessions.get(request.session_id)
        if session is None:
            raise ClusterError(ErrorCode.fetch_session_id_not_found, f"there is no fetch session {request.session_id}")
        if request.session_epoch != session.epoch:
            raise ClusterError(
                ErrorCode.invalid_fetch_session_epoch,
                f"fetch session {session.id}: epoch {request.session_epoch}, expected {session.epoch}",
            )
        if uses_topic_ids != session.uses_topic_ids:
            raise ClusterError(
                ErrorCode.fetch_session_topic_id_error,
                f"fetch session {session.id} began with topic {'ids' if session.uses_topic_ids else 'names'}",
            )
        return session

    def _has_room(self, size: int, now: float) -> bool:
        """True if there is, or was made. In Kafka's order: the place of who rests longest, then of the smallest old one."""
        while len(self._sessions) >= self._sessions_max or self.partition_count + size > self._partitions_max:
            leaving = self._stale(now) or self._smaller(size, now)
            if leaving is None:
                return False
            self._remove(leaving)
        return True

    def _stale(self, now: float) -> FetchSession | None:
        longest_at_rest = next(iter(self._sessions.values()), None)
        if longest_at_rest is not None and now - longest_at_rest.used_at > self._eviction_s:
            return longest_at_rest
        return None

    def _smaller(self, size: int, now: float) -> FetchSession | None:
        old = [session for session in self._sessions.values() if now - session.created_at > self._eviction_s]
        smallest = min(old, key=len, default=None)
        return smallest if smallest is not None and len(smallest) <= size else None

    def _new_id(self) -> int:
        # Drawn, so that a client of the process before us does not hit upon another's session.
        while (session_id := self._draw(1, ID_MAX)) in self._sessions:
            pass
        return session_id

    def _remove(self, session: FetchSession) -> None:
        del self._sessions[session.id]
        self.partition_count -= len(session)
        session.close()


def asked_in(topics: Iterable[FetchTopic]) -> list[Asked]:
    """The partitions of a request, flat. One that is named again counts as it was named last, as in Kafka: it is read once."""
    asked = [Asked(topic.name, topic.topic_id, wanted) for topic in topics for wanted in topic.partitions]
    if len(asked) == 1:
        return asked
    return list({one.key: one for one in asked}.values())
