"""All transactional producers of a run, and what must have become of their transactions.

    transactions = TransactionWorkload(plan, wire, node_ids, rng, record, note)
    await transactions.run()              faults go on meanwhile
    await transactions.finish(timeout_s)  everything has healed, and nobody sends to `in` any more

At the end every transaction has ended, also those that were left; who reads what is committed reads to the end of each partition,
finds each transaction whole or not at all, and what movers made of each record of `in` exactly once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from quorumlog.checker.history import Operation, Outcome, Poll, Send
from quorumlog.wire.catalogue import FETCH
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.sight import Violation
from tests.sim.wire import SimWire

from .client import Client
from .connection import LIST_OFFSETS, OFFSET_FETCH
from .coordinator import Coordinator, Unanswered
from .fetched import read_fetched
from .processes import Processes
from .transaction_plan import INPUT, OUTPUT, TransactionOp, TransactionsPlan, WriterPlan
from .transactor import Over, Transactor
from .workload import Hang, _all_of

PROCESSES_FROM = 2_000_000  # numbers of the history that the other workloads will not come to
FETCH_BYTES = 1 << 16
MADE_OF = ">"  # between a record of `in` and the attempt that made something of it
COMMITTED, UNCOMMITTED = 1, 0
LATEST = -1
LOOK_EVERY_S = 0.1

Key = tuple[str, int]


class Tried(NamedTuple):
    """One transaction: what it wrote, by partition, and what its writer knows of its end."""

    name: str
    values: tuple[str, ...]
    outcome: Outcome


class TransactionWorkload:
    """Used once. Ends all that it has begun in `finish`, or in `close`."""

    def __init__(
        self,
        plan: TransactionsPlan,
        wire: SimWire,
        node_ids: Sequence[int],
        rng: random.Random,
        record: Callable[[Operation], None],
        note: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self._wire = wire
        self._node_ids = list(node_ids)
        self._rng = rng
        self._record = record
        self._note = note
        self._processes = Processes(first=PROCESSES_FROM)
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._clients: list[Client] = []
        self._tried: list[Tried] = []
        self._attempts = 0
        self._doing: dict[str, None] = {}
        self._writers = [self._instance(writer) for writer in plan.writers]
        self._reader = self._client("looks at transactions")

    # --- running

    async def run(self) -> None:
        """Every operation at its time; one writer does one after the other, usurpers come beside it."""
        self._begun_at = self._loop.time()
        await _all_of([self._drive(number) for number in range(len(self.plan.writers))])

    async def _drive(self, number: int) -> None:
        usurpers: list[asyncio.Task[None]] = []
        try:
            for op in self.plan.ops:
                if op.writer == number:
                    await asyncio.sleep(max(0.0, self._begun_at + op.at - self._loop.time()))
                    if op.usurps:
                        usurpers.append(self._loop.create_task(self._usurp(op)))
                    else:
                        await self._do(op, self._writers[number])
            for usurper in usurpers:
                await usurper
        finally:
            for usurper in usurpers:
                usurper.cancel()

    async def _usurp(self, op: TransactionOp) -> None:
        await self._do(op, self._instance(self.plan.writers[op.writer]))

    async def _do(self, op: TransactionOp, writer: Transactor) -> None:
        plan = self.plan.writers[op.writer]
        doing = f"{op.value} of {plan.name}, begun at {op.at} s"
        self._doing[doing] = None
        await writer.begin()
        if plan.moves:
            await self._move(op.writer, writer, op.partitions, op.ends)
        else:
            writes = {
                (OUTPUT, partition): tuple(f"{op.value}.{partition}.{number}" for number in range(op.count))
                for partition in op.partitions
            }
            if op.ends == "abort" and op.count > 1:  # at once, before anything was sent: perhaps before the last one is complete
                await writer.end(commit=False)
            else:
                await self._try(writer, {}, writes, {}, op.ends)
        del self._doing[doing]

    async def _move(self, number: int, writer: Transactor, partitions: Sequence[int], ends: str) -> int:
        """Read on where the group is, write what is made of it, and commit both. How many records."""
        group = f"group of {writer.name}"
        committed = await self._committed(group, [(INPUT, partition) for partition in partitions])
        read = {key: await self._fetch(key, max(0, offset)) for key, offset in committed.items()}
        taken = {
            key: (records, next_offset) for key, (records, next_offset) in read.items() if next_offset > max(0, committed[key])
        }
        values = [value for records, _ in taken.values() for _, value in records]
        if not taken:
            return 0
        self._attempts += 1
        attempt = f"{writer.name}.{self._attempts}"
        writes = {(OUTPUT, number): tuple(f"{value}{MADE_OF}{attempt}" for value in values)} if values else {}
        polled = {key: tuple(records) for key, (records, _) in taken.items() if records}
        offsets = {key: next_offset for key, (_, next_offset) in taken.items()}
        await self._try(writer, polled, writes, offsets, ends)
        return len(values)

    async def _try(
        self,
        writer: Transactor,
        polled: dict[Key, tuple[tuple[int, str], ...]],
        writes: dict[Key, tuple[str, ...]],
        offsets: dict[Key, int],
        ends: str,
    ) -> None:
        """One transaction; one operation of the history."""
        invoked = self._loop.time()
        sent = {(key, value): None for key, values in writes.items() for value in values}
        found: dict[tuple[Key, str], int | None] = dict(sent)
        outcome = await self._carry_out(writer, writes, offsets, ends, found)
        steps: list[Send | Poll] = [Poll(f"{topic}-{number}", records) for (topic, number), records in polled.items()]
        steps += [Send(f"{topic}-{number}", value, offset) for ((topic, number), value), offset in found.items()]
        completed = None if outcome is Outcome.UNKNOWN else self._loop.time()
        self._record(Operation(self._processes.new(), "txn", invoked, completed, outcome, tuple(steps)))
        self._tried.append(Tried(writer.name, tuple(value for _, value in sent), outcome))

    async def _carry_out(
        self,
        writer: Transactor,
        writes: dict[Key, tuple[str, ...]],
        offsets: dict[Key, int],
        ends: str,
        found: dict[tuple[Key, str], int | None],
    ) -> Outcome:
        try:
            if offsets and self._rng.random() < 0.5:
                await writer.commit_offsets(f"group of {writer.name}", offsets)
                offsets = {}
            for key, values in writes.items():
                first = await writer.write(*key, values)
                found |= {(key, value): first + index for index, value in enumerate(values)}
            if offsets:
                await writer.commit_offsets(f"group of {writer.name}", offsets)
        except Over:
            await self._give_up(writer)
            return Outcome.FAIL
        if ends == "leave":
            writer.forget()
            return Outcome.FAIL
        outcome = await writer.end(commit=ends == "commit")
        if ends == "abort":
            return Outcome.FAIL
        return outcome

    async def _give_up(self, writer: Transactor) -> None:
        """Abort, or leave it to whoever comes next, or to time."""
        if self._rng.random() < 0.5:
            await writer.end(commit=False)
        writer.forget()

    # --- reading

    async def _committed(self, group: str, keys: Sequence[Key]) -> dict[Key, int]:
        """What the group has committed, once no transaction is about to change it."""
        way = Coordinator(self._reader, group)
        body = {
            "groups": [
                {
                    "group_id": group,
                    "member_id": None,
                    "member_epoch": -1,
                    "topics": [{"name": INPUT, "partition_indexes": [partition for _, partition in keys]}],
                }
            ],
            "require_stable": True,
        }
        while True:
            try:
                answer = await way.ask(OFFSET_FETCH, body, code_of=lambda answer: int(answer.groups[0].error_code))
            except Unanswered:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            ones = [one for topic in answer.body.groups[0].topics for one in topic.partitions]
            if answer.code == ErrorCode.none and all(one.error_code == ErrorCode.none for one in ones):
                return {(INPUT, one.partition_index): one.committed_offset for one in ones}
            codes = {answer.code, *(one.error_code for one in ones)} - {ErrorCode.none, ErrorCode.unstable_offset_commit}
            if codes:
                raise Violation("client: group", f"{group}: OffsetFetch is answered with errors {sorted(codes)}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _fetch(self, key: Key, offset: int) -> tuple[list[tuple[int, str]], int]:
        """Committed records from `offset` on, as many as come at once, and where to read on."""
        while True:
            leader = self._reader.leader(*key)
            if leader is not None:
                try:
                    one = await self._fetch_from(leader.node_id, key, offset)
                except ConnectionError:
                    one = None
                if one is not None and one.error_code == ErrorCode.none:
                    aborted = [(entry.producer_id, entry.first_offset) for entry in one.aborted_transactions]
                    fetched = read_fetched(
                        f"{key[0]}-{key[1]}",
                        one.records or b"",
                        offset=offset,
                        epoch=-1,
                        high_watermark=one.last_stable_offset,
                        aborted=aborted,
                    )
                    return fetched.records, fetched.next_offset
                self._reader.refresh()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _fetch_from(self, node_id: int, key: Key, offset: int) -> "object":
        partition = {
            "partition": key[1],
            "current_leader_epoch": -1,
            "fetch_offset": offset,
            "last_fetched_epoch": -1,
            "log_start_offset": -1,
            "partition_max_bytes": FETCH_BYTES,
        }
        body = {
            "max_wait_ms": 0,
            "min_bytes": 1,
            "max_bytes": FETCH_BYTES,
            "isolation_level": COMMITTED,
            "session_id": 0,
            "session_epoch": -1,
            "topics": [{"topic_id": self._reader.topics[key[0]].topic_id, "partitions": [partition]}],
        }
        answer = await (await self._reader.reach(node_id)).ask(FETCH, body)
        return answer.responses[0].partitions[0] if answer.responses else None

    # --- the end

    async def finish(self, timeout_s: float) -> None:
        """Raises Hang, and Violation for what does not fit together."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._end_all()
                await self._until_stable()
                await self._judge()
        except TimeoutError:
            raise Hang(f"transactions are not over {timeout_s} s after all faults: {', '.join(self._doing)}") from None
        finally:
            await self.close()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def _end_all(self) -> None:
        """Movers move what is left; of the others some leave what they have open to time."""
        for number, plan in enumerate(self.plan.writers):
            self._doing = {f"{plan.name} comes to its end": None}
            if plan.moves:
                writer = self._instance(plan)
                await writer.begin()
                while await self._move(number, writer, range(self.plan.input_partitions), "commit"):
                    await writer.begin()
            elif plan.timeout_ms > 10_000:
                await self._instance(plan).begin()

    async def _until_stable(self) -> None:
        keys = [(INPUT, number) for number in range(self.plan.input_partitions)]
        keys += [(OUTPUT, number) for number in range(self.plan.output_partitions)]
        for key in keys:
            while True:
                ends = [await self._find_end(key, isolation) for isolation in (COMMITTED, UNCOMMITTED)]
                self._doing = {f"{key[0]}-{key[1]} is stable up to {ends[0]} of {ends[1]}": None}
                if None not in ends and ends[0] == ends[1]:
                    break
                await asyncio.sleep(LOOK_EVERY_S)
        self._note("no transaction is open")

    async def _find_end(self, key: Key, isolation: int) -> int | None:
        leader = self._reader.leader(*key)
        if leader is None:
            return None
        partition = {"partition_index": key[1], "current_leader_epoch": -1, "timestamp": LATEST}
        body = {"replica_id": -1, "isolation_level": isolation, "topics": [{"name": key[0], "partitions": [partition]}]}
        try:
            answer = await (await self._reader.reach(leader.node_id)).ask(LIST_OFFSETS, body)
        except ConnectionError:
            return None
        found = answer.topics[0].partitions[0]
        if found.error_code != ErrorCode.none:
            self._reader.refresh()
            return None
        return int(found.offset)

    async def _judge(self) -> None:
        seen = Counter(
            [value for number in range(self.plan.output_partitions) for value in await self._read_all((OUTPUT, number))]
        )
        for tried in self._tried:
            there = [value for value in tried.values if seen[value]]
            if there and len(there) < len(tried.values):
                raise Violation("torn-transaction", f"{tried.name}: of {tried.values} only {there} can be read")
            if there and tried.outcome is Outcome.FAIL:
                raise Violation("aborted-read", f"{tried.name}: {there} can be read, and were never committed")
            if tried.values and not there and tried.outcome is Outcome.OK:
                raise Violation("lost-transaction", f"{tried.name}: {tried.values} were committed, and cannot be read")
        made = [Counter(_origins(seen, plan)) for plan in self.plan.writers if plan.moves]
        given = Counter(
            [value for number in range(self.plan.input_partitions) for value in await self._read_all((INPUT, number))]
        )
        for plan, counts in zip([plan for plan in self.plan.writers if plan.moves], made, strict=True):
            if counts != given:
                raise Violation(
                    "exactly-once",
                    f"{plan.name}: lost {sorted((given - counts).elements())}, twice {sorted((counts - given).elements())}",
                )
        ended = Counter(tried.outcome.value for tried in self._tried)
        self._note(f"of {len(self._tried)} transactions {dict(ended)}, {given.total()} records moved")

    async def _read_topic(self, topic: str, partitions: int) -> Counter[str]:
        return Counter([value for number in range(partitions) for value in await self._read_all((topic, number))])

    async def _read_all(self, key: Key) -> list[str]:
        """Of a partition, as who reads what is committed sees it."""
        values: list[str] = []
        offset, end = 0, await self._find_end(key, COMMITTED)
        while end is None:
            await asyncio.sleep(LOOK_EVERY_S)
            end = await self._find_end(key, COMMITTED)
        while offset < end:
            records, offset = await self._fetch(key, offset)
            values += [value for _, value in records]
        return values

    # --- inside

    def _instance(self, plan: WriterPlan) -> Transactor:
        return Transactor(self._client(f"{plan.name} instance {len(self._clients)}"), plan.name, plan.version, plan.timeout_ms)

    def _client(self, name: str) -> Client:
        client = Client(name, self._wire, self._node_ids, random.Random(self._rng.getrandbits(64)))
        client.want((INPUT, OUTPUT))
        self._clients.append(client)
        return client


def _origins(seen: Counter[str], plan: WriterPlan) -> dict[str, int]:
    """Of which records of `in` something was made by this writer, and how often."""
    origins: Counter[str] = Counter()
    for value, count in seen.items():
        origin, _, attempt = value.partition(MADE_OF)
        if attempt.startswith(f"{plan.name}."):
            origins[origin] += count
    return origins
