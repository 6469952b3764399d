"""What a seed decides before a run: the cluster's options, the faults and when they strike. Plain data: a run can be drawn again,
written down, and shrunk by leaving faults out."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from tests.sim.clients.group_plan import GroupsPlan
from tests.sim.clients.plan import WorkloadPlan
from tests.sim.clients.transaction_plan import TransactionsPlan
from tests.sim.steps import COORDINATOR, HERE, STEPS

FAULTS_BEGIN_S = 1.5  # the cluster has formed, the topics are there
ROLES = ("leader", "controller", "any")


@dataclass(frozen=True, slots=True)
class Fault:
    """Strikes at `at_s` for `lasts_s` (seconds of the simulation).

    `victim` is a role, looked up when the fault strikes ("leader": of a partition that `chance` picks), or "any": the node that
    `chance` picks. `chance` in 0..1 decides what else there is to decide.
    """

    at_s: float
    kind: str
    victim: str
    lasts_s: float
    chance: float

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  {self.kind} of {self.victim} for {self.lasts_s:.2f} s (chance {self.chance:.3f})"


@dataclass(frozen=True, slots=True)
class Options:
    """How one cluster is built. Times in seconds."""

    nodes: int = 3
    voters: int = 3
    link_delay_s: tuple[float, float] = (0.0002, 0.002)
    link_loss: float = 0.0  # share of messages that have to be sent again
    client_delay_s: tuple[float, float] = (0.0002, 0.002)
    sync_s: tuple[float, float] = (0.0005, 0.003)
    clock_rates: tuple[float, ...] = ()  # per node; 1 where there is none
    clock_offsets_s: tuple[float, ...] = ()
    wall_offsets_ms: tuple[int, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)  # of every node


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    options: Options
    faults: tuple[Fault, ...]
    heal_at_s: float
    workload: WorkloadPlan
    groups: GroupsPlan | None = None  # what consumer groups do beside it
    transactions: TransactionsPlan | None = None  # what transactional producers do beside it

    def without_faults(self, numbers: set[int]) -> "Plan":
        return replace(self, faults=tuple(fault for number, fault in enumerate(self.faults) if number not in numbers))

    def without_operations(self, numbers: set[int]) -> "Plan":
        return replace(self, workload=self.workload.without(numbers))

    def without_group_operations(self, numbers: set[int]) -> "Plan":
        return self if self.groups is None else replace(self, groups=self.groups.without(numbers))

    def without_transactions(self, numbers: set[int]) -> "Plan":
        return self if self.transactions is None else replace(self, transactions=self.transactions.without(numbers))

    def describe(self) -> str:
        return json.dumps(asdict(self.options))


FLEETING = (
    "kill",
    "kill",
    "power",
    "pause",
    "restart",
    "cut one way",
    "cut both",
    "isolate",
    "half open",
    "slow link",
    "lossy link",
    "slow disk",
    "reset",
)
RARE = ("power", "power of all", "bridge", "isolate from clients", "wall clock", "kill at start")
DAMAGE = ("read error", "write error", "sync error", "store error", "rot", "no space")
WIPE = "wipe"
HOLDING = ("isolate", "isolate", "cut both", "cut one way", "slow link", "slow disk", "pause")  # of a node that goes on
FELLING = ("kill", "kill", "power", "power", "restart", "kill at start", "reset")


def draw_options(rng: random.Random) -> Options:
    nodes, voters = rng.choice(((3, 3), (3, 3), (3, 3), (5, 3), (5, 5)))
    slow_network, slow_disk = rng.random() < 0.25, rng.random() < 0.25
    return Options(
        nodes=nodes,
        voters=voters,
        link_delay_s=(0.001, rng.uniform(0.01, 0.05)) if slow_network else (0.0002, 0.002),
        link_loss=rng.choice((0.0, 0.0, 0.0, 0.001, 0.01)),
        client_delay_s=(0.0005, rng.uniform(0.001, 0.02)),
        sync_s=(0.002, rng.uniform(0.01, 0.08)) if slow_disk else (0.0005, 0.003),
        clock_rates=tuple(rng.choice((1.0, 1.0, rng.uniform(0.98, 1.02))) for _ in range(nodes)),
        clock_offsets_s=tuple(rng.uniform(0, 10_000) for _ in range(nodes)),
        wall_offsets_ms=tuple(
            rng.choice((0, rng.randint(-2_000, 2_000), rng.randint(-86_400_000, 86_400_000))) for _ in range(nodes)
        ),
        settings=draw_settings(rng),
    )


def draw_settings(rng: random.Random) -> dict[str, int]:
    """Small sizes, so that short runs cross every boundary; times as deployed, or shorter."""
    session_ms = rng.choice((2_000, 600, 600))
    return {
        "segment_bytes": rng.choice((1024, 2048, 8192, 65536)),
        "index_interval_bytes": rng.choice((0, 200, 4096)),
        "checkpoint_interval_bytes": rng.choice((4096, 16384, 1 << 20)),
        "replication_message_bytes": rng.choice((4096, 65536, 1 << 20)),
        "snapshot_every_entries": rng.choice((10, 10, 40, 5_000)),
        "session_timeout_ms": session_ms,
        "heartbeat_interval_ms": min(300, session_ms // 6),
        "replica_lag_time_max_ms": rng.choice((500, 1_000, 3_000, 10_000)),
        "leader_rebalance_interval_s": rng.choice((0, 1, 1, 300)),
        "retention_check_interval_ms": rng.choice((500, 5_000)),
    }


def draw_faults(rng: random.Random, options: Options, heal_at_s: float) -> tuple[Fault, ...]:
    """A few kinds a run, so that each run looks into another corner; among them at most one damaged disk.

    Three runs in ten have hardly any fault; the others have some by themselves, and most have scenes, too.
    """
    kinds = rng.sample(FLEETING, rng.randint(1, 4)) + rng.sample(RARE, rng.randint(0, 2))
    is_calm = rng.random() < 0.3
    faults = [_draw_fault(rng, rng.choice(kinds), heal_at_s) for _ in range(rng.randint(0, 2 if is_calm else 6))]
    for _ in range(0 if is_calm else rng.randint(0, 3)):
        faults += _placed(rng, rng.choice(SCENES)(rng, options.nodes), heal_at_s)
    if rng.random() < 0.3:
        faults += _placed(rng, _damage_and_fell(rng), heal_at_s)
    elif options.nodes > options.voters and rng.random() < 0.5:
        faults.append(_draw_fault(rng, WIPE, heal_at_s))
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _draw_fault(rng: random.Random, kind: str, heal_at_s: float) -> Fault:
    at_s = rng.uniform(FAULTS_BEGIN_S, heal_at_s - 0.5)
    lasts_s = min(_draw_time(rng), heal_at_s - at_s)
    return Fault(round(at_s, 4), kind, rng.choice(ROLES), round(lasts_s, 4), round(rng.random(), 6))


def _draw_time(rng: random.Random) -> float:
    """A moment, some time, or longer than any timeout."""
    return rng.choice((rng.uniform(0.0, 0.3), rng.uniform(0.3, 1.5), rng.uniform(1.0, 5.0)))


def draw_falls(rng: random.Random, heal_at_s: float) -> tuple[Fault, ...]:
    """Somebody falls at a step of a transaction's end; in every other run nobody does."""
    return tuple(
        Fault(
            round(rng.uniform(FAULTS_BEGIN_S, heal_at_s - 0.5), 4),
            f"{rng.choice(('kill', 'power'))} at {rng.choice(STEPS)}",
            rng.choice((HERE, HERE, COORDINATOR)),
            round(rng.uniform(0.5, 3.0), 4),
            round(rng.random(), 6),
        )
        for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))
    )


