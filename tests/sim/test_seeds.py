"""The simulator as a test: some seeds, each a cluster of its own with faults of its own; and runs that can be repeated."""

import json
import subprocess
import sys
from typing import Any

import pytest

SEEDS = "1..50"
REPEATED = "51..53"
SEEDS_OF_GROUPS = "1..12"
REPEATED_OF_GROUPS = "13..13"
SEEDS_OF_COMPACTION = "1..10"
REPEATED_OF_COMPACTION = "11..11"
SEEDS_OF_TRANSACTIONS = "1..12"
REPEATED_OF_TRANSACTIONS = "13..13"
SEEDS_OF_DEDUP = "1..10"
REPEATED_OF_DEDUP = "11..11"
GROUPS = ("--workload", "groups")
COMPACTION = ("--workload", "compaction")
TRANSACTIONS = ("--workload", "transactions")
DEDUP = ("--workload", "dedup")


def simulate(*arguments: str) -> dict[str, Any]:
    """The command on all cores; its verdict, also if seeds failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim", *arguments, "--output", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout
    verdict: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) == (not verdict["failed"])
    return verdict


def failures(verdict: dict[str, Any]) -> list[str]:
    return [f"seed {failed['seed']}: {failed['failure']}" for failed in verdict["failed"]]


def test_nothing_is_lost_under_the_faults_of_fifty_seeds() -> None:
    verdict = simulate("--seeds", SEEDS)
    assert failures(verdict) == []
    assert verdict["runs"] == 50
    assert verdict["operations"] > 50 * 100


def test_groups_keep_their_promises_under_the_faults_of_a_dozen_seeds() -> None:
    """`python -m tests.sim --workload groups`: members of both protocols, and what they are told."""
    verdict = simulate(*GROUPS, "--seeds", SEEDS_OF_GROUPS)
    assert failures(verdict) == []
    assert verdict["runs"] == 12


def test_compaction_keeps_the_last_of_each_key_under_the_faults_of_ten_seeds() -> None:
    """`python -m tests.sim --workload compaction`: compacted topics, that of the groups' offsets among them."""
    verdict = simulate(*COMPACTION, "--seeds", SEEDS_OF_COMPACTION)
    assert failures(verdict) == []
    assert verdict["runs"] == 10


def test_transactions_are_whole_or_not_there_under_the_faults_of_a_dozen_seeds() -> None:
    """`python -m tests.sim --workload transactions`: writers, movers and usurpers, of both versions of transactions."""
    verdict = simulate(*TRANSACTIONS, "--seeds", SEEDS_OF_TRANSACTIONS)
    assert failures(verdict) == []
    assert verdict["runs"] == 12


def test_events_that_come_again_are_there_once_under_the_faults_of_ten_seeds() -> None:
    """`python -m tests.sim --workload dedup`: several producers, idempotent and not, send the same events."""
    verdict = simulate(*DEDUP, "--seeds", SEEDS_OF_DEDUP)
    assert failures(verdict) == []
    assert verdict["runs"] == 10


@pytest.mark.parametrize(
    "what",
    [
        ("--seeds", REPEATED),
        (*GROUPS, "--seeds", REPEATED_OF_GROUPS),
        (*COMPACTION, "--seeds", REPEATED_OF_COMPACTION),
        (*TRANSACTIONS, "--seeds", REPEATED_OF_TRANSACTIONS),
        (*DEDUP, "--seeds", REPEATED_OF_DEDUP),
    ],
    ids=["records", "groups", "compaction", "transactions", "dedup"],
)
def test_a_seed_runs_the_same_way_twice(what: tuple[str, ...]) -> None:
    assert failures(simulate("meta", *what)) == []


def test_a_failing_run_is_shrunk_to_what_it_needs() -> None:
    """A leader that commits on its own flush needs no fault and one record."""
    command = [sys.executable, "-m", "tests.sim", "shrink", "--seed", "0", "--plant", "commits-on-its-own-flush"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "FAILED  in-sync-is-complete" in done.stdout
    assert [line.split("action=")[1][:6] for line in done.stdout.splitlines() if "Op(" in line] == ["'send'"]
    assert " for " not in done.stdout.split("FAILED")[0].split("seed 0:")[1], "no fault is left"
