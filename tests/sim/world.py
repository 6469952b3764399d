"""A whole cluster under a seed: machines with production nodes, links, clients, faults, and the invariants watched all along.

    World(plan).run()        raises what went wrong; history, trace and counts are there afterwards

First the cluster forms and the workload begins; then the faults strike. At `heal_at_s` everything heals, and within a bound of
simulated time all that clients wait for must be answered, all replicas in sync, all readers at the end, and all nodes stopped.
"""

import asyncio
import gc
import hashlib
import logging
import random
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any

from quorumlog.checker.analysis import check
from quorumlog.checker.history import Operation, Outcome, Send
from quorumlog.metadata.image import Image
from quorumlog.metadata.internal_topics import TRANSACTIONS_TOPIC
from tests.sim.clients.group_workload import GroupWorkload
from tests.sim.clients.transaction_workload import TransactionWorkload
from tests.sim.clients.workload import Hang, Workload
from tests.sim.faults import strike
from tests.sim.invariants.shards import ShardWatch
from tests.sim.invariants.sight import Sight, Violation
from tests.sim.invariants.watch import Watch
from tests.sim.loop import Process, SimLoop
from tests.sim.machine import Machine
from tests.sim.peers import SimNetwork
from tests.sim.plan import Fault, Plan
from tests.sim.steps import HERE, Trap, watched_steps
from tests.sim.wire import SimWire

START_WITHIN_S = 15.0
FINISH_WITHIN_S = 60.0
GROUPS_SETTLE_WITHIN_S = 40.0
IN_SYNC_WITHIN_S = 30.0
STOP_WITHIN_S = 30.0
RESENT_AFTER_S = (0.2, 1.0)
RESTART_AFTER_S = 0.3  # what supervises a node starts it again
EVENTS_KEPT = 60


