"""The faults of the simulator: how each strikes, and how it ends."""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from quorumlog.partitions.log import LOGS_DIRECTORY
from quorumlog.wire.batches import HEADER, HEADER_SIZE, BatchHeader
from tests.sim.machine import Machine
from tests.sim.plan import Fault
from tests.sim.steps import STEPS, Trap

if TYPE_CHECKING:
    from tests.sim.world import World

End = Callable[[], None]
SLOW_LINK_S = 0.3
SLOW_SYNC_S = (0.05, 0.4)
LOSS = 0.2
EPOCH_BYTES = range(12, 16)  # of a batch header
WALL_JUMP_MS = 3_600_000
PASSED_MAX = 5  # of the same step, until a trap strikes


def strike(world: "World", fault: Fault) -> tuple[str, End]:
    """Make the fault; returns what was struck, and what ends it."""
    victim = find_victim(world, fault)
    other = _another(world, victim, fault.chance)
    return f"{fault.kind} of node {victim.node_id}", STRIKES[fault.kind](world, victim, other, fault)


def find_victim(world: "World", fault: Fault) -> Machine:
    """Who plays the part that the fault names, now."""
    node_id = None
    if fault.victim == "leader":
        node_id = world.leader_of_some_partition(fault.chance)
    elif fault.victim == "controller":
        node_id = world.active_controller()
    machines = [world.machines[number] for number in sorted(world.machines)]
    if fault.kind == "wipe":  # a voter's disk is never replaced under its old id
        machines = [machine for machine in machines if machine.node_id not in world.voters]
        node_id = None
    return world.machines[node_id] if node_id is not None else machines[int(fault.chance * len(machines))]


def _another(world: "World", victim: Machine, chance: float) -> Machine:
    others = [world.machines[number] for number in sorted(world.machines) if number != victim.node_id]
    return others[int(chance * 1000) % len(others)]


# --- processes and machines


