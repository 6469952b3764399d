"""Runs seeds against a planted bug until one shows it, in many processes.

Which seed is named does not depend on the speed of the processes: it is the lowest one that fails with the bug and not without.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from .judges import run_planted
from .mutant import Mutant

HASH_SEED = "0"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the hunt for one mutant ended; `seed` None if it survived."""

    name: str
    seed: int | None
    failure: str
    seeds_run: int
    seconds: float


class Hunt:
    """Owned by `hunting`, which also ends its processes."""

    def __init__(self, pool: Executor, *, judge: str | None, workers: int, seconds_max: float) -> None:
        self._pool = pool
        self._judge = judge
        self._workers = workers
        self._seconds_max = seconds_max
        self._healthy: dict[tuple[str, int], bool] = {}

    def run(self, mutant: Mutant, seeds: range, on_seed: Callable[[], None] = lambda: None) -> Outcome:
        """Raises Moved if it cannot be planted."""
        began, judge = time.monotonic(), self._judge or mutant.judge
        failures: dict[int, str] = {}
        running: dict[Future[str | None], int] = {}
        waiting, seeds_run = iter(seeds), 0
        while True:
            # What fails without the bug says nothing about it.
            found = next((seed for seed in sorted(failures) if self._is_healthy(judge, seed)), None)
            failures = {seed: failure for seed, failure in failures.items() if seed == found}
            if found is None:
                self._start(judge, mutant, waiting, running)
            if not any(found is None or seed < found for seed in running.values()):
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                seed = running.pop(future)
                seeds_run += 1
                on_seed()
                if (failure := future.result()) is not None and (found is None or seed < found):
                    failures[seed] = failure
        for future in running:
            future.cancel()
        return Outcome(
            mutant.name, found, failures.get(found, "") if found is not None else "", seeds_run, time.monotonic() - began
        )

    def _start(self, judge: str, mutant: Mutant, seeds: Iterator[int], running: dict[Future[str | None], int]) -> None:
        while len(running) < self._workers and (seed := next(seeds, None)) is not None:
            running[self._pool.submit(run_planted, judge, mutant.name, seed, self._seconds_max)] = seed

    def _is_healthy(self, judge: str, seed: int) -> bool:
        if (judge, seed) not in self._healthy:
            failure = self._pool.submit(run_planted, judge, None, seed, self._seconds_max).result()
            self._healthy[judge, seed] = failure is None
        return self._healthy[judge, seed]


@contextmanager
def hunting(*, judge: str | None, workers: int, seconds_max: float) -> Iterator[Hunt]:
    """`workers` processes, in which a seed may take `seconds_max` of real time; with `judge`, it judges all mutants."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = HASH_SEED
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_be_quiet)
    try:
        yield Hunt(pool, judge=judge, workers=workers, seconds_max=seconds_max)
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _be_quiet() -> None:
    logging.disable(logging.CRITICAL)
