"""The commands, the test kit and the demo on real node processes."""

import gzip
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from quorumlog.testing import LocalCluster
from tests.cli.conftest import Run

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3) as running:
        yield running


def test_a_topic_from_its_creation_to_its_end(run: Run, cluster: LocalCluster) -> None:
    """create, list, describe, produce, consume by offset and by time, delete: against the real thing."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)
    settings = ("--config", "min.insync.replicas=2", "--config", "retention.ms=3600000")
    created = run("topics", "create", "life", "--partitions", 4, "--replication-factor", 3, *settings, *at)
    assert created.exit_code == 0, created.output
    again = run("topics", "create", "life", *at)
    assert again.exit_code == 1 and "TOPIC_ALREADY_EXISTS" in again.output and again.output.count("\n") == 1

    described = json.loads(run("topics", "describe", "life", "--output", "json", *at).output)
    assert described["config"] == {"min.insync.replicas": "2", "retention.ms": "3600000"}
    assert all(sorted(partition["replicas"]) == partition["in_sync"] == [1, 2, 3] for partition in described["partitions"])
    assert len(described["partitions"]) == 4

    lines = [json.dumps({"id": f"k{number % 7}", "number": number}) for number in range(500)]
    assert run("produce", "life", "--key", "id", *at, text="\n".join(lines[:250])).exit_code == 0
    time.sleep(0.01)
    middle = time.time()
    time.sleep(0.01)
    assert run("produce", "life", "--key", "id", *at, text="\n".join(lines[250:])).exit_code == 0

    everything = run("consume", "life", "--until-end", "--output", "json", *at).output.splitlines()
    assert sorted(json.loads(line)["value"] for line in everything) == sorted(lines)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle)) + f"{middle % 1:.3f}"[1:] + "+00:00"
    later = run("consume", "life", "--until-end", "--from", moment, "--output", "json", *at).output.splitlines()
    assert sorted(json.loads(line)["value"] for line in later) == sorted(lines[250:])

    assert run("topics", "delete", "life", *at).exit_code == 0
    assert "life" not in run("topics", "list", *at).output


def test_a_compacted_topic_says_the_last_of_each_key(run: Run, cluster: LocalCluster) -> None:
    """topics compact: every replica does it, and tells so; who reads from the beginning gets the latest of everything."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)
    settings = ("--config", "cleanup.policy=compact", "--config", "min.cleanable.dirty.ratio=0.9")
    assert run("topics", "create", "last", "--partitions", 2, "--replication-factor", 3, *settings, *at).exit_code == 0
    lines = [json.dumps({"id": f"k{number % 7}", "number": number}) for number in range(700)]
    assert run("produce", "last", "--key", "id", *at, text="\n".join(lines)).exit_code == 0
    before = json.loads(run("topics", "describe", "last", "--output", "json", *at).output)
    assert [row["compacted"] for row in before["partitions"]] == ["never", "never"]

    done = run("topics", "compact", "last", "--wait", "--output", "json", *at)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)
    assert sorted((row["partition"], row["node"], row["dirty"]) for row in rows) == [
        (p, n, 0.0) for p in (0, 1) for n in (1, 2, 3)
    ]
    left = run("consume", "last", "--until-end", "--output", "json", *at).output.splitlines()
    assert sorted(json.loads(line)["value"] for line in left) == sorted(lines[-7:])
    described = run("topics", "describe", "last", *at).output
    assert "compacted" in described and "never" not in described
    run("topics", "alter", "last", "--config", "cleanup.policy=delete", *at)
    refused = run("topics", "compact", "last", "--wait", *at)
    assert refused.exit_code == 1 and "is not compacted" in refused.output