# --- scenes: faults that mean something together. Their times count from the scene's beginning.


def _hold_and_fell(rng: random.Random, _nodes: int) -> list[Fault]:
    """A node goes on without others, or before its disk does, and falls with what only it has; once more, or its successor."""
    scene, at_s = [], 0.0
    role, chance = rng.choice(("leader", "leader", "controller", "any")), rng.random()
    for _ in range(rng.randint(1, 3)):
        held_s = rng.uniform(0.05, 1.2)
        scene.append(Fault(at_s, rng.choice(HOLDING), role, held_s + 0.1, chance))
        scene.append(Fault(at_s + held_s, rng.choice(FELLING), role, _draw_time(rng) / 2, chance))
        at_s += held_s + rng.uniform(0.2, 1.5)
        if rng.random() < 0.3:
            chance = rng.random()
    return scene


def _one_by_one(rng: random.Random, nodes: int) -> list[Fault]:
    """Nodes go one after another, and come back in any order: who is left, and who was away when?"""
    scene, at_s, kind = [], 0.0, rng.choice(("kill", "power", "power", "pause", "isolate"))
    for node in rng.sample(range(nodes), rng.randint(2, nodes)):
        scene.append(Fault(at_s, kind, "any", _draw_time(rng), (node + 0.5) / nodes))
        at_s += rng.uniform(0.05, 1.5)
    return scene


