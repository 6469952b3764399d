"""All clients of a run: they do what the plan says when it says so, then finish what is pending, then read everything once more.

    workload = Workload(plan, wire, node_ids, rng, record)
    await workload.run()              faults go on meanwhile
    await workload.finish(timeout_s)  everything has healed

It runs in the context in which it was made, which must be that of the clients' process.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from quorumlog.checker.history import Operation
from quorumlog.wire.records import Compression
from tests.sim.wire import SimWire

from .admin import Admin
from .client import Client
from .plan import ClientPlan, Op, TopicPlan, WorkloadPlan, draw_workload
from .processes import Processes, Slots
from .producer import ALL, LEADER, Producer
from .reader import EARLIEST, LATEST, Reader

__all__ = ["Hang", "Workload", "draw_workload"]

OVERDUE_S = 1.0  # a poll that is so late is left out, as an application would poll less often


class Hang(Exception):
    """Something was not answered in time though nothing was in its way; the message names it."""


class Workload:
    """Used once. Ends all that it has begun in `finish`, or in `close`."""

    def __init__(
        self,
        plan: WorkloadPlan,
        wire: SimWire,
        node_ids: Sequence[int],
        rng: random.Random,
        record: Callable[[Operation], None],
        record_events: Callable[[Operation], None] | None = None,
    ) -> None:
        """`record_events`: told instead of `record` what became of events that are sent again and again."""
        self.plan = plan
        self._record_sends = record if record_events is None or not plan.is_about_events else record_events
        self._wire = wire
        self._node_ids = list(node_ids)
        self._rng = rng
        self._record = record
        self._processes = Processes()
        self._loop = asyncio.get_running_loop()
        self._begun_at = self._loop.time()
        self._keeps = {topic.name: plan.keeps(topic.name) for topic in (*plan.topics, *plan.later)}
        self._partitions: dict[str, int] = {}  # of topics that certainly are there: how many at least
        self._refusals: dict[str, str] = {}  # of topics that could not be created: the last answer
        self._pending: dict[int, str] = {}  # of each client the operation under way, in words
        self._finishing: list[Reader] = []
        self._clients = [self._make(number, client) for number, client in enumerate(plan.clients)]
        self._creator = Admin(self._client("creator"))
        compacted = tuple(topic for topic in self._keeps if plan.is_compacted(topic))
        others = tuple(topic for topic in self._keeps if topic not in compacted)
        self._auditors = [
            self._reader(name, ClientPlan("reader", topics=topics))
            for name, topics in (("auditor", others), ("auditor of what is compacted", compacted))
            if topics
        ]

    # --- running

    async def run(self) -> None:
        """Create the topics and do every operation at its time; sends may still be under way at the end."""
        self._begun_at = self._loop.time()
        work = [self._create(self._creator, topic) for topic in self.plan.topics]
        work += [self._drive(number) for number in range(len(self._clients))]
        await _all_of(work)

    async def flush(self) -> None:
        """Wait until everything is sent, or given up."""
        await _all_of([client.flush() for client in self._clients if isinstance(client, Producer)])

    async def finish(self, timeout_s: float) -> None:
        """Wait for all that is pending, then let every reader start over and read to the end. Raises Hang."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush()
                self._check_topics()
                readers = [client for client in (*self._clients, *self._auditors) if isinstance(client, Reader)]
                await _all_of([self._read_to_end(reader) for reader in readers])
        except TimeoutError:
            raise Hang(f"not done {timeout_s} s after all faults: {self.pending()}") from None
        finally:
            await self.close()

    async def close(self) -> None:
        """End everything at once."""
        for client in (*self._clients, self._creator, *self._auditors):
            await client.close()

    # --- making clients

    def _make(self, number: int, plan: ClientPlan) -> "Producer | Reader | Admin":
        name = f"{plan.kind}-{number}"
        match plan.kind:
            case "reader":
                return self._reader(name, plan)
            case "admin":
                return Admin(self._client(name))
            case "idempotent" | "plain" | "leader":
                return Producer(
                    self._client(name),
                    Slots(self._processes),
                    self._record_sends,
                    is_idempotent=plan.kind == "idempotent",
                    acks=LEADER if plan.kind == "leader" else ALL,
                    compression=Compression[plan.compression.upper()],
                    delivery_timeout_s=plan.delivery_timeout_s,
                    promises=self._keeps.__getitem__,
                )
            case _:
                raise ValueError(f"client {number} is of no known kind: {plan.kind!r}")

    def _client(self, name: str) -> Client:
        return Client(name, self._wire, self._node_ids, random.Random(self._rng.getrandbits(64)))

    def _reader(self, name: str, plan: ClientPlan) -> Reader:
        return Reader(
            self._client(name),
            plan.topics,
            self._processes,
            # Who reads compacted topics misses records, and rightly: the history, by which that is judged, tells of the others.
            self._forget if self.plan.is_about_events or any(map(self.plan.is_compacted, plan.topics)) else self._record,
            reset=LATEST if plan.reset == "latest" else EARLIEST,
            max_wait_s=plan.max_wait_s,
            partition_bytes_max=plan.partition_bytes_max,
            reads_committed=self.plan.reads_committed,
        )

    def _forget(self, operation: Operation) -> None:
        """It is not part of the history."""

    # --- operations

    async def _drive(self, number: int) -> None:
        """All that one client does."""
        client = self._clients[number]
        for op in [op for op in self.plan.ops if op.client == number]:
            late_s = self._loop.time() - self._begun_at - op.at
            if late_s < 0:
                await asyncio.sleep(-late_s)
            match client:
                case Producer():
                    how = {"payload_bytes": op.payload_bytes, "keys": op.keys}
                    client.send(op.topic, op.partition, _values(op), are_events=op.is_event, **how)
                case Reader():
                    await self._read(number, client, op, is_overdue=late_s > OVERDUE_S)
                case Admin():
                    await self._administer(number, client, op)

    async def _read(self, number: int, reader: Reader, op: Op, *, is_overdue: bool) -> None:
        assert op.action in ("poll", "restart-reader"), op
        if op.action == "restart-reader":
            reader.start_over()
        elif not is_overdue:
            self._pending[number] = f"the poll of {op.at} s of client {number}"
            await reader.poll()
            del self._pending[number]

    async def _administer(self, number: int, admin: Admin, op: Op) -> None:
        self._pending[number] = f"{op.action} {op.topic} of {op.at} s"
        match op.action:
            case "create-topic":
                await self._create(admin, self.plan.topic(op.topic))
            case "delete-topic":
                await admin.delete_topic(op.topic)
            case "create-partitions":
                if (await admin.create_partitions(op.topic, op.count)).is_done:
                    self._partitions[op.topic] = max(op.count, self._partitions.get(op.topic, 0))
            case "compact-topic":
                await admin.compact_topic(op.topic, op.count)
            case _:
                raise ValueError(f"an admin cannot {op.action}")
        del self._pending[number]

    async def _create(self, admin: Admin, topic: TopicPlan) -> None:
        answer = await admin.create_topic(topic)
        if answer.is_done:
            self._partitions.setdefault(topic.name, topic.partitions)
        else:
            self._refusals[topic.name] = answer.last

    # --- the end

    def pending(self) -> str:
        """What is under way and not answered yet, in words."""
        sends = [client.pending() for client in self._clients if isinstance(client, Producer)]
        return "; ".join([*self._pending.values(), *filter(None, sends), *(reader.describe() for reader in self._finishing)])

    def _check_topics(self) -> None:
        missing = [
            f"{topic.name} ({self._refusals[topic.name]})" for topic in self.plan.topics if topic.name not in self._partitions
        ]
        if missing:
            raise Hang(f"topics could not be created: {', '.join(missing)}")

    async def _read_to_end(self, reader: Reader) -> None:
        """Of topics whose records must stay, or the last of each key."""
        counts = {
            topic: count
            for topic, count in self._partitions.items()
            if topic in reader.topics and (self._keeps[topic] or self.plan.is_compacted(topic))
        }
        self._finishing.append(reader)
        await reader.read_to_end(counts)
        self._finishing.remove(reader)


def _values(op: Op) -> tuple[str, ...]:
    if op.is_event:
        return tuple(op.value.split())
    return (op.value,) if op.count == 1 else tuple(f"{op.value}.{index}" for index in range(op.count))


async def _all_of(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """To their ends; the first that fails ends the others."""
    tasks = [asyncio.get_running_loop().create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
