"""A machine of the simulated cluster: its disk and store outlive the processes of the node that run on it."""

import asyncio
import random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from quorumlog.host.ports import StorageError
from quorumlog.node.cleaners import InlineCleaner
from quorumlog.node.config import NodeConfig, load_config
from quorumlog.node.node import Host, Node
from quorumlog.raft.identity import format_quorum
from quorumlog.raft.quorum import Quorum
from tests.sim.disk import SimDisk
from tests.sim.loop import Process
from tests.sim.runners import NodeClock, QuorumOnLoop, SlowWorker
from tests.sim.store import SimStore

if TYPE_CHECKING:
    from tests.sim.world import World

CLUSTER = "simulated"
WALL_START_MS = 1_700_000_000_000


class Machine:
    """Boots, kills, pauses and stops one node. `node` is the living production node, or None."""

    def __init__(self, world: "World", node_id: int) -> None:
        options = world.plan.options
        self.node_id = node_id
        self.node: Node | None = None
        self.process: Process | None = None
        self.lives = 0
        self.is_damaged = False  # its storage was made to fail: it may stop by itself
        self.sync_s = options.sync_s
        self._world = world
        self._rng = random.Random(f"{world.plan.seed} machine {node_id}")
        self._offset_s = _nth(options.clock_offsets_s, node_id, 0.0)
        self._rate = _nth(options.clock_rates, node_id, 1.0)
        self.clock = NodeClock(world.loop, WALL_START_MS + _nth(options.wall_offsets_ms, node_id, 0))
        self._life: asyncio.Task[None] | None = None
        self.format()

    @property
    def is_up(self) -> bool:
        return self.process is not None and not self.process.is_dead

    def format(self) -> None:
        """A new, empty disk, made this node's storage."""
        self.disk, self.store = SimDisk(self._rng), SimStore(self._rng)
        storage_id = str(UUID(int=self._rng.getrandbits(128), version=4))
        format_quorum(self.store, cluster_id=CLUSTER, node_id=self.node_id, storage_id=storage_id, voters=self._world.voters)

    def boot(self) -> None:
        """Start the node's next process."""
        assert not self.is_up, self.node_id
        self.lives += 1
        self.store.reopen()
        name = f"node {self.node_id}" + (f" life {self.lives}" if self.lives > 1 else "")
        self.process = Process(name, node_id=self.node_id, offset_s=self._offset_s, rate=self._rate)
        self._world.loop.call_soon(self._begin, context=self.process.main.context)

    def _begin(self) -> None:
        assert self.process is not None
        self._life = self._world.loop.create_task(self._live(self.process), name=self.process.name)

    async def _live(self, process: Process) -> None:
        try:
            node = Node(self._config(), self._host(), on_fatal=lambda error: self._on_fatal(process, error))
            self.node = node
            await node.start()
            await node.registered()
            await node.kafka.start(node.config.kafka_address)
        except Exception as error:
            self._on_fatal(process, error)

    def _host(self) -> Host:
        rng = random.Random(self._rng.getrandbits(64))

        def make_driver(quorum: Quorum, **settings: Any) -> QuorumOnLoop:
            return QuorumOnLoop(quorum, round_trip=self.draw_sync_s, **settings)

        return Host(
            self.clock,
            self.disk,
            self.store,
            self._world.network.peers(self.node_id),
            rng,
            make_worker=lambda _name: SlowWorker(rng, self.draw_sync_s),
            make_driver=make_driver,
            make_cleaner=lambda: InlineCleaner(self.disk, self.draw_sync_s),
        )

    def _config(self) -> NodeConfig:
        overrides: dict[str, Any] = {
            "node_id": self.node_id,
            "cluster_id": CLUSTER,
            "data_dir": "simulated",
            "voters": ",".join(f"{voter}@node-{voter}:19192" for voter in self._world.voters),
            "kafka_listen": f"node-{self.node_id}:19092",
            "peer_listen": f"node-{self.node_id}:19192",
            **self._world.plan.options.settings,
        }
        return load_config(environment={}, overrides=overrides)

    def draw_sync_s(self) -> float:
        """Seconds that making something durable takes."""
        low, high = self.sync_s
        return low + (high - low) * self._rng.random() ** 2

    # --- the end of a process

    def kill(self, *, power: bool = False) -> None:
        """End the process at once; with `power`, what was not synced is left to chance."""
        if self.process is not None:
            self._world.keep_tasks()
            self.process.kill()
        self.node = None
        self._world.on_killed(self.node_id, power=power)
        self.disk.crash(power=power)
        self.store.crash(power=power)

    async def stop(self, timeout_s: float) -> None:
        """A clean end, as by SIGTERM. Raises TimeoutError if it does not come."""
        node, process = self.node, self.process
        if node is None or process is None or process.is_dead:
            return
        stopping = self._world.loop.create_task(node.stop(), name=f"stop {process.name}", context=process.main.context.copy())
        done, _ = await asyncio.wait({stopping}, timeout=timeout_s)
        if process.is_dead:
            return  # killed meanwhile
        if not done:
            raise TimeoutError(f"{process.name} has not stopped within {timeout_s} s")
        stopping.result()
        self.kill()

    def _on_fatal(self, process: Process, error: BaseException) -> None:
        """The node says that it must not go on."""
        if not process.is_dead:
            self._world.on_fatal(self, error, expected=self.is_damaged and _is_about_storage(error))


def _is_about_storage(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, StorageError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _nth(values: Any, node_id: int, default: Any) -> Any:
    return values[node_id - 1] if values else default