def _in_turn(rng: random.Random, nodes: int) -> list[Fault]:
    """Each node once, the next when the one before is hardly back."""
    scene, at_s, kind = [], 0.0, rng.choice(("restart", "restart", "kill", "power", "pause"))
    for node in rng.sample(range(nodes), nodes):
        lasts_s = rng.uniform(0.05, 0.8)
        scene.append(Fault(at_s, kind, "any", lasts_s, (node + 0.5) / nodes))
        at_s += lasts_s + rng.uniform(0.0, 0.5)
    return scene


def _again(rng: random.Random, _nodes: int) -> list[Fault]:
    """The same to the same role, before it has got over it."""
    scene, at_s = [], 0.0
    kind, role, chance = rng.choice((*FLEETING, "power", "kill at start")), rng.choice(ROLES), rng.random()
    for _ in range(rng.randint(2, 5)):
        scene.append(Fault(at_s, kind, role, rng.uniform(0.02, 0.8), chance))
        at_s += rng.uniform(0.1, 1.0)
    return scene


def _all_at_once(rng: random.Random, _nodes: int) -> list[Fault]:
    return [
        Fault(rng.uniform(0.0, 0.4), rng.choice(FLEETING), rng.choice(ROLES), _draw_time(rng), rng.random())
        for _ in range(rng.randint(3, 5))
    ]


def _damage_and_fell(rng: random.Random) -> list[Fault]:
    """A damaged disk; perhaps its node falls, and has to start from that."""
    kind, role, chance = rng.choice(DAMAGE), rng.choice(ROLES), rng.random()
    scene = [Fault(0.0, kind, role, _draw_time(rng), chance)]
    if rng.random() < 0.5:
        scene.append(Fault(rng.uniform(0.0, 1.0), rng.choice(("kill", "power", "restart")), role, _draw_time(rng), chance))
    return scene


SCENES: tuple[Callable[[random.Random, int], list[Fault]], ...] = (
    _hold_and_fell,
    _hold_and_fell,
    _one_by_one,
    _in_turn,
    _again,
    _all_at_once,
)


def _placed(rng: random.Random, scene: list[Fault], heal_at_s: float) -> list[Fault]:
    """The scene at some time; what would begin when all is healed is left out."""
    begin_s = rng.uniform(FAULTS_BEGIN_S, max(FAULTS_BEGIN_S, heal_at_s - 1.5))
    return [
        replace(
            fault,
            at_s=round(begin_s + fault.at_s, 4),
            lasts_s=round(min(fault.lasts_s, heal_at_s - begin_s - fault.at_s), 4),
            chance=round(fault.chance, 6),
        )
        for fault in scene
        if begin_s + fault.at_s < heal_at_s - 0.1
    ]
