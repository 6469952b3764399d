"""Clients in processes of their own: they begin together, and tell when they fail."""

import os
import time

import pytest

from tests.bench.cores import Cores
from tests.bench.crew import Crew, CrewError, WorkersGate, run_clients

HERE = tuple(sorted(os.sched_getaffinity(0)))
CORES = Cores(HERE, HERE[:1])


def begin(gate: WorkersGate, prepare_s: float) -> tuple[float, float, set[int]]:
    time.sleep(prepare_s)
    prepared = time.monotonic()
    gate()
    return prepared, time.monotonic(), os.sched_getaffinity(0)


def fail(gate: WorkersGate) -> None:
    gate()
    raise ValueError("as told")


def wait(gate: WorkersGate) -> str:
    gate()
    while not gate.told_to_end(0.01):
        pass
    return "ended"


def test_nobody_begins_before_all_are_prepared_and_all_are_on_the_clients_cores() -> None:
    found = run_clients(CORES, [(begin, (0.0,)), (begin, (0.3,))], timeout_s=60)
    last_prepared = max(prepared for prepared, _, _ in found)
    assert all(begun >= last_prepared for _, begun, _ in found)
    assert all(cores == set(CORES.clients) for _, _, cores in found)


def test_a_client_that_fails_tells_why() -> None:
    with pytest.raises(CrewError, match="ValueError: as told"):
        run_clients(CORES, [(fail, ())], timeout_s=60)


def test_a_client_goes_on_until_it_is_told() -> None:
    with Crew(CORES, [(wait, ())]) as crew:
        crew.go()
        crew.tell_to_end()
        assert crew.results(60) == ["ended"]
