"""A member that speaks the protocol of KIP-848: the coordinator assigns, the member follows, and says how far it has got.

    ConsumerGroupHeartbeat (epoch 0) -> told what to have -> what is taken away: read no more, commit, say so -> what is new: read

What it was told it has, in the coordinator's eyes, until it says in a heartbeat that it has not.
"""

from typing import Any
from uuid import UUID

from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.groups import Key

from .connection import CONSUMER_GROUP_HEARTBEAT
from .coordinator import Answer, Unanswered
from .member import Member, _by_topic

JOINS, LEAVES, LEAVES_FOR_A_WHILE = 0, -1, -2


class ConsumerMember(Member):
    """Owned by a workload."""

    _epoch = JOINS
    _target: frozenset[Key] | None = None  # what it is to have; None while it has not been told
    _named: tuple[Key, ...] | None = None  # what it told last that it has
    _is_to_say_all = True  # after an answer that was lost, or an error
    _later: Struct | None = None  # an assignment that names topics it does not know yet

    @property
    def generation(self) -> int:
        return self._epoch

    @property
    def is_settled(self) -> bool:
        has_all = self._target is not None and self._target == set(self.owned) == set(self.reader.keys())
        return self._epoch > 0 and has_all and not self._has_news and self._later is None

    @property
    def _has_news(self) -> bool:
        return self._named != tuple(sorted(self.owned))

    async def _turn(self) -> None:
        if not self.member_id:
            self.member_id = str(UUID(int=self.client.rng.getrandbits(128), version=4))
        await self._follow()
        if self._has_news or self.client.now() >= self._heartbeat_at:
            await self._heartbeat()
        else:
            await self._read_and_commit()

    # --- heartbeats

    async def _heartbeat(self) -> None:
        self.doing = f"shows in epoch {self._epoch} that it lives"
        has = tuple(sorted(self.owned))
        is_joining, says_all = self._epoch == JOINS, self._is_to_say_all or self._epoch == JOINS
        if says_all or self._named != has:
            self._say_what_is_given_up()
        self._is_to_say_all = True  # unless this is answered
        answer = await self.coordinator.ask(CONSUMER_GROUP_HEARTBEAT, self._body(has, says_all=says_all))
        if answer.code == ErrorCode.unreleased_instance_id:
            raise Unanswered("the instance's last process is not forgotten yet", may_be_done=False)
        self._check(answer, "ConsumerGroupHeartbeat")
        self._named, self._is_to_say_all = has, False
        self._hear(answer, is_joining=is_joining)

    def _body(self, has: tuple[Key, ...], *, says_all: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "group_id": self.plan.name,
            "member_id": self.member_id,
            "member_epoch": self._epoch,
            "instance_id": self.instance_id,
            "rack_id": None,
            "rebalance_timeout_ms": -1,
            "subscribed_topic_names": None,
            "subscribed_topic_regex": None,
            "server_assignor": None,
            "topic_partitions": None,
        }
        if says_all:
            body["rebalance_timeout_ms"] = int(self.plan.rebalance_timeout_s * 1000)
            body["subscribed_topic_names"] = list(self.plan.topics)
            body["server_assignor"] = self.plan.assignor
        if says_all or self._named != has:
            topics = self.client.topics
            body["topic_partitions"] = [
                {"topic_id": topics[topic].topic_id, "partitions": numbers} for topic, numbers in _by_topic(has).items()
            ]
        return body

    def _say_what_is_given_up(self) -> None:
        """What it was told and has not begun with stays its own."""
        has = {*self.owned, *(self._target or ())}
        self.book.on_given_up(self.name, [key for key in self.book.tenures if key not in has])

    def _hear(self, answer: Answer, *, is_joining: bool) -> None:
        now, epoch = self.client.now(), int(answer.body.member_epoch)
        self._heartbeat_at = now + answer.body.heartbeat_interval_ms / 1000
        self._epoch = epoch
        if answer.body.assignment is not None:
            self._later = answer.body.assignment
            self._understand()
            self._say_what_is_given_up()
        if is_joining:
            self.book.on_joined(self.name, epoch, node_id=answer.node_id, asked_at=answer.asked_at, now=now)
        else:
            self.book.on_epoch(self.name, epoch, node_id=answer.node_id, now=now)
            self.book.on_shown(self.name, node_id=answer.node_id, asked_at=answer.asked_at)
        if answer.body.assignment is not None and self._later is None:
            self.book.on_told(self.name, self._target or (), node_id=answer.node_id, asked_at=answer.asked_at, now=now)

    def _understand(self) -> None:
        """An assignment names topics by id: those that it does not know yet, metadata has to explain."""
        names = {view.topic_id: topic for topic, view in self.client.topics.items()}
        assert self._later is not None
        if all(topic.topic_id in names for topic in self._later.topic_partitions):
            self._target = frozenset(
                (names[topic.topic_id], number) for topic in self._later.topic_partitions for number in topic.partitions
            )
            self._later = None
        else:
            self.client.refresh()

    # --- following

    async def _follow(self) -> None:
        """First give up, then say so; what is new is read when that is done."""
        if self._later is not None:
            self._understand()
        if self._target is None:
            return
        lost = [key for key in self.owned if key not in self._target]
        if lost:
            await self._give_up(lost)
            return  # the next heartbeat says so
        if not self._has_news:
            self.owned.update(dict.fromkeys(sorted(self._target)))

    async def _fetch_offsets(self, topics: dict[str, list[int]]) -> Answer:
        return await self.coordinator.fetch_offsets(topics, member_id=self.member_id, member_epoch=self._epoch)

    def _forget_membership(self) -> None:
        """The id stays: it is the member's own."""
        self._epoch, self._target, self._named, self._later = JOINS, None, None, None
        self._is_to_say_all = True

    async def _say_goodbye(self) -> None:
        if self._epoch == JOINS:
            return
        epoch = LEAVES if self.instance_id is None else LEAVES_FOR_A_WHILE
        body = self._body((), says_all=False) | {"member_epoch": epoch, "topic_partitions": None}
        answer = await self.coordinator.ask(CONSUMER_GROUP_HEARTBEAT, body)
        self._check(answer, "ConsumerGroupHeartbeat (leaving)")
