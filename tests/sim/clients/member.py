"""What members of both protocols have in common: they read what they own from where the group has been, commit what they have
processed, and ask again what was not answered.

    live:  join -> heartbeat when it is due, adopt what is new, poll, commit when it is due -> ... -> leave

One thing after the other, as in a consumer of one thread; an answer that takes long holds everything else up.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import groupby

from quorumlog.checker.history import Operation
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.groups import EVERYBODY, GroupBook, Key
from tests.sim.invariants.sight import Violation

from .assigned_reader import AssignedReader
from .client import Client
from .connection import OFFSET_COMMIT
from .coordinator import Answer, Coordinator, Unanswered
from .group_plan import COOPERATIVE, EAGER, MIXED, GroupPlan
from .processes import Processes

POLL_S = 0.1
FINAL_COMMITS_MAX = 3  # attempts, before partitions are given up
LEAVE_ATTEMPTS_MAX = 3
OUT = (  # the coordinator does not know this member, or not any more
    ErrorCode.unknown_member_id,
    ErrorCode.illegal_generation,
    ErrorCode.fenced_member_epoch,
    ErrorCode.fenced_instance_id,
)
NOT_NOW = (ErrorCode.rebalance_in_progress, ErrorCode.stale_member_epoch)  # a refusal that a heartbeat will explain


class Out(Exception):
    """The member was thrown out: it owns nothing, and has to join anew."""


class Member(ABC):
    """One life of a member, with one client of its own. Owned by a workload, which runs `live` and calls `close` behind it."""

    def __init__(
        self,
        name: str,
        plan: GroupPlan,
        instance_id: str | None,
        client: Client,
        book: GroupBook,
        processes: Processes,
        record: Callable[[Operation], None],
        *,
        speaks: str,
    ) -> None:
        self.name = name  # of this life: no other has it
        self.plan = plan
        self.speaks = speaks
        self.instance_id = instance_id
        self.client = client
        self.book = book
        self.coordinator = Coordinator(client, plan.name)
        self.reader = AssignedReader(client, processes, record, self.book.on_processed, max_wait_s=POLL_S)
        self.member_id = ""
        self.owned: dict[Key, None] = {}
        self.doing = "begins"
        self._committed: dict[Key, int] = {}
        self._commits = 0
        self._heartbeat_at = 0.0
        self._commit_at = 0.0
        self._is_leaving = False
        self._stalls_s = 0.0
        client.want(plan.topics)

    # --- for the workload

    async def live(self) -> None:
        """Until it is told to leave. It is cancelled to let it fall silent."""
        while not self._is_leaving:
            try:
                await self._turn()
            except Unanswered as error:
                self.doing = f"asks again after {error}"
                await asyncio.sleep(self.client.backoff_s())
            except Out as error:
                self.doing = f"was thrown out: {error}"
                self._lose_everything()
                await asyncio.sleep(self.client.backoff_s())
        await self._leave()

    def leave(self) -> None:
        """Soon, after what it is doing."""
        self._is_leaving = True

    def stall(self, seconds: float) -> None:
        """Soon, between reading and committing."""
        self._stalls_s = seconds

    async def close(self) -> None:
        """End it, as it is."""
        self.book.on_given_up(self.name)
        await self.reader.close()

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """It is in the group, as far as it knows, and reads all it owns."""

    def describe(self) -> str:
        keys = ", ".join(f"{topic}-{partition}" for topic, partition in self.owned)
        return f"{self.name} owns {keys or 'nothing'} and {self.doing}"

    # --- what the protocols do

    @abstractmethod
    async def _turn(self) -> None:
        """The next thing. Raises Unanswered and Out."""

    @abstractmethod
    async def _say_goodbye(self) -> None:
        """Once. Raises Unanswered."""

    @abstractmethod
    def _forget_membership(self) -> None:
        """It was thrown out."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Of the classic protocol, or the epoch."""

    # --- common turns

    async def _read_and_commit(self) -> None:
        """A turn of one that is in the group."""
        await self._adopt()
        self.doing = "polls"
        await self.reader.poll()
        if self._stalls_s:
            stalls_s, self._stalls_s, self.doing = self._stalls_s, 0.0, "does nothing"
            await asyncio.sleep(stalls_s)
        if self.client.now() >= self._commit_at:
            self._commit_at = self.client.now() + self.plan.commit_every_s
            await self._commit(list(self.owned))

    async def _adopt(self) -> None:
        """Begin to read what is new, from where the group has been."""
        reads = set(self.reader.keys())
        new = [key for key in self.owned if key not in reads]
        if not new:
            return
        self.doing = f"asks for the offsets of {len(new)} partitions"
        answer = await self._fetch_offsets(_by_topic(new))
        if answer.code in NOT_NOW:
            self._heartbeat_at = 0.0
            return
        self._check(answer, "OffsetFetch")
        self.reader.take(offsets_of(self.book, answer, self.client.now()))

    async def _fetch_offsets(self, topics: dict[str, list[int]]) -> Answer:
        return await self.coordinator.fetch_offsets(topics)

    async def _commit(self, keys: Iterable[Key]) -> bool:
        """What was read of these since they were committed last. False if the coordinator would not have it now."""
        places = {key: place for key in keys if (place := self.reader.position(key)) is not None}
        new = {key: place for key, place in places.items() if self._committed.get(key) != place[0]}
        if not new:
            return True
        self.doing = f"commits {len(new)} offsets"
        return await self._commit_these(new)

    async def _commit_these(self, places: dict[Key, tuple[int, int]]) -> bool:
        self._commits += 1
        token, generation, asked_at = f"{self.name}.{self._commits}", self.generation, self.client.now()
        for key, (offset, _) in places.items():
            self.book.on_commit(key, token, offset, is_of_member=True, now=asked_at)
        who = {
            "generation_id_or_member_epoch": generation,
            "member_id": self.member_id,
            "group_instance_id": self.instance_id,
        }
        try:
            answer = await self.coordinator.ask(
                OFFSET_COMMIT, commit_body(self.plan.name, token, places) | who, code_of=_worst_code
            )
        except Unanswered as error:
            if not error.may_be_done:
                self._refused(places, token)
            raise
        if answer.code != ErrorCode.none:
            self._refused(places, token)
            if answer.code in NOT_NOW:
                self._heartbeat_at = 0.0
                return False
            self._check(answer, "OffsetCommit")
        for key, (offset, _) in places.items():
            self._committed[key] = offset
            told = generation if self.plan.protocol in (EAGER, COOPERATIVE) else -1
            self.book.on_committed(key, token, generation=told, asked_at=answer.asked_at, now=self.client.now())
        self.book.on_shown(self.name, node_id=EVERYBODY, asked_at=answer.asked_at)
        return True

    def _refused(self, places: Iterable[Key], token: str) -> None:
        for key in places:
            self.book.register(key).refuse(token)

    async def _give_up(self, keys: Iterable[Key]) -> None:
        """Read no more of these, and commit how far they were read, if that can be done soon."""
        keys = list(keys)
        for _ in range(FINAL_COMMITS_MAX):
            try:
                if await self._commit(keys):
                    break
            except Unanswered:
                await asyncio.sleep(self.client.backoff_s())
        self._drop(keys)

    def _drop(self, keys: Iterable[Key]) -> None:
        keys = list(keys)
        self.reader.drop(keys)
        for key in keys:
            self.owned.pop(key, None)
            self._committed.pop(key, None)

    def _lose_everything(self) -> None:
        self.book.on_given_up(self.name)
        self._drop(list(self.owned))
        self._forget_membership()

    async def _leave(self) -> None:
        self.doing = "leaves"
        try:
            await self._give_up(list(self.owned))
            self.book.on_given_up(self.name)
            for _ in range(LEAVE_ATTEMPTS_MAX):
                try:
                    return await self._say_goodbye()
                except Unanswered:
                    await asyncio.sleep(self.client.backoff_s())
        except Out:
            self._lose_everything()

    def _check(self, answer: Answer, what: str) -> None:
        """Raises Out, or a Violation for what no coordinator may answer."""
        # The last member of KIP-848 that a group of both kinds knows may be another one: it is a classic group from then on.
        is_gone = self.plan.protocol == MIXED and answer.code == ErrorCode.group_id_not_found
        if answer.code in OUT or is_gone:
            raise Out(f"{what} is answered with error {answer.code}")
        if answer.code != ErrorCode.none:
            raise Violation("client: group", f"{self.name}: {what} is answered with error {answer.code}")


