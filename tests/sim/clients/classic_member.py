"""A member that speaks the classic protocol, as the consumers of before KIP-848: eager, or cooperative (KIP-429).

    JoinGroup (again with the id that it was given) -> the leader shares out -> SyncGroup -> Heartbeat ... -> LeaveGroup

Eager: everything is given up before each join. Cooperative: what is taken away is given up after the assignment says so, and then
everybody joins again. A static member keeps its place by its instance id, and does not say that it leaves.
"""

from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.groups import Key

from .connection import HEARTBEAT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP
from .coordinator import Answer
from .group_plan import COOPERATIVE, MIXED
from .member import OUT, Member, Out
from .subscriptions import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
    share_in_turn,
    share_keeping,
)

METADATA_AGE_S = 1.0
JOIN_EXTRA_S = 1.0  # over the rebalance timeout
CONSUMER_PROTOCOL = "consumer"
NO_GENERATION = -1


class ClassicMember(Member):
    """Owned by a workload."""

    _generation = NO_GENERATION
    _assigned_in = NO_GENERATION  # the generation of what it owns
    _has_to_join = True
    _shared_out: dict[str, int] | None = None  # how many partitions each topic had when it shared them out, as the leader
    _refresh_at = 0.0

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def is_settled(self) -> bool:
        return not self._has_to_join and set(self.reader.keys()) == set(self.owned)

    @property
    def _is_cooperative(self) -> bool:
        return self.speaks == COOPERATIVE

    @property
    def _identity(self) -> str:
        """Under which it has an assignment, over several processes if it is static."""
        return self.instance_id or self.name

    async def _turn(self) -> None:
        self._look_for_partitions()
        if self._has_to_join:
            await self._join()
        elif self.client.now() >= self._heartbeat_at:
            await self._heartbeat()
        else:
            await self._read_and_commit()

    def _look_for_partitions(self) -> None:
        """A leader looks whether its topics have grown: then there is more to share out."""
        if self._shared_out is None or self.client.now() < self._refresh_at:
            return
        self._refresh_at = self.client.now() + METADATA_AGE_S
        if self._shared_out != self._partition_counts():
            self._shared_out, self._has_to_join = None, True
        self.client.refresh()

    def _partition_counts(self) -> dict[str, int]:
        return {topic: len(self.client.topics[topic].leaders) for topic in self.plan.topics if topic in self.client.topics}

    # --- joining

    async def _join(self) -> None:
        if not self._is_cooperative and self.owned:
            await self._give_up(list(self.owned))
            self.book.on_given_up(self.name)
        self.doing = f"joins as {self.member_id!r}"
        subscription = Subscription(self.plan.topics, tuple(self.owned), self._assigned_in)
        body = {
            "group_id": self.plan.name,
            "session_timeout_ms": int(self.plan.session_timeout_s * 1000),
            "rebalance_timeout_ms": int(self.plan.rebalance_timeout_s * 1000),
            "member_id": self.member_id,
            "group_instance_id": self.instance_id,
            "protocol_type": CONSUMER_PROTOCOL,
            "protocols": [{"name": self.speaks, "metadata": encode_subscription(subscription)}],
            "reason": None,
        }
        answer = await self.coordinator.ask(JOIN_GROUP, body, extra_s=self.plan.rebalance_timeout_s + JOIN_EXTRA_S)
        if answer.code == ErrorCode.member_id_required:
            self.member_id = answer.body.member_id
            return
        if answer.code == ErrorCode.rebalance_in_progress:
            return
        self._check(answer, "JoinGroup")
        self.member_id, self._generation = answer.body.member_id, answer.body.generation_id
        await self._sync(answer.body)

    async def _sync(self, joined: Struct) -> None:
        self.doing = f"waits for its assignment in generation {self._generation}"
        self._shared_out = None
        is_leader = joined.leader == self.member_id and not joined.skip_assignment
        shares = await self._share_out(joined) if is_leader else {}
        body = {
            "group_id": self.plan.name,
            "generation_id": self._generation,
            "member_id": self.member_id,
            "group_instance_id": self.instance_id,
            "protocol_type": CONSUMER_PROTOCOL,
            "protocol_name": joined.protocol_name,
            "assignments": [
                {"member_id": member_id, "assignment": encode_assignment(keys)} for member_id, keys in shares.items()
            ],
        }
        answer = await self.coordinator.ask(SYNC_GROUP, body, extra_s=self.plan.rebalance_timeout_s + JOIN_EXTRA_S)
        if answer.code == ErrorCode.rebalance_in_progress:
            return
        self._check(answer, "SyncGroup")
        await self._take_over(answer, decode_assignment(answer.body.assignment))

    async def _share_out(self, joined: Struct) -> dict[str, list[Key]]:
        while any(topic not in self.client.topics for topic in self.plan.topics):
            await self.client.refreshed_metadata()
        self._shared_out = self._partition_counts()
        partitions = [(topic, number) for topic in self.plan.topics for number in self.client.topics[topic].leaders]
        claims = {member.member_id: decode_subscription(member.metadata) for member in joined.members}
        return share_keeping(claims, partitions) if self._is_cooperative else share_in_turn(claims, partitions)

    async def _take_over(self, answer: Answer, assigned: tuple[Key, ...]) -> None:
        now, who, generation = self.client.now(), answer.node_id, self._generation
        if self.plan.protocol != MIXED:  # there a generation is an epoch, and members are in different ones
            self.book.on_assigned(self._identity, generation, assigned, node_id=who, asked_at=answer.asked_at, now=now)
        self.book.on_told(self.name, assigned, node_id=who, asked_at=answer.asked_at, now=now)
        self._assigned_in = generation
        self._has_to_join = False
        self._heartbeat_at = now + self.plan.heartbeat_s
        lost = [key for key in self.owned if key not in assigned]
        self.owned.update(dict.fromkeys(assigned))
        if lost:
            self._has_to_join = True
            await self._give_up(lost)
            self.book.on_given_up(self.name, lost)

    # --- being a member

    async def _heartbeat(self) -> None:
        self.doing = "shows that it lives"
        body = {
            "group_id": self.plan.name,
            "generation_id": self._generation,
            "member_id": self.member_id,
            "group_instance_id": self.instance_id,
        }
        answer = await self.coordinator.ask(HEARTBEAT, body)
        self._heartbeat_at = self.client.now() + self.plan.heartbeat_s
        if answer.code == ErrorCode.rebalance_in_progress:
            self._has_to_join = True
            return
        self._check(answer, "Heartbeat")
        self.book.on_shown(self.name, node_id=answer.node_id, asked_at=answer.asked_at)

    def _forget_membership(self) -> None:
        self.member_id, self._generation, self._assigned_in, self._has_to_join = "", NO_GENERATION, NO_GENERATION, True

    async def _say_goodbye(self) -> None:
        if self.instance_id is not None or not self.member_id:
            return
        body = {
            "group_id": self.plan.name,
            "members": [{"member_id": self.member_id, "group_instance_id": None, "reason": None}],
        }
        answer = await self.coordinator.ask(LEAVE_GROUP, body)
        codes = [answer.code, *(member.error_code for member in answer.body.members)]
        if any(code in OUT for code in codes):
            raise Out(f"LeaveGroup is answered with {codes}")
        self._check(answer, "LeaveGroup")
