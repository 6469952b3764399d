"""Many runs, on all cores. (Not in __main__: a spawned process could not import from there.)"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from multiprocessing import get_context

from tests.sim.run import Result, run_seed

RUNS_PER_PROCESS = 100  # then a new one: what a run leaves to the garbage collector goes with it


def run_twice(seed: int, workload: str = "records") -> Result:
    """A failure if the two runs differ."""
    first, second = run_seed(seed, workload), run_seed(seed, workload)
    if first.trace != second.trace and first.failure is None:
        return replace(second, failure=f"runs differ: {first.trace} and {second.trace}")
    return first


def run_many(seeds: Iterable[int], run: Callable[[int], Result] = run_seed, *, jobs: int | None = None) -> Iterator[Result]:
    """As they come."""
    count, waiting = jobs or os.cpu_count() or 1, iter(seeds)
    # No `max_tasks_per_child`: the pools of Python 3.11 and 3.12 can stop for ever when a process has done its share.
    while some := list(islice(waiting, RUNS_PER_PROCESS * count)):
        with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
            for future in as_completed([pool.submit(run, seed) for seed in some]):
                yield future.result()