def _metadata_of(committed: Struct) -> str:
    return committed.metadata or ""


def offsets_of(
    book: GroupBook, answer: Answer, now: float, *, token_of: Callable[[Struct], str] = _metadata_of
) -> dict[Key, tuple[int | None, int]]:
    """What an OffsetFetch says, also to the book: where to go on in each partition, and the epoch of the record before it."""
    found: dict[Key, tuple[int | None, int]] = {}
    for topic in answer.body.groups[0].topics:
        for one in topic.partitions:
            key = (topic.name, one.partition_index)
            if one.error_code != ErrorCode.none:
                raise Violation("client: group", f"OffsetFetch of {key} is answered with error {one.error_code}")
            book.on_fetched(key, token_of(one), one.committed_offset, asked_at=answer.asked_at, now=now)
            is_there = one.committed_offset >= 0
            found[key] = (one.committed_offset, one.committed_leader_epoch) if is_there else (None, -1)
    return found


def commit_body(group: str, metadata: str, places: dict[Key, tuple[int, int]]) -> dict[str, object]:
    topics = [
        {
            "name": topic,
            "partitions": [
                {
                    "partition_index": partition,
                    "committed_offset": places[topic, partition][0],
                    "committed_leader_epoch": places[topic, partition][1],
                    "committed_metadata": metadata,
                }
                for partition in partitions
            ],
        }
        for topic, partitions in _by_topic(places).items()
    ]
    return {"group_id": group, "topics": topics}


def _by_topic(keys: Iterable[Key]) -> dict[str, list[int]]:
    return {topic: [key[1] for key in ones] for topic, ones in groupby(sorted(keys), key=lambda key: key[0])}


def _worst_code(answer: Struct) -> int:
    """A commit is refused as a whole, but each partition says so."""
    return max((int(one.error_code) for topic in answer.topics for one in topic.partitions), default=0)
