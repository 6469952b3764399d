"""The simulator's command.

python -m tests.sim --seed 7              one run, and what happened if it failed
python -m tests.sim --seeds 1..5000       many, on all cores
python -m tests.sim meta --seeds 1..100   each twice: the traces must be equal
python -m tests.sim speed                 simulated seconds for each second of processor time
python -m tests.sim --workload groups --seeds 1..200
                                          with consumer groups, drawn from the seed by themselves (also for meta and shrink)
python -m tests.sim shrink --seed 7       the fewest faults and operations with which it still fails
                                          (`--plant MUTANT`: with a bug of tests/sim/mutants in the code)
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.sim.many import run_many, run_twice
from tests.sim.mutants import find
from tests.sim.plan import Plan
from tests.sim.run import DRAWINGS, Result, healthy_plan, run_plan, run_seed
from tests.sim.shrink import Shrinker

FAILURES_SHOWN = 20
console = Console(stderr=True)


def parse_seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        return range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise click.BadParameter(f"{text!r}; expected a number, or A..B") from None


plant_option = click.option("--plant", metavar="MUTANT", help="With one of the planted bugs of tests/sim/mutants.")
workload_option = click.option(
    "--workload", type=click.Choice(sorted(DRAWINGS)), default="records", show_default=True, help="What clients do."
)


def planted(name: str | None) -> AbstractContextManager[None]:
    return nullcontext() if name is None else find(name).planted()


@click.group(invoke_without_command=True)
@click.option("--seed", type=int, help="One run.")
@plant_option
@workload_option
@click.option("--seeds", help="Many: A..B, both included.")
@click.option("--jobs", type=click.IntRange(min=1), help="How many at a time; by default one a core.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table")
@click.pass_context
def main(
    context: click.Context,
    seed: int | None,
    plant: str | None,
    workload: str,
    seeds: str | None,
    jobs: int | None,
    output: str,
) -> None:
    """Whole clusters on virtual time, their faults drawn from seeds."""
    if context.invoked_subcommand is not None:
        return
    if seed is not None:
        with planted(plant):
            result = run_seed(seed, workload)
        tell_one(result, DRAWINGS[workload](seed), output, workload)
    elif seeds is not None:
        tell_many(parse_seeds(seeds), workload, output, jobs=jobs)
    else:
        raise click.UsageError("give --seed N or --seeds A..B")


@main.command()
@click.option("--seed", "--seeds", "seeds", required=True, help="N, or A..B.")
@workload_option
@click.option("--output", type=click.Choice(["table", "json"]), default="table")
def meta(seeds: str, workload: str, output: str) -> None:
    """Run each seed twice: a simulator that is not repeatable proves nothing."""
    tell_many(parse_seeds(seeds), workload, output, run=run_twice)


@main.command()
@click.option("--seconds", type=click.FloatRange(min=1.0), default=60.0, show_default=True, help="To simulate.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def speed(seconds: float, rounds: int) -> None:
    """Simulated seconds for each second of processor time: three nodes, 50 operations a second, no faults."""
    for number in range(rounds):
        result = run_plan(healthy_plan(number, seconds))
        if result.failure is not None:
            raise click.ClickException(result.failure)
        ratio = result.simulated_s / result.cpu_s
        click.echo(f"{result.operations} operations in {result.simulated_s:.1f} s, {result.cpu_s:.2f} s of CPU: {ratio:.1f}x")


@main.command("shrink")
@click.option("--seed", type=int, required=True)
@plant_option
@workload_option
def shrink_command(seed: int, plant: str | None, workload: str) -> None:
    """Leave out faults and operations while the run still fails in the same way."""
    with planted(plant), console.status("shrinking") as status:
        shrinker = Shrinker(DRAWINGS[workload](seed), progress=lambda text: status.update(f"shrinking: {text}"))
        shrinker.shrink()
    groups, transactions = shrinker.plan.groups, shrinker.plan.transactions
    others = (*(groups.ops if groups is not None else ()), *(transactions.ops if transactions is not None else ()))
    for operation in (*shrinker.plan.workload.ops, *others):
        click.echo(f"  {operation}")
    tell_one(shrinker.result, shrinker.plan, "table", workload)


def again(seed: int, workload: str) -> str:
    """The command that shows it."""
    return f"python -m tests.sim{'' if workload == 'records' else f' --workload {workload}'} --seed {seed}"


def tell_one(result: Result, plan: Plan, output: str, workload: str) -> None:
    """Print a run; exit status 1 if it failed."""
    if output == "json":
        click.echo(json.dumps(asdict(result)))
    else:
        click.echo(f"seed {result.seed}: {plan.describe()}")
        for what in (*(plan.groups.groups if plan.groups is not None else ()), *plan.faults):
            click.echo(f"  {what}")
        click.echo(
            f"{result.operations} operations, {result.messages} messages, {result.simulated_s:.1f} s simulated in "
            f"{result.cpu_s:.2f} s of CPU, in sync {result.in_sync_after_s:.1f} s after the healing, trace {result.trace}"
        )
        for event in result.events:
            click.echo(f"  {event}")
        if result.failure is not None:
            click.echo(f"{result.detail}FAILED  {result.failure}\n  again: {again(result.seed, workload)}")
    if result.failure is not None:
        sys.exit(1)


def tell_many(
    seeds: range, workload: str, output: str, *, run: Callable[..., Result] = run_seed, jobs: int | None = None
) -> None:
    """Run and sum up; exit status 1 if any failed."""
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("seeds", total=len(seeds))
        for result in run_many(seeds, partial(run, workload=workload), jobs=jobs):
            results.append(Result(**{**asdict(result), "events": ()}))
            if result.failure is not None:
                console.print(f"seed {result.seed}: {result.failure}", markup=False, highlight=False)
            progress.advance(task)
    results.sort(key=lambda result: result.seed)
    failed = [result for result in results if result.failure is not None]
    if output == "json":
        click.echo(json.dumps({"runs": len(results), "failed": [asdict(result) for result in failed], **_sums(results)}))
    else:
        _print_table(results, failed, workload)
    if failed:
        sys.exit(1)


def _sums(results: list[Result]) -> dict[str, float]:
    simulated, cpu = sum(result.simulated_s for result in results), sum(result.cpu_s for result in results)
    return {
        "operations": sum(result.operations for result in results),
        "messages": sum(result.messages for result in results),
        "simulated_s": round(simulated, 1),
        "simulated_s_per_core_second": round(simulated / cpu, 1) if cpu else 0.0,
        "worst_in_sync_after_s": round(max((result.in_sync_after_s for result in results), default=0.0), 2),
    }


def _print_table(results: list[Result], failed: list[Result], workload: str) -> None:
    table = Table(title=f"{len(results)} seeds, {len(failed)} failed")
    table.add_column("what")
    table.add_column("how many", justify="right")
    for name, value in _sums(results).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    struck: Counter[str] = Counter()
    for result in results:
        struck.update(result.struck)
    for kind, count in sorted(struck.items()):
        table.add_row(f"fault: {kind}", f"{count:,}")
    for kind, count in Counter(result.kind for result in failed).most_common():
        table.add_row(f"FAILED {kind}", f"{count:,}")
    Console().print(table)
    for result in failed[:FAILURES_SHOWN]:
        click.echo(f"{again(result.seed, workload)}   # {result.failure}")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of strings must not differ from run to run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]])
    main(prog_name="python -m tests.sim")
