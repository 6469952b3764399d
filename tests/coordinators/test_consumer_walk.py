"""Consumers of both protocols that come, go, crash, restart, lose answers and take their time, in random order: no partition
ever has two owners, what is known is what was logged, and once there is quiet every partition is read.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from quorumlog.coordinators.consumer_group import ConsumerGroup
from quorumlog.metadata.group_config import GroupConfig
from quorumlog.wire.errors import ErrorCode

from .consumer_stage import Stage, assigned, synced, topic_id

Item = tuple[Any, int]
STEPS = 60
QUIET_ROUNDS = 12
LOST = (ErrorCode.unknown_member_id, ErrorCode.fenced_member_epoch, ErrorCode.fenced_instance_id, ErrorCode.group_id_not_found)


@dataclass
class Consumer:
    """An honest one: what it is told to give up it reads on until it says so. When an answer was lost it begins with nothing new
    before it hears again: the coordinator may have taken its silence about a partition for a release, which the protocol allows.
    """

    name: str
    subscription: dict[str, Any]
    instance_id: str | None = None
    epoch: int = 0
    told: set[Item] = field(default_factory=set)
    has: set[Item] = field(default_factory=set)
    full: bool = True  # the next heartbeat tells everything of itself

    @property
    def holds(self) -> set[Item]:
        return self.has if self.full else self.told | self.has

    def beat(self, stage: Stage, *, hears: bool = True) -> None:
        fields: dict[str, Any] = {"instance_id": self.instance_id, "topic_partitions": _listed(self.has)}
        if self.full:
            fields |= {"rebalance_timeout_ms": 30_000, **self.subscription}
        answer = stage.beat(self.name, self.epoch, **fields)
        self.full = not hears
        if not hears:
            return
        if answer["error_code"] in LOST:
            self.epoch, self.full = 0, True
            self.told, self.has = set(), set()
        elif answer["error_code"] == ErrorCode.none:
            self.epoch = answer["member_epoch"]
            if answer["assignment"] is not None:
                self.told = {(topic, index) for topic, indexes in assigned(answer).items() for index in indexes}

    def settle(self) -> None:
        """It has finished with what it gave up, and begins with what it got."""
        self.has = self.has & self.told if self.full else set(self.told)

    def leave(self, stage: Stage, epoch: int) -> None:
        stage.beat(self.name, epoch, instance_id=self.instance_id)


@dataclass
class ClassicConsumer(Consumer):
    """One that has not been upgraded: it joins and syncs whenever its heartbeat is refused. An eager one gives up everything
    before it joins, a cooperative one only what it is not assigned any more."""

    eager: bool = False
    joins: bool = True  # its next step is JoinGroup

    def beat(self, stage: Stage, *, hears: bool = True) -> None:
        if not self.joins:
            answer = stage.classic_beat(self.name, self.epoch)
            self._heed(answer, hears)
            if not self.joins:
                return
        if self.eager:
            self.told, self.has = set(), set()
        self._join(stage, hears)

    def _join(self, stage: Stage, hears: bool) -> None:
        owned = {_name(item["topic_id"]): item["partitions"] for item in _listed(self.has)}
        answer = stage.classic_join(self.name, *self.subscription["subscribed_topic_names"], owned=owned)
        self.full = not hears
        if hears and answer is not None and answer["error_code"] == ErrorCode.none:
            self.epoch, self.joins = answer["generation_id"], False
            self._sync(stage, hears)

    def _sync(self, stage: Stage, hears: bool) -> None:
        answer = stage.classic_sync(self.name, self.epoch)
        if answer is None:  # the group is a classic one, and waits for its leader
            return
        self._heed(answer, hears)
        if hears and answer["error_code"] == ErrorCode.none:
            self.told = {(topic_id(name), index) for name, indexes in synced(answer).items() for index in indexes}

    def _heed(self, answer: dict[str, Any], hears: bool) -> None:
        self.full = not hears
        if hears and answer["error_code"] != ErrorCode.none:
            self.joins = True
            if answer["error_code"] != ErrorCode.rebalance_in_progress:
                self.told, self.has = set(), set()

    def leave(self, stage: Stage, epoch: int) -> None:
        stage.classic_leave({"member_id": self.name})


def _name(topic: Any) -> str:
    return str(topic.bytes.rstrip(b"\0").decode())


def _listed(items: set[Item]) -> list[dict[str, Any]]:
    topics = sorted({topic for topic, _ in items})
    return [{"topic_id": topic, "partitions": sorted(index for held, index in items if held == topic)} for topic in topics]


class Walk:
    """All chance is drawn from the seed."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.topics = {"a1": 4, "a2": 3, "b1": 2}
        self.stage = Stage(self.topics, GroupConfig(group_consumer_migration_policy="upgrade"))
        self.alive: list[Consumer] = []
        self.crashed: list[Consumer] = []
        self.made = 0
        self.mixed = seed % 3 > 0  # do the subscriptions differ?
        self.has_classic = seed % 2 > 0
        self.revoking: dict[str, set[Item]] = {}

    def step(self) -> None:
        chance = self.chance.random
        drawn = chance()
        if not self.alive or (drawn < 0.12 and len(self.alive) < 6):
            self.alive.append(self._new())
        elif drawn < 0.17:
            self._pick().leave(self.stage, -1)
            self._drop_left()
        elif drawn < 0.21:
            self.crashed.append(self._take())
        elif drawn < 0.24:
            self._restart_static()
        elif drawn < 0.27 and self.crashed:
            self.alive.append(self.crashed.pop())  # it was only asleep
        elif drawn < 0.31:
            self._change_topics()
        elif drawn < 0.34:
            self.stage.fail_over()
        elif drawn < 0.40:
            self.stage.wait(self.chance.uniform(1, 20))
        elif drawn < 0.45 and self.mixed:
            consumer = self._pick()
            if isinstance(consumer, ClassicConsumer):
                return
            consumer.subscription, consumer.full = self._subscription(), True  # as after a lost answer
        elif drawn < 0.60:
            self._pick().settle()
        else:
            self._pick().beat(self.stage, hears=chance() < 0.9)

    def calm_down(self) -> None:
        self.stage.wait(60)
        if all(isinstance(one, ClassicConsumer) for one in self.alive):
            self.alive.append(Consumer("last", self._subscription()))
        for _ in range(QUIET_ROUNDS):
            for consumer in self.alive:
                consumer.beat(self.stage)
                consumer.settle()
            self.stage.wait(1)

    # --- what happens

    def _new(self) -> Consumer:
        self.made += 1
        if self.has_classic and self.group().members and self.chance.random() < 0.5:
            names = {"subscribed_topic_names": ["a1", "a2", "b1"]}
            return ClassicConsumer(f"c{self.made:02}", names, eager=self.chance.random() < 0.3)
        return Consumer(f"m{self.made:02}", self._subscription(), f"i{self.made}" if self.chance.random() < 0.3 else None)

    def _subscription(self) -> dict[str, Any]:
        if not self.mixed:
            return {"subscribed_topic_names": ["a1", "a2", "b1"]}
        regex = {"subscribed_topic_names": [], "subscribed_topic_regex": self.chance.choice(["a.*", ".*1"])}
        names = {"subscribed_topic_names": self.chance.sample(["a1", "a2", "b1", "none"], 2), "subscribed_topic_regex": ""}
        return self.chance.choice([regex, names])

    def _pick(self) -> Consumer:
        return self.chance.choice(self.alive)

    def _take(self) -> Consumer:
        return self.alive.pop(self.chance.randrange(len(self.alive)))

    def _drop_left(self) -> None:
        members = self.group().members
        self.alive = [one for one in self.alive if one.epoch == 0 or one.name in members]

    def _restart_static(self) -> None:
        static = [one for one in self.alive if one.instance_id is not None and one.epoch > 0]
        if static:
            old = self.chance.choice(static)
            old.leave(self.stage, -2)
            self.alive.remove(old)
            self.made += 1
            self.alive.append(Consumer(f"m{self.made:02}", old.subscription, old.instance_id))

    def _change_topics(self) -> None:
        name = self.chance.choice(["a1", "a2", "a3", "b1"])
        if name not in self.topics:
            self.topics[name] = self.chance.randint(1, 4)
        elif self.chance.random() < 0.3:
            del self.topics[name]
        else:
            self.topics[name] += 1
        self.stage.change_topics(self.topics)

    # --- what must hold

    def group(self) -> ConsumerGroup:
        group = self.stage.shard._context.groups.get("g")
        return group if isinstance(group, ConsumerGroup) else ConsumerGroup("g")

    def check(self) -> None:
        self.stage.check_log()
        group = self.group()
        self._check_owners(group)
        self._check_revocations(group)

    def _check_owners(self, group: ConsumerGroup) -> None:
        """Of those that are members still; who was fenced will hear of it."""
        members = [one for one in (*self.alive, *self.crashed) if one.name in group.members]
        held = sorted((item, one.name) for one in members for item in one.holds)
        for (item, first), (other, second) in pairwise(held):
            assert item != other, (item, first, second)
        for one in members:
            for topic, partition in one.holds:
                assert group.owner(topic, partition) in (one.name, None), (one.name, topic, partition)

    def _check_revocations(self, group: ConsumerGroup) -> None:
        """Nothing is taken from a member that shall have it."""
        for name, member in group.members.items():
            revoking = {(topic, index) for topic, epochs in member.position.revoking.items() for index in epochs}
            target = {(topic, index) for topic, indexes in group.targets.get(name, {}).items() for index in indexes}
            assert not (revoking - self.revoking.get(name, set())) & target, name
            self.revoking[name] = revoking

    def check_calm(self) -> None:
        group = self.group()
        assert group.state_name == "Stable"
        assert {one.epoch for one in self.alive} == {group.epoch}
        read = {name for name in group.subscribed_topics() or () if name in self.topics}
        every = [item for one in self.alive for item in one.has]
        assert sorted(every) == sorted((topic_id(name), index) for name in read for index in range(self.topics[name]))


@pytest.mark.parametrize("seed", range(24))
def test_a_walk(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
        walk.check()
    walk.calm_down()
    walk.check()
    walk.check_calm()
