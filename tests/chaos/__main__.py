"""Chaos on real processes: `python -m tests.chaos --seconds 60 [--seed N]`.

Idempotent producers and a reading consumer run all the time; meanwhile nodes are killed, paused, restarted cleanly, the active
controller and the busiest leader among them. At the end everything heals, all replicas must be in sync again within a bound, and
every acknowledged event must be there once, in order per key, where it was acknowledged. Exit status 1 if anything is wrong.
"""

import json
import random
import threading
import time
from collections import Counter

import click

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import active_controller, busiest_leader, wait_in_sync
from tests.events import EventProducer, Promises, create_topic, judge, made_up, numbered, read_all

TOPIC = "chaos"
PARTITIONS = 6
HEAL_S = 10.0
RATE = 2_000


class Load:
    """One producer thread at a steady rate."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = EventProducer(bootstrap, TOPIC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        for sent, (key, value) in enumerate(numbered(made_up(1 << 40, keys=200))):
            if self._stop.is_set():
                return
            self._producer.send(key, value)
            self._producer.poll(max(0.0, started + sent / RATE - time.monotonic()))

    def finish(self) -> Promises:
        """Stop, wait for every answer, return the promises."""
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(60)
        assert left == 0, f"{left} events were neither acknowledged nor refused"
        return self._producer.promises


class Faults:
    """Draws a fault, makes it, heals it. At most one node is down at a time, so that a majority lives."""

    def __init__(self, cluster: LocalCluster, rng: random.Random) -> None:
        self._cluster = cluster
        self._rng = rng
        self.made: Counter[str] = Counter()

    def make_one(self) -> str:
        victim = self._victim()
        fault = self._rng.choice([self._kill, self._kill, self._pause, self._restart, self._kill_twice])
        name = fault.__name__.strip("_")
        self.made[name] += 1
        fault(victim)
        return f"{name} node {victim}"

    def _victim(self) -> int:
        kind = self._rng.random()
        if kind < 0.4:
            return busiest_leader(self._cluster.bootstrap_servers, TOPIC)
        if kind < 0.7:
            return active_controller(self._cluster)
        return self._rng.choice([node.node_id for node in self._cluster.nodes])

    def _kill(self, victim: int) -> None:
        self._cluster.kill(victim)
        time.sleep(self._rng.uniform(0.0, 3.0))
        self._cluster.start(victim)

    def _kill_twice(self, victim: int) -> None:
        self._cluster.kill(victim)
        self._cluster.start(victim, wait=False)
        time.sleep(self._rng.uniform(0.2, 1.5))
        self._cluster.kill(victim)
        self._cluster.start(victim)

    def _pause(self, victim: int) -> None:
        self._cluster.pause(victim)
        time.sleep(self._rng.uniform(0.3, 5.0))
        self._cluster.resume(victim)

    def _restart(self, victim: int) -> None:
        self._cluster.restart(victim)


@click.command()
@click.option("--seconds", default=60, show_default=True)
@click.option("--seed", type=int, help="Draws the faults; printed, so that a round can be drawn again.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table")
def main(seconds: int, seed: int | None, output: str) -> None:
    """Break nodes for a while; nothing that was acknowledged may be missing."""
    seed = random.randrange(1 << 32) if seed is None else seed
    rng = random.Random(seed)
    click.echo(f"chaos for {seconds} s, seed {seed}", err=True)
    with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 5, "segment_bytes": 1 << 20}) as cluster:
        create_topic(cluster.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        load, faults = Load(cluster.bootstrap_servers), Faults(cluster, rng)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(rng.uniform(0.5, 2.0))
            click.echo(f"  {faults.make_one()}", err=True)
        cluster.wait_ready()
        healed_s = wait_in_sync(cluster.bootstrap_servers, TOPIC, timeout_s=HEAL_S)
        promises = load.finish()
        verdict = judge(promises, read_all(cluster.bootstrap_servers, TOPIC))
    report = {
        "seed": seed,
        "seconds": seconds,
        "faults": dict(faults.made),
        "acknowledged": verdict.acknowledged,
        "failed": len(promises.failed),
        "lost": verdict.lost,
        "twice": verdict.twice,
        "out_of_order": verdict.out_of_order,
        "misplaced": verdict.misplaced,
        "in_sync_after_s": round(healed_s, 2),
        "longest_silence_s": round(promises.longest_silence_s, 2),
    }
    click.echo(json.dumps(report) if output == "json" else "\n".join(f"{name:20} {value}" for name, value in report.items()))
    if not verdict.is_clean:
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
