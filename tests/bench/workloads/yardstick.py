"""The load of the yardstick, a script that YARDSTICK names: on the yardstick's own nodes, and on each cluster."""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager

from tests.bench.contestants import Cluster, Contestant
from tests.bench.figures import MS, RECORDS_S, Figure
from tests.bench.workloads import Bench
from tests.bench.workloads.topics import new_topic

NAME = "yardstick"
PARTITIONS = 4  # as the script's own nodes have
TIMEOUT_S = 300
FIELDS = {
    "records_s_100B": ("100 B", "rate", RECORDS_S),
    "records_s_1KiB": ("1 KiB", "rate", RECORDS_S),
    "p50_ms": ("1,000 records/s", "acknowledged, p50", MS),
    "p99_ms": ("1,000 records/s", "acknowledged, p99", MS),
    "p99.9_ms": ("1,000 records/s", "acknowledged, p99.9", MS),
}


def contestant() -> Contestant:
    """Not a cluster: the script starts its own nodes, and nothing but its own load runs on them."""

    def refuse() -> AbstractContextManager[Cluster]:
        raise NotImplementedError("the yardstick is no cluster")

    return Contestant(NAME, "", "three nodes that only write; every acknowledged record is fsynced on all three", refuse, None)


def measure(contestant: Contestant, bench: Bench) -> list[Figure]:
    assert bench.yardstick is not None
    if contestant.name == NAME:  # its three nodes sync before they acknowledge
        return _run(bench, bench.yardstick, "run", "--fsync", "1")
    with contestant.fresh() as cluster:
        topic = new_topic(cluster.bootstrap_servers, PARTITIONS)
        place = ["--bootstrap", cluster.bootstrap_servers, "--topic", topic, "--partitions", str(PARTITIONS)]
        return _run(bench, bench.yardstick, "load", *place)


def _run(bench: Bench, *words: str) -> list[Figure]:
    environment = os.environ | {"YARDSTICK_DIR": str(bench.site.directory)}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} records were refused: {result}")
    return [Figure(case, what, unit, result[field]) for field, (case, what, unit) in FIELDS.items()]