def test_a_group_from_its_first_record_to_its_end(run: Run, cluster: LocalCluster) -> None:
    """consume as a member, list, describe, go back, forget, delete: against the real thing."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)

    def described() -> Any:
        found = run("groups", "describe", "billing", "--output", "json", *at)
        assert found.exit_code == 0, found.output
        return json.loads(found.output)

    assert run("topics", "create", "bills", "--partitions", 2, *at).exit_code == 0
    assert run("produce", "bills", *at, text="\n".join(str(number) for number in range(20))).exit_code == 0
    first = run("consume", "bills", "--group", "billing", "--max", 12, "--timeout", 60, "--output", "json", *at)
    assert first.exit_code == 0, first.output
    assert {row["group"]: row["state"] for row in json.loads(run("groups", "list", "--output", "json", *at).output)}[
        "billing"
    ] == "empty"
    found = described()
    assert (found["state"], found["members"]) == ("empty", [])
    assert sum(row["committed"] for row in found["partitions"]) == 12
    assert sum(row["lag"] for row in found["partitions"]) == sum(row["log_end"] - row["committed"] for row in found["partitions"])
    rest = run("consume", "bills", "--group", "billing", "--max", 8, "--timeout", 60, "--output", "json", *at)
    values = [json.loads(line)["value"] for line in (first.output + rest.output).splitlines()]
    assert sorted(map(int, values)) == list(range(20)), "each record once: the group went on where it stopped"

    dry = run("groups", "reset", "billing", "--topic", "bills", "--to", "earliest", *at)
    assert "add --execute" in dry.output and sum(row["lag"] for row in described()["partitions"]) == 0
    done = run("groups", "reset", "billing", "--topic", "bills", "--to", "earliest", "--execute", *at)
    assert done.exit_code == 0 and sum(row["lag"] for row in described()["partitions"]) == 20
    assert run("groups", "reset", "billing", "--all-topics", "--to", "+3", "--execute", *at).exit_code == 0
    assert all(row["committed"] == min(3, row["log_end"]) for row in described()["partitions"])

    assert run("groups", "delete-offsets", "billing", "--topic", "bills:0", *at).exit_code == 0
    assert [row["partition"] for row in described()["partitions"]] == [1]
    assert run("groups", "delete", "billing", *at).exit_code == 0
    gone = run("groups", "describe", "billing", *at)
    assert gone.exit_code == 1 and gone.output.count("\n") == 1


def test_a_topic_is_changed_while_it_is_used(run: Run, cluster: LocalCluster) -> None:
    """Settings of topics, brokers and groups; more partitions; records deleted."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)

    def settings(kind: str, name: str) -> dict[str, tuple[str, str]]:
        found = run("configs", "describe", kind, name, "--output", "json", *at)
        assert found.exit_code == 0, found.output
        return {row["name"]: (row["value"], row["source"]) for row in json.loads(found.output)}

    assert run("topics", "create", "changed", "--partitions", 1, *at).exit_code == 0
    assert run("produce", "changed", *at, text="a\nb\nc").exit_code == 0
    assert run("topics", "alter", "changed", "--config", "retention.ms=1000000", *at).exit_code == 0
    assert (
        run("configs", "alter", "topic", "changed", "--set", "segment.ms=60000", "--delete", "retention.ms", *at).exit_code == 0
    )
    assert {name: value for name, value in settings("topic", "changed").items() if value[1] == "topic"} == {
        "segment.ms": ("60000", "topic")
    }
    refused = run("configs", "alter", "topic", "changed", "--set", "segment.ms=x", *at)
    assert refused.exit_code == 1 and "segment.ms" in refused.output
    assert run("configs", "alter", "group", "g", "--set", "consumer.session.timeout.ms=50000", *at).exit_code == 0
    assert settings("group", "g")["consumer.session.timeout.ms"] == ("50000", "group")
    assert run("topics", "delete-records", "changed:0", "--before", 2, *at).exit_code == 0
    assert run("topics", "partitions", "changed", 3, *at).exit_code == 0
    kept = run("consume", "changed", "--until-end", "--output", "json", *at).output.splitlines()
    assert [json.loads(line)["offset"] for line in kept] == [2]


