"""All members of all groups of a run, and somebody outside who asks what is committed: each does its part of the plan in time.

    groups = GroupWorkload(plan, wire, node_ids, rng, record, note)
    await groups.run()                    faults go on meanwhile
    await groups.finish(ends, timeout_s, on_settled)  everything has healed, nobody produces; `ends`: of each partition

At the end every group that has members is stable, every partition has one owner and is read to the end; then all leave, and
what was committed is asked for once more.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from quorumlog.checker.history import Operation
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.groups import GroupBook, Key, named
from tests.sim.invariants.sight import Violation
from tests.sim.wire import SimWire

from .classic_member import ClassicMember
from .client import Client
from .connection import OFFSET_COMMIT
from .consumer_member import ConsumerMember
from .coordinator import Coordinator, Unanswered
from .group_plan import CONSUMER, COOPERATIVE, EAGER, MIXED, SIMPLE, GroupOp, GroupPlan, GroupsPlan
from .member import Member, _by_topic, _worst_code, commit_body, offsets_of
from .processes import Processes
from .workload import Hang, _all_of

LOOK_EVERY_S = 0.1
PROCESSES_FROM = 1_000_000  # numbers of the history that the other workload will not come to
AT_THE_END_MAX_S = 20.0  # for what somebody outside asks


class Outsider:
    """Somebody who is no member: asks for all of a group's offsets, and commits for groups that have no members.

    Every offset that it commits is another one, so that half of its commits can do without metadata, as those of most clients.
    """

    def __init__(self, plan: GroupPlan, client: Client, book: GroupBook) -> None:
        self.plan = plan
        self.client = client
        self.book = book
        self._coordinator = Coordinator(client, plan.name)
        self._commits = 0
        client.want(plan.topics)

    async def fetch(self, keys: Sequence[Key]) -> dict[Key, int]:
        """Raises Unanswered."""
        answer = await self._coordinator.fetch_offsets(_by_topic(keys))
        if answer.code != ErrorCode.none:
            raise Violation("client: group", f"{self.client.name}: OffsetFetch is answered with error {answer.code}")
        found = offsets_of(self.book, answer, self.client.now(), token_of=self._token_of)
        return {key: offset or 0 for key, (offset, _) in found.items()}

    def _token_of(self, committed: Struct) -> str:
        is_ours = self.plan.protocol == SIMPLE and committed.committed_offset >= 0
        return committed.metadata or (self._token(committed.committed_offset) if is_ours else "")

    def _token(self, number: int) -> str:
        return f"{self.client.name}.{number}"

    async def commit(self, keys: Sequence[Key]) -> None:
        """Another offset for each. Raises Unanswered."""
        self._commits += 1
        token, now = self._token(self._commits), self.client.now()
        for key in keys:
            self.book.on_commit(key, token, self._commits, is_of_member=False, now=now)
        metadata = token if self._commits % 2 else ""
        body = commit_body(self.plan.name, metadata, dict.fromkeys(keys, (self._commits, -1)))
        nobody = {"generation_id_or_member_epoch": -1, "member_id": "", "group_instance_id": None}
        answer = await self._coordinator.ask(OFFSET_COMMIT, body | nobody, code_of=_worst_code)
        if answer.code == ErrorCode.unknown_topic_or_partition:  # it is too new for this node
            return
        if answer.code != ErrorCode.none:
            raise Violation("client: group", f"{self.client.name}: OffsetCommit is answered with error {answer.code}")
        for key in keys:
            self.book.on_committed(key, token, generation=-1, asked_at=now, now=self.client.now())

    def keys(self) -> list[Key]:
        """Of its topics, as far as metadata knows them."""
        known = self.client.topics
        return [(topic, number) for topic in self.plan.topics if topic in known for number in known[topic].leaders]


class GroupWorkload:
    """Used once. Ends all that it has begun in `finish`, or in `close`."""

    def __init__(
        self,
        plan: GroupsPlan,
        wire: SimWire,
        node_ids: Sequence[int],
        rng: random.Random,
        record: Callable[[Operation], None],
        note: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.books = [GroupBook(group.name, keeps_epochs=group.protocol != MIXED) for group in plan.groups]
        self._wire = wire
        self._node_ids = list(node_ids)
        self._rng = rng
        self._record = record
        self._note = note
        self._processes = Processes(first=PROCESSES_FROM)
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._members: dict[tuple[int, int], Member] = {}  # those that live, by group and place in it
        self._lives: dict[tuple[int, int], int] = {}
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._outsiders = [
            Outsider(group, self._client(f"{group.name}-outside"), book)
            for group, book in zip(plan.groups, self.books, strict=True)
        ]
        self._doing: dict[str, None] = {}

    # --- running

    async def run(self) -> None:
        """Every operation at its time; members go on living behind it."""
        self._begun_at = self._loop.time()
        places = dict.fromkeys((op.group, op.member, op.action in ("fetch", "commit")) for op in self.plan.ops)
        await _all_of([self._drive(*place) for place in places])

    async def _drive(self, group: int, member: int, is_outside: bool) -> None:
        """One place in a group, or what somebody outside does: one thing after the other."""
        for op in self.plan.ops:
            if (op.group, op.member, op.action in ("fetch", "commit")) == (group, member, is_outside):
                await asyncio.sleep(max(0.0, self._begun_at + op.at - self._loop.time()))
                await self._do(op)

    async def _do(self, op: GroupOp) -> None:
        doing = f"{op.action} of {op.at} s in group {self.plan.groups[op.group].name}"
        self._doing[doing] = None
        match op.action:
            case "join":
                self._join(op.group, op.member)
            case "stall":
                self._members[op.group, op.member].stall(op.lasts_s)
            case "leave":
                await self._leave(op.group, op.member)
            case "crash":
                await self._crash(op.group, op.member)
            case _:
                await self._ask_outside(op)
        del self._doing[doing]

    def _join(self, group: int, place: int) -> None:
        plan = self.plan.groups[group]
        life = self._lives[group, place] = self._lives.get((group, place), 0) + 1
        name = f"{plan.name}-{place}.{life}"
        instance_id = f"{plan.name}-static-{place}" if place < plan.statics else None
        speaks, book, client = plan.speaks(place, life), self.books[group], self._client(name)
        kind = ConsumerMember if speaks == CONSUMER else ClassicMember
        member = kind(name, plan, instance_id, client, book, self._processes, self._record, speaks=speaks)
        self._members[group, place] = member
        self._note(f"{name} begins, {speaks}")
        self._tasks[member] = self._loop.create_task(self._live(member), name=name)

    async def _live(self, member: Member) -> None:
        try:
            await member.live()
        except Exception as error:
            self._loop.call_exception_handler({"message": f"{member.name} failed", "exception": error})

    async def _leave(self, group: int, place: int) -> None:
        if (member := self._members.pop((group, place), None)) is not None:
            self._note(f"{member.name} is told to leave")
            member.leave()
            await asyncio.wait({self._tasks.pop(member)})
            await member.close()

    async def _crash(self, group: int, place: int) -> None:
        if (member := self._members.pop((group, place), None)) is not None:
            self._note(f"{member.name} falls silent")
            task = self._tasks.pop(member)
            task.cancel()
            await asyncio.wait({task})
            await member.close()

    async def _ask_outside(self, op: GroupOp) -> None:
        outsider = self._outsiders[op.group]
        try:
            if not (keys := outsider.keys()):
                outsider.client.refresh()
            elif op.action == "commit":
                await outsider.commit(keys)
            else:
                await outsider.fetch(keys)
        except Unanswered:
            pass  # so be it

    def _client(self, name: str) -> Client:
        return Client(name, self._wire, self._node_ids, random.Random(self._rng.getrandbits(64)))

    # --- the end

    async def finish(self, ends: Mapping[Key, int], timeout_s: float, on_settled: Callable[[], None]) -> None:
        """Raises Hang, and Violation for what does not fit together over the whole run."""
        try:
            await self._until_settled(ends, timeout_s)
            on_settled()
            await self._leave_all(timeout_s)
            for outsider in self._outsiders:
                await self._committed(outsider, ends)
            for book in self.books:
                book.finish(self._note)
        finally:
            await self.close()

    async def close(self) -> None:
        for place in list(self._members):
            await self._crash(*place)
        for outsider in self._outsiders:
            await outsider.client.close()

    async def _until_settled(self, ends: Mapping[Key, int], timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while (missing := await self._missing(ends)) is not None:
            if self._loop.time() > deadline:
                raise Hang(f"groups have not settled {timeout_s} s after all was healed: {missing}; {self._described()}")
            await asyncio.sleep(LOOK_EVERY_S)
        self._note("all groups are stable, and have read everything")

    async def _missing(self, ends: Mapping[Key, int]) -> str | None:
        if self._doing:
            return f"{next(iter(self._doing))} has not ended"
        for number, outsider in enumerate(self._outsiders):
            members = [member for (group, _), member in self._members.items() if group == number]
            if members and (missing := self._unsettled(outsider.plan, members, ends)) is not None:
                return missing
            if members and (missing := await self._unread(outsider, ends)) is not None:
                return missing
        return None

    def _unsettled(self, plan: GroupPlan, members: list[Member], ends: Mapping[Key, int]) -> str | None:
        for member in members:
            if not member.is_settled:
                return f"{member.name} is not settled"
        if plan.protocol in (EAGER, COOPERATIVE) and len({member.generation for member in members}) > 1:
            return f"members of group {plan.name} are in generations {sorted({member.generation for member in members})}"
        owned = sorted(key for member in members for key in member.owned)
        wanted = sorted(key for key in ends if key[0] in plan.topics)
        return None if owned == wanted else f"members of group {plan.name} own {named(owned)} of {named(wanted)}"

    async def _unread(self, outsider: Outsider, ends: Mapping[Key, int]) -> str | None:
        committed = await self._committed(outsider, ends)
        for key, end in ends.items():
            if key[0] in outsider.plan.topics and committed.get(key, 0) < end:
                return f"group {outsider.plan.name} has committed {committed.get(key, 0)} of {end} of {named([key])}"
        return None

    async def _committed(self, outsider: Outsider, keys: Iterable[Key]) -> dict[Key, int]:
        wanted = [key for key in keys if key[0] in outsider.plan.topics]
        deadline = self._loop.time() + AT_THE_END_MAX_S
        while True:
            try:
                return await outsider.fetch(wanted)
            except Unanswered as error:
                if self._loop.time() > deadline:
                    raise Hang(f"the offsets of group {outsider.plan.name} are not answered at the end: {error}") from None
                await asyncio.sleep(LOOK_EVERY_S)

    async def _leave_all(self, timeout_s: float) -> None:
        leaving = [self._leave(*place) for place in list(self._members)]
        try:
            async with asyncio.timeout(timeout_s):
                await _all_of(leaving)
        except TimeoutError:
            raise Hang(f"members have not left within {timeout_s} s: {self._described()}") from None

    def _described(self) -> str:
        return "; ".join([*self._doing, *(member.describe() for member in self._members.values())])