class World:
    """One run, from nothing to the verdict. Not to be used twice."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.voters = list(range(1, plan.options.voters + 1))
        self.loop = SimLoop(random.Random(f"{plan.seed} turns"))
        self.network = SimNetwork(draw_delay=self._draw_delay)
        self.network.trace = self._trace_message
        self._rng = random.Random(f"{plan.seed} links")
        self._reboots = random.Random(f"{plan.seed} reboots")
        self.slow_links: dict[tuple[int, int], float] = {}
        self.lossy_links: dict[tuple[int, int], float] = {}
        self.wire = SimWire(random.Random(f"{plan.seed} wire"), delay_s=plan.options.client_delay_s)
        self.loop.listen = self.wire.listen
        self.loop.look = self._look
        self.loop.set_exception_handler(self._on_unhandled)
        self.machines = {node_id: Machine(self, node_id) for node_id in range(1, plan.options.nodes + 1)}
        self.watch = Watch()
        self.history: list[Operation] = []
        self.events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self.struck: Counter[str] = Counter()
        self.traps: list[Trap] = []
        self.sprung: Counter[str] = Counter()
        self.messages = 0
        self.events_sent = 0  # operations that are in no history
        self.in_sync_after_s = 0.0
        self._digest = hashlib.blake2b(digest_size=8)
        self._outside = copy_context()
        self._graveyard: dict[asyncio.Task[Any], None] = {}
        self._is_healed = False
        self._ends: dict[Fault, Callable[[], None]] = {}
        self._background: dict[asyncio.Task[None], None] = {}
        self._groups: GroupWorkload | None = None
        self._transactions: TransactionWorkload | None = None
        self._shards = ShardWatch()

    @property
    def trace(self) -> str:
        """A digest of all that happened: two runs of one plan must agree."""
        return self._digest.hexdigest()

    # --- running

    def run(self) -> None:
        """To the end. Raises Violation, Hang, Stuck or TimeoutError."""
        with _without_collector(), _heard_logs(self), watched_steps(self.reach):
            try:
                self.loop.run_until_complete(self._run())
            finally:
                self._bury()

    async def _run(self) -> None:
        for machine in self.machines.values():
            machine.boot()
        await self._until(self._all_registered, START_WITHIN_S, "the cluster has not formed")
        clients = Process("clients")
        workload = clients.main.context.run(self._make_workload)
        self._groups = clients.main.context.run(self._make_groups)
        self._transactions = clients.main.context.run(self._make_transactions)
        for fault in self.plan.faults:
            self.loop.call_at(self.loop.time() + fault.at_s, self._strike, fault)
        running = self.loop.create_task(workload.run(), context=clients.main.context.copy())
        beside = [one.run() for one in (self._groups, self._transactions) if one is not None]
        tasks = [self.loop.create_task(one, context=clients.main.context.copy()) for one in beside]
        await asyncio.sleep(self.plan.heal_at_s)
        self._heal()
        await self._finish(workload, running if not tasks else self._all(running, *tasks), clients)

    def _all(self, *tasks: "asyncio.Task[None]") -> "asyncio.Task[None]":
        async def all_of_them() -> None:
            await asyncio.gather(*tasks)

        return self.loop.create_task(all_of_them())

    def _make_groups(self) -> GroupWorkload | None:
        if self.plan.groups is None:
            return None
        rng = random.Random(f"{self.plan.seed} members")
        return GroupWorkload(self.plan.groups, self.wire, sorted(self.machines), rng, self._record, self.note)

    def _make_transactions(self) -> TransactionWorkload | None:
        if self.plan.transactions is None:
            return None
        rng = random.Random(f"{self.plan.seed} transactions")
        return TransactionWorkload(self.plan.transactions, self.wire, sorted(self.machines), rng, self._record, self.note)

    def _make_workload(self) -> Workload:
        return Workload(
            self.plan.workload,
            self.wire,
            sorted(self.machines),
            random.Random(f"{self.plan.seed} clients"),
            self._record,
            self._record_events,
        )

    async def _finish(self, workload: Workload, running: "asyncio.Task[None]", clients: Process) -> None:
        """All that is pending must come to its end."""
        healed_at = self.loop.now
        await self._until(self._all_registered, START_WITHIN_S, "not all nodes are back")
        await self._until(self._all_in_sync, IN_SYNC_WITHIN_S, "not all replicas are in sync")
        self.in_sync_after_s = self.loop.now - healed_at
        self.note("all replicas are in sync")
        done, _ = await asyncio.wait({running}, timeout=FINISH_WITHIN_S)
        if not done:
            raise Hang(f"the workload has not ended {FINISH_WITHIN_S} s after all faults")
        running.result()
        self.note("every operation has begun")
        context = clients.main.context.copy()
        if self._transactions is not None:
            await self.loop.create_task(workload.flush(), context=context.copy())
            await self.loop.create_task(self._transactions.finish(FINISH_WITHIN_S), context=context.copy())
        await self.loop.create_task(workload.finish(FINISH_WITHIN_S), context=context)
        await self._until(self._all_in_sync, IN_SYNC_WITHIN_S, "not all replicas are in sync")
        self.note("all is read to the end")
        if self._groups is not None:
            finishing = self._groups.finish(self._committed_ends(), GROUPS_SETTLE_WITHIN_S, self._check_shards)
            await self.loop.create_task(finishing, context=clients.main.context.copy())
            await self._until(self._all_in_sync, IN_SYNC_WITHIN_S, "not all replicas are in sync")
            self._check_shards()
        await asyncio.sleep(1.0)
        self.watch.finish(self._sight())
        self._judge()
        await asyncio.gather(*(machine.stop(STOP_WITHIN_S) for machine in self.machines.values()))
        self.note("all nodes have stopped")

    def _committed_ends(self) -> dict[tuple[str, int], int]:
        """How far each partition is committed."""
        model = self.watch.model
        return {
            (topic.name, number): model.ledgers[topic.topic_id, number].end
            for topic in model.newest.topics.values()
            for number in topic.partitions
        }

    def _check_shards(self) -> None:
        self.note(f"{self._shards.finish(self._sight())} shards are those of their logs")

    def _judge(self) -> None:
        verdict = check(self.history)
        if not verdict.is_clean:
            anomaly = verdict.anomalies[0]
            raise Violation(f"history: {anomaly.kind}", f"{anomaly.key}: {anomaly.message} ({len(verdict.anomalies)} anomalies)")

    async def _until(self, condition: Callable[[], str | None], within_s: float, complaint: str) -> None:
        """`condition` says what is missing, None if nothing is."""
        deadline = self.loop.now + within_s
        while (missing := condition()) is not None:
            if self.loop.now > deadline:
                raise Hang(f"{complaint} within {within_s} s: {missing}")
            await asyncio.sleep(0.05)

    # --- what the cluster is like

    def image(self) -> Image | None:
        """The newest that any living node has."""
        images = [machine.node.cluster.image for machine in self.machines.values() if machine.node is not None]
        return max(images, key=lambda image: image.index, default=None)

    def leader_of_some_partition(self, chance: float) -> int | None:
        image = self.image()
        states = [] if image is None else [state for topic in image.topics.values() for state in topic.partitions.values()]
        led = sorted(state.leader for state in states if state.leader in self.machines)
        return led[int(chance * len(led))] if led else None

    def active_controller(self) -> int | None:
        for machine in self.machines.values():
            if machine.node is not None and machine.node.controller is not None and machine.node.controller.is_active:
                return machine.node_id
        return None

    def _all_registered(self) -> str | None:
        for machine in self.machines.values():
            if machine.node is None:
                return f"node {machine.node_id} is down"
            if (lack := machine.node.not_ready()) is not None:
                return f"node {machine.node_id}: {lack}"
        return None

    def _all_in_sync(self) -> str | None:
        if (image := self.image()) is None:
            return "no node lives"
        for topic in image.topics.values():
            for number, state in topic.partitions.items():
                if set(state.isr) != set(state.replicas) or state.leader < 0:
                    return f"{topic.name}-{number}: leader {state.leader}, in sync {state.isr} of {state.replicas}"
        return None

    # --- faults

    def _strike(self, fault: Fault) -> None:
        what, end = strike(self, fault)
        self.struck[fault.kind] += 1
        self.note(f"{what}, for {fault.lasts_s} s")
        self._ends[fault] = end
        self.loop.call_later(fault.lasts_s, self._end, fault)

    def _end(self, fault: Fault) -> None:
        if (end := self._ends.pop(fault, None)) is not None:
            self.note(f"end of {fault.kind} begun at {fault.at_s} s")
            end()

    def _heal(self) -> None:
        self.note("everything heals")
        self._is_healed = True
        for fault in list(self._ends):
            self._end(fault)
        self.network.heal()
        self.wire.heal()
        for machine in self.machines.values():
            if machine.process is not None and machine.process.is_paused:
                machine.process.resume(self.loop)
            self.ensure_up(machine)

    def ensure_up(self, machine: Machine) -> None:
        if not machine.is_up:
            self.note(f"node {machine.node_id} boots")
            machine.boot()

    def stop_and_start(self, machine: Machine) -> None:
        """A clean restart, beside everything else."""

        async def restart() -> None:
            await machine.stop(STOP_WITHIN_S if self._is_healed else 1e9)
            self.ensure_up(machine)

        task = self.loop.create_task(restart())
        self._background[task] = None
        task.add_done_callback(self._on_background_done)

    def _on_background_done(self, task: asyncio.Task[None]) -> None:
        del self._background[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def reach(self, step: str) -> bool:
        """The process that runs has come to a step of a transaction's end; whether a trap has killed it there."""
        here = self.machines.get(self.loop.running_node_id)
        if here is None or not here.is_up:
            return False
        for trap in self.traps:
            if trap.springs(step):
                self.sprung[step] += 1
                victim = here if trap.victim == HERE else self._coordinator(here)
                self.note(f"node {victim.node_id} falls as node {here.node_id} comes to: {step}")
                self._fell(victim, power=trap.power)
                return victim is here
        return False

    def _coordinator(self, otherwise: Machine) -> Machine:
        """Who leads the first partition of the transactions' states."""
        image = self.image()
        state = None if image is None else image.partition(TRANSACTIONS_TOPIC, 0)
        return otherwise if state is None else self.machines.get(state.leader, otherwise)

    def _fell(self, machine: Machine, *, power: bool) -> None:
        """In the middle of what some process does, perhaps its own: it is dead when that is over."""
        if machine.process is None or machine.process.is_dead:
            return
        machine.process.is_paused = True
        machine.node = None
        self.loop.call_soon(self._kill, machine, power, context=self._outside)

    def _kill(self, machine: Machine, power: bool) -> None:
        machine.kill(power=power)
        self.loop.call_later(RESTART_AFTER_S, self.ensure_up, machine)

    def on_rotten(self, machine: Machine, path: str) -> None:
        machine.is_damaged = True
        self.watch.on_rot(machine.node_id, path)

    def on_killed(self, node_id: int, *, power: bool) -> None:
        """Called before the disk suffers."""
        if power:
            self.network.cut_power(node_id)
        else:
            self.network.kill(node_id)
        self.wire.kill(node_id)
        self.watch.on_crash(node_id, power=power)

    def on_wiped(self, machine: Machine) -> None:
        self.watch.on_wipe(machine.node_id)

    def on_fatal(self, machine: Machine, error: BaseException, *, expected: bool) -> None:
        """A node stopped itself."""
        self.note(f"node {machine.node_id} stops itself: {error!r}")
        assert machine.process is not None
        machine.process.is_paused = True  # until it is dead, at the end of this callback
        machine.node = None  # what it was in the middle of is nothing to look at
        if not expected:
            violation = Violation("a node stopped itself", f"node {machine.node_id}: {error!r}")
            violation.__cause__ = error
            self.fail(violation)
        self.loop.call_soon(self._after_fatal, machine, context=self._outside)

    def _after_fatal(self, machine: Machine) -> None:
        # Whoever runs the machine reboots it, or what supervises the node starts it again: then memory goes on holding what a
        # failed sync did not save.
        machine.kill(power=self._reboots.random() < 0.5)
        self.loop.call_later(RESTART_AFTER_S, self.ensure_up, machine)

    # --- watching

    def _look(self) -> None:
        moved = []
        for machine in self.machines.values():
            process = machine.process
            if process is not None and process.ran:
                process.ran = False
                if machine.node is not None:
                    moved.append(machine.node_id)
        if moved:
            sight = self._sight(moved)
            self.watch.look(sight)
            if self.plan.groups is not None:
                self._shards.look(sight)

    def _sight(self, moved: list[int] | None = None) -> Sight:
        nodes = {machine.node_id: machine.node for machine in self.machines.values() if machine.node is not None}
        disks = {machine.node_id: machine.disk for machine in self.machines.values()}
        return Sight(self.loop.now, nodes, disks, sorted(nodes) if moved is None else moved)

    def on_logged_error(self, text: str, error: BaseException) -> None:
        """Somebody caught what nobody expects. A node with a failing disk may say so; else it is a bug."""
        if not any(machine.is_damaged for machine in self.machines.values()):
            self.fail(Violation("an unexpected error", f"{self.loop.running}: {text}: {error!r}"))

    def fail(self, failure: BaseException) -> None:
        """End the run at once."""
        if self.loop.failure is None:
            self.loop.failure = failure

    def note(self, event: str) -> None:
        line = f"{self.loop.now:8.4f} s  {event}"
        self.events.append(line)
        self._digest.update(line.encode())

    def _record(self, operation: Operation) -> None:
        self.history.append(operation)
        if operation.outcome is Outcome.OK:
            for step in operation.steps:
                if isinstance(step, Send) and step.offset is not None:
                    topic, _, partition = step.key.rpartition("-")
                    self.watch.on_acknowledged(topic, int(partition), step.offset)
        self._digest.update(repr(operation).encode())

    def _record_events(self, operation: Operation) -> None:
        """No part of the history, in which each value is sent once."""
        if operation.outcome is Outcome.OK:
            for step in operation.steps:
                assert isinstance(step, Send), step
                topic, _, partition = step.key.rpartition("-")
                self.watch.on_event_acknowledged(topic, int(partition), step.value, step.offset)
                if step.offset is not None:
                    self.watch.on_acknowledged(topic, int(partition), step.offset)
        self.events_sent += 1
        self._digest.update(repr(operation).encode())

    def _trace_message(self, source: int, destination: int, message: bytes) -> None:
        self.messages += 1
        self._digest.update(b"%d %d %r" % (source, destination, self.loop.now))
        self._digest.update(message)

    def _draw_delay(self, source: int, destination: int) -> float:
        link = (source, destination)
        low, high = self.plan.options.link_delay_s
        chance = self._rng.random
        delay_s = low + (high - low) * chance() ** 2 + self.slow_links.get(link, 0.0)
        loss = self.plan.options.link_loss + self.lossy_links.get(link, 0.0)
        if loss and chance() < loss:
            delay_s += self._rng.uniform(*RESENT_AFTER_S)
        return delay_s

    def _on_unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.fail(error if isinstance(error, Violation) else Violation("unhandled error", f"{context['message']}: {error!r}"))

    def keep_tasks(self) -> None:
        """A process dies: nothing of it may run any more, not even what a task does when it is let go of."""
        self._graveyard.update(dict.fromkeys(asyncio.all_tasks(self.loop)))

    def _bury(self) -> None:
        """Let go of all tasks that have not ended. What they still do and complain of is nobody's concern."""
        self.keep_tasks()
        self.loop.set_exception_handler(lambda _loop, _context: None)
        logging.disable()
        try:
            with warnings.catch_warnings(action="ignore"):
                for task in self._graveyard:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with suppress(BaseException):
                        task.get_coro().close()
                self._graveyard.clear()
        finally:
            logging.disable(logging.NOTSET)
        self.loop.close()


class _LogListener(logging.Handler):
    """Keeps what nodes log among the last events; what the house calls a bug fails the run."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._world.note(f"{self._world.loop.running}: {record.levelname.lower()}: {text}")
        if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[1] is not None:
            self._world.on_logged_error(text, record.exc_info[1])


@contextmanager
def _heard_logs(world: World) -> Iterator[None]:
    logger, listener = logging.getLogger("quorumlog"), _LogListener(world)
    before = logger.propagate, logger.level
    logger.addHandler(listener)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = before[0]
        logger.setLevel(before[1])


@contextmanager
def _without_collector() -> Iterator[None]:
    """Where the garbage collector strikes depends on what ran before: it would make runs differ."""
    gc.collect()
    gc.freeze()  # what is there now stays: the next run need not look at it again
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
