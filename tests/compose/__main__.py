"""Builds the image, runs the three containers, kills the leader's, and holds the cluster to its acknowledgments."""

import argparse
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import tenacity

from tests.cluster.leaders import busiest_leader, in_sync_of
from tests.compose.ledger import PARTITIONS, BrokenPromiseError, Ledger
from tests.compose.stack import NODES, EngineError, Stack, compose_command
from tests.events import create_topic

TOPIC = "orders"


@contextmanager
def step(title: str) -> Iterator[None]:
    """Says what is being done and how long it took."""
    print(f"- {title} ...", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(BrokenPromiseError),
    wait=tenacity.wait_fixed(0.5),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)
def wait_until_in_sync(stack: Stack) -> None:
    """BrokenPromiseError after 60 seconds."""
    in_sync = in_sync_of(stack.bootstrap_servers, TOPIC)
    if {len(nodes) for nodes in in_sync.values()} != {3}:
        raise BrokenPromiseError(f"in-sync replicas by partition: {in_sync}")


def kill_the_leader(stack: Stack, ledger: Ledger) -> int:
    leader = busiest_leader(stack.bootstrap_servers, TOPIC)
    with (
        step(f"kill node-{leader}, which leads most partitions, while 2,000 records are produced"),
        ThreadPoolExecutor(1) as aside,
    ):
        killed = aside.submit(stack.kill, leader)
        ledger.produce(2_000, per_second=400)
        killed.result(timeout=30)
    print(f"  longest wait for an acknowledgment: {ledger.longest_wait_seconds:.2f} s")
    with step("read everything from the two nodes that are left"):
        ledger.verify()
    return leader


def bring_back(stack: Stack, ledger: Ledger, node: int) -> None:
    with step(f"start node-{node} again, wait until it is healthy and in sync"):
        stack.start(node)
        stack.wait_until_healthy()
        wait_until_in_sync(stack)
    with step("produce 1,000 more and read everything"):
        ledger.produce(1_000, per_second=1_000)
        ledger.verify()


def stop_and_start_all(stack: Stack, ledger: Ledger) -> None:
    with step("stop all three cleanly"):
        stack.stop(*NODES)
        codes = stack.exit_codes()
        if set(codes.values()) != {0}:
            raise BrokenPromiseError(f"exit codes after a clean stop: {codes}")
    with step("start them again on their volumes"):
        stack.up()
        stack.wait_until_healthy()
    with step("read everything"):
        ledger.verify()


def judge(stack: Stack) -> None:
    with step("start three containers and wait until they are healthy"):
        stack.up()
        stack.wait_until_healthy()
    ledger = Ledger(stack.bootstrap_servers, TOPIC)
    with step("create a topic and produce 2,000 records from the host"):
        create_topic(stack.bootstrap_servers, TOPIC, partitions=PARTITIONS)
        ledger.produce(2_000, per_second=1_000)
    killed = kill_the_leader(stack, ledger)
    bring_back(stack, ledger, killed)
    stop_and_start_all(stack, ledger)
    print(f"all {len(ledger.acknowledged):,} acknowledged records are there, once and in order")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument("--compose", type=shlex.split, help="the Compose command (default: what is installed)")
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    arguments = parser.parse_args()
    try:
        stack = Stack(arguments.compose or compose_command())
    except EngineError as error:
        raise SystemExit(f"NOT RUN: {error}") from error
    with step("build the image"):
        stack.build()
    try:
        judge(stack)
    except Exception as error:
        print(stack.logs(lines=80), f"FAILED: {error!r}", sep="\n")
        raise
    finally:
        if not arguments.keep:
            stack.down()


if __name__ == "__main__":
    main()