def test_partitions_move_and_their_leaders_are_elected(run: Run, cluster: LocalCluster) -> None:
    """To fewer nodes, throttled; then back to all, taken back half way; and who is to lead, leads."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)
    assert run("topics", "create", "nomad", "--partitions", 2, "--replication-factor", 3, *at).exit_code == 0
    moved = run("topics", "move", "nomad", "--to", "2,1", "--throttle", "10MB/s", "--wait", *at)
    assert moved.exit_code == 0 and "-> 2,1" in moved.output and "-> 1,2" in moved.output, moved.output
    described = json.loads(run("topics", "describe", "nomad", "--output", "json", *at).output)
    assert [partition["replicas"] for partition in described["partitions"]] == [[2, 1], [1, 2]]
    assert described["config"] == {}, "the throttle was lifted"

    assert run("produce", "nomad", *at, text="\n".join("x" * 1000 for _ in range(500))).exit_code == 0
    assert run("topics", "move", "nomad:0", "--to", "3,2", "--throttle", "1", *at).exit_code == 0
    (row,) = json.loads(run("topics", "moves", "--output", "json", *at).output)
    assert (row["partition"], row["from"], row["to"]) == ("nomad-0", [2, 1], [3, 2]), row
    back = run("topics", "move", "nomad:0", "--cancel", *at)
    assert back.exit_code == 0 and "nomad-0: stays" in back.output
    assert run("topics", "move", "nomad:0", "--cancel", *at).exit_code == 1
    assert json.loads(run("topics", "moves", "--lift-throttles", "--output", "json", *at).output) == []
    assert run("topics", "move", "nomad", "--to", "1,9", *at).exit_code == 1

    elected = json.loads(run("topics", "elect", "nomad", "--output", "json", *at).output)
    assert [row["partition"] for row in elected] == ["nomad-0", "nomad-1"]
    described = json.loads(run("topics", "describe", "nomad", "--output", "json", *at).output)
    assert [partition["leader"] for partition in described["partitions"]] == [2, 1]
    assert run("topics", "delete", "nomad", *at).exit_code == 0


def test_status_shows_a_lost_node(run: Run, cluster: LocalCluster) -> None:
    """An operator sees what is under-replicated while a node is down, and that nothing is once it is back."""
    at = ("--bootstrap-server", cluster.bootstrap_servers)
    assert run("topics", "create", "status", "--partitions", 3, "--replication-factor", 3, *at).exit_code == 0
    cluster.kill(3)
    hurt = wait_for_status(run, at, lambda status: status["under_replicated"] == status["partitions"] >= 3)
    assert hurt["leaderless"] == 0
    cluster.start(3)
    healed = wait_for_status(run, at, lambda status: status["under_replicated"] == 0)
    assert [node["id"] for node in healed["nodes"]] == [1, 2, 3]
    assert healed["controller"] in (1, 2, 3)


def wait_for_status(run: Run, at: tuple[str, str], is_expected: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        result = run("cluster", "status", "--output", "json", *at)
        if result.exit_code == 0:
            status: dict[str, Any] = json.loads(result.output)
            if is_expected(status):
                return status
        assert time.monotonic() < deadline, result.output
        time.sleep(0.1)


def run_demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quorumlog.cli.main", "demo", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)


def test_the_demo_loses_nothing() -> None:
    """The story to its end without a terminal: status 0, the verdict, and no process of its own left."""
    result = run_demo("--records", "10000")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lost: 0, twice: 0, out of order: 0" in result.stdout
    assert "kill -9 node" in result.stdout and "is in sync on all partitions" in result.stdout
    assert not [process for process in psutil.process_iter(["cmdline"]) if "quorumlog-demo-" in str(process.info["cmdline"])]


@pytest.mark.realdata
def test_the_demo_with_real_orders(tmp_path: Path) -> None:
    """The first lines of the real file, as a file of one's own; all of them go through tests/cluster/test_kill.py."""
    path = os.environ.get("QUORUMLOG_REAL_EVENTS")
    if not path or not Path(path).exists():
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("QUORUMLOG_REAL_EVENTS names no file")
    events = tmp_path / "orders.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines, gzip.open(events, "wt", encoding="utf-8") as some:
        some.writelines(itertools.islice(lines, 60_001))
    result = run_demo("--events", str(events))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "lost: 0, twice: 0, out of order: 0" in result.stdout
