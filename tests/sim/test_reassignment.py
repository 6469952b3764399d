"""Partitions that move about while everything goes wrong: the plans of the simulator's seeds, and a mover beside their clients.

python -m tests.sim.test_reassignment 1..500     more seeds than the test runs
"""

import asyncio
import random
import sys
from collections import Counter

import pytest

from quorumlog.metadata.image import PartitionState
from quorumlog.metadata.records import PartitionChange
from tests.sim.clients.admin import Admin
from tests.sim.clients.client import Client
from tests.sim.clients.connection import ALTER_PARTITION_REASSIGNMENTS
from tests.sim.clients.workload import Workload
from tests.sim.plan import Plan
from tests.sim.run import draw_plan
from tests.sim.world import World

SEEDS = range(1, 5)
PAUSE_S = (0.05, 0.6)
CANCEL_CHANCE = 0.2


class MovingWorld(World):
    """A world with a mover: it begins moves, replaces and cancels them until everything heals. What it is told does not matter to
    it; the invariants and the clients judge, and at the end every partition must have all its replicas in sync."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.moves: Counter[str] = Counter()
        self._mover_rng = random.Random(f"{plan.seed} mover")
        self._mover: asyncio.Task[None] | None = None

    def _make_workload(self) -> Workload:
        rng = random.Random(self._mover_rng.getrandbits(64))
        admin = Admin(Client("mover", self.wire, sorted(self.machines), rng))
        self._mover = self.loop.create_task(self._move_about(admin))
        for machine in self.machines.values():
            assert machine.node is not None
            machine.node.cluster.subscribe(lambda _old, _image, records: self._count(records))
        return super()._make_workload()

    async def _move_about(self, admin: Admin) -> None:
        until = self.loop.now + self.plan.heal_at_s
        while self.loop.now < until:
            await asyncio.sleep(self._mover_rng.uniform(*PAUSE_S))
            image = self.image()
            states = [] if image is None else [state for topic in image.topics.values() for state in topic.partitions.values()]
            if image is not None and states:
                state = self._mover_rng.choice(sorted(states, key=lambda state: (state.topic_id.int, state.partition)))
                await self._move(admin, image.topic_names[state.topic_id], state)
        await admin.close()

    async def _move(self, admin: Admin, topic: str, state: PartitionState) -> None:
        target = None if self._mover_rng.random() < CANCEL_CHANCE else self._draw_target(len(state.original))
        self.note(f"asks for {topic}-{state.partition} to move from {state.replicas} to {target}")
        wanted = {"name": topic, "partitions": [{"partition_index": state.partition, "replicas": target}]}
        try:
            answer = await admin._ask(ALTER_PARTITION_REASSIGNMENTS, {"topics": [wanted], "timeout_ms": 1000})
        except ConnectionError as error:
            self.note(f"the mover heard nothing: {error}")
            return
        for one in answer.responses[0].partitions if answer.responses else ():
            self.note(f"the mover heard error {one.error_code}")
            self.moves["begun" if one.error_code == 0 else "refused"] += 1

    def _draw_target(self, held: int) -> list[int]:
        """As many as there are, or one more, but never fewer: the workload expects that redundancy."""
        nodes = sorted(self.machines)
        return self._mover_rng.sample(nodes, min(len(nodes), held + self._mover_rng.choice((0, 0, 1))))

    def _count(self, records: object) -> None:
        ended = [one for one in records or () if isinstance(one, PartitionChange) and one.replicas and one.removing == ()]  # type: ignore[attr-defined]
        self.moves["seen to end"] += len(ended)


def run(seed: int) -> MovingWorld:
    world = MovingWorld(draw_plan(seed))
    try:
        world.run()
    except BaseException:
        print(*world.events, sep="\n")
        raise
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_partitions_that_move_under_faults_lose_nothing(seed: int) -> None:
    """Every invariant holds, every client gets what it was promised, and the moves come to their ends."""
    world = run(seed)
    assert world.moves["begun"] > 0
    image = world.image()
    assert image is None or not [
        state for topic in image.topics.values() for state in topic.partitions.values() if state.is_moving
    ]


if __name__ == "__main__":
    first, _, last = sys.argv[1].partition("..")
    total: Counter[str] = Counter()
    for number in range(int(first), int(last or first) + 1):
        try:
            total += run(number).moves
        except Exception as failure:
            print(f"seed {number} FAILED: {failure!r}"[:2000])
            total["FAILED"] += 1
    print(dict(total))