def _kill(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    victim.kill()
    return lambda: world.ensure_up(victim)


def _kill_at_start(world: "World", victim: Machine, _other: Machine, fault: Fault) -> End:
    """Again while it starts."""
    victim.kill()
    victim.boot()
    world.loop.call_later(fault.chance * min(1.0, fault.lasts_s), victim.kill)
    return lambda: world.ensure_up(victim)


def _power(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    victim.kill(power=True)
    return lambda: world.ensure_up(victim)


def _power_of_all(world: "World", _victim: Machine, _other: Machine, _fault: Fault) -> End:
    for number in sorted(world.machines):
        world.machines[number].kill(power=True)

    def boot_all() -> None:
        for number in sorted(world.machines):
            world.ensure_up(world.machines[number])

    return boot_all


def _pause(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    process = victim.process
    assert process is not None
    process.is_paused = True
    return lambda: process.resume(world.loop)


def _restart(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    world.stop_and_start(victim)
    return lambda: None


def _trap(step: str, *, power: bool) -> Callable[["World", Machine, Machine, Fault], End]:
    """Whoever comes to the step dies there, or the coordinator does: the first time, or one of the next."""

    def arm(world: "World", _victim: Machine, _other: Machine, fault: Fault) -> End:
        trap = Trap(step, to_pass=int(fault.chance * PASSED_MAX), victim=fault.victim, power=power)
        world.traps.append(trap)
        return lambda: world.traps.remove(trap)

    return arm


# --- links


def _cut_one_way(world: "World", victim: Machine, other: Machine, fault: Fault) -> End:
    ends = (victim.node_id, other.node_id) if fault.chance < 0.5 else (other.node_id, victim.node_id)
    world.network.cut(*ends)
    return lambda: world.network.heal_link(*ends)


def _cut_both(world: "World", victim: Machine, other: Machine, _fault: Fault) -> End:
    return _cut_links(world, [(victim.node_id, other.node_id)])


def _isolate(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    """From all other nodes; clients still reach it."""
    return _cut_links(world, [(victim.node_id, number) for number in sorted(world.machines) if number != victim.node_id])


def _bridge(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    """Two halves, which only the victim can see both of."""
    rest = [number for number in sorted(world.machines) if number != victim.node_id]
    left, right = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    return _cut_links(world, [(one, other) for one in left for other in right])


def _cut_links(world: "World", links: list[tuple[int, int]]) -> End:
    for one, other in links:
        world.network.cut_both(one, other)

    def heal() -> None:
        for one, other in links:
            world.network.heal_link(one, other)
            world.network.heal_link(other, one)

    return heal


def _half_open(world: "World", victim: Machine, other: Machine, fault: Fault) -> End:
    """Who called gives its streams up and calls again, while the old ones live on at the other side."""
    world.network.break_streams(victim.node_id, other.node_id, late_s=fault.lasts_s)
    return lambda: None


def _slow_link(world: "World", victim: Machine, other: Machine, _fault: Fault) -> End:
    link = (victim.node_id, other.node_id)
    world.slow_links[link] = SLOW_LINK_S

    def end() -> None:
        world.slow_links.pop(link, None)

    return end


def _lossy_link(world: "World", victim: Machine, other: Machine, _fault: Fault) -> End:
    link = (victim.node_id, other.node_id)
    world.lossy_links[link] = LOSS

    def end() -> None:
        world.lossy_links.pop(link, None)

    return end


def _isolate_from_clients(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    world.wire.cut(victim.node_id)
    return lambda: world.wire.heal(victim.node_id)


def _reset(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    """Clients lose their connections, and with them the answers that were on their way."""
    world.wire.reset(victim.node_id)
    return lambda: None


# --- disks and clocks


def _slow_disk(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    victim.sync_s = SLOW_SYNC_S

    def end() -> None:
        victim.sync_s = world.plan.options.sync_s

    return end


def _failing_disk(operation: str, error: int) -> Callable[["World", Machine, Machine, Fault], End]:
    def fail(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
        victim.is_damaged = True
        victim.disk.fail_next(operation, error)
        return lambda: world.ensure_up(victim)

    return fail


def _unreadable(world: "World", victim: Machine, _other: Machine, fault: Fault) -> End:
    """A bad sector: the next read of one segment fails."""
    paths = _segments(victim, newest=int(fault.chance * 1e5) % 2 == 0)
    if paths:
        path = paths[int(fault.chance * len(paths))]
        world.on_rotten(victim, path)
        victim.disk.fail_next("read", errno.EIO, path)
    return lambda: None


def _failing_store(world: "World", victim: Machine, _other: Machine, fault: Fault) -> End:
    victim.is_damaged = True
    victim.store.fail_next("write" if fault.chance < 0.5 else "sync")
    return lambda: world.ensure_up(victim)


def _rot(world: "World", victim: Machine, _other: Machine, fault: Fault) -> End:
    """One byte of one segment is not what was written."""
    paths = _segments(victim, newest=int(fault.chance * 1e5) % 2 == 0)
    if paths:
        path = paths[int(fault.chance * len(paths))]
        world.on_rotten(victim, path)
        victim.disk.corrupt(path, _covered(victim, path, int(fault.chance * 1e6) % victim.disk.size(path)))
    return lambda: None


def _covered(victim: Machine, path: str, offset: int) -> int:
    """The byte at `offset`, or one behind it if that is of a leader epoch, whose rot nothing tells (docs/guarantees.md)."""
    data, start = victim.disk.read_file(path), 0
    while start + HEADER_SIZE <= len(data):
        if start + EPOCH_BYTES.start <= offset < start + EPOCH_BYTES.stop:
            return start + EPOCH_BYTES.stop
        start += BatchHeader._make(HEADER.unpack_from(data, start)).size
    return offset


def _segments(victim: Machine, *, newest: bool) -> list[str]:
    """The files of segments that hold anything: all, or each log's newest, which a start after a crash reads."""
    paths = [path for path in victim.disk.files(LOGS_DIRECTORY) if path.endswith(".log") and victim.disk.size(path)]
    return list({path.rpartition("/")[0]: path for path in sorted(paths)}.values()) if newest else paths


def _wipe(world: "World", victim: Machine, _other: Machine, _fault: Fault) -> End:
    """The disk is replaced by an empty one."""
    victim.kill()
    world.on_wiped(victim)
    victim.format()
    return lambda: world.ensure_up(victim)


def _wall_clock(_world: "World", victim: Machine, _other: Machine, fault: Fault) -> End:
    victim.clock.wall_start_ms += int((fault.chance - 0.5) * 2 * WALL_JUMP_MS)
    return lambda: None


STRIKES: dict[str, Callable[["World", Machine, Machine, Fault], End]] = {
    "kill": _kill,
    "kill at start": _kill_at_start,
    "power": _power,
    "power of all": _power_of_all,
    "pause": _pause,
    "restart": _restart,
    "cut one way": _cut_one_way,
    "cut both": _cut_both,
    "isolate": _isolate,
    "bridge": _bridge,
    "half open": _half_open,
    "slow link": _slow_link,
    "lossy link": _lossy_link,
    "isolate from clients": _isolate_from_clients,
    "reset": _reset,
    "slow disk": _slow_disk,
    "write error": _failing_disk("append", errno.EIO),
    "no space": _failing_disk("append", errno.ENOSPC),
    "sync error": _failing_disk("sync", errno.EIO),
    "store error": _failing_store,
    "rot": _rot,
    "read error": _unreadable,
    "wipe": _wipe,
    "wall clock": _wall_clock,
    **{f"kill at {step}": _trap(step, power=False) for step in STEPS},
    **{f"power at {step}": _trap(step, power=True) for step in STEPS},
}
