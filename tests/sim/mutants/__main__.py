"""Plants each bug in turn and looks for a seed that shows it.

    python -m tests.sim.mutants [--names a,b] [--seeds N] [--output json] [--judge sim|trio|raft|unit] [--list]

Each gets as many seeds as the catalogue says that it needs at most; with --seeds, all get as many.
Exits with 1 if a mutant survives: a hole in the simulator, to be filled; with 2 if one cannot be planted.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import CATALOGUE, Moved, Mutant, find
from .hunt import Outcome, hunting
from .judges import JUDGES


def main() -> int:
    arguments = _parse_arguments()
    try:
        mutants = [find(name) for name in arguments.names.split(",") if name] or list(CATALOGUE)
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    if arguments.list:
        _print_catalogue(mutants)
        return 0
    if moved := _moved(mutants):
        print("\n".join(moved), file=sys.stderr)
        return 2
    outcomes = _hunt(mutants, arguments)
    if arguments.output == "json":
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        _print_outcomes(outcomes)
    return 1 if any(outcome.seed is None for outcome in outcomes) else 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("--names", default="", help="mutants, separated by commas; all if none is named")
    parser.add_argument("--seeds", type=int, help="how many seeds to try, from --first on, instead of each one's own number")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--judge", choices=sorted(JUDGES), help="who looks for all the bugs, instead of each one's own judge")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seconds", type=float, default=300.0, help="real time that one seed may take")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--list", action="store_true", help="say what each mutant breaks and what it needs to show, and stop")
    return parser.parse_args()


def _moved(mutants: list[Mutant]) -> list[str]:
    """What cannot be planted, and why: better known before the hunt than in the middle of it."""
    reasons = []
    for mutant in mutants:
        try:
            with mutant.planted():
                pass
        except Moved as error:
            reasons.append(str(error))
    return reasons


def _hunt(mutants: list[Mutant], arguments: argparse.Namespace) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), TimeElapsedColumn())
    outcomes = []
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        hunting(judge=arguments.judge, workers=arguments.workers, seconds_max=arguments.seconds) as hunt,
    ):
        for number, mutant in enumerate(mutants, start=1):
            count = mutant.seeds if arguments.seeds is None else arguments.seeds
            seeds = range(arguments.first, arguments.first + count)
            task = progress.add_task(f"{number}/{len(mutants)} {mutant.name}", total=len(seeds))
            outcomes.append(hunt.run(mutant, seeds, lambda task=task: progress.advance(task)))  # type: ignore[misc]
            progress.remove_task(task)
            progress.console.print(_line(outcomes[-1]), highlight=False, markup=False, soft_wrap=True)
    return outcomes


def _line(outcome: Outcome) -> str:
    where = "SURVIVES" if outcome.seed is None else f"seed {outcome.seed}"
    return f"{outcome.name}: {where} ({outcome.seconds:.1f} s) {_first_line(outcome.failure)[:150]}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _print_outcomes(outcomes: list[Outcome]) -> None:
    table = Table("mutant", "found at seed", "by", "seconds")
    for outcome in outcomes:
        where = f"none of {outcome.seeds_run}" if outcome.seed is None else str(outcome.seed)
        table.add_row(outcome.name, where, _first_line(outcome.failure)[:200], f"{outcome.seconds:.1f}")
    console = Console(markup=False)
    console.print(table)
    survivors = [outcome.name for outcome in outcomes if outcome.seed is None]
    console.print(f"{len(outcomes) - len(survivors)} of {len(outcomes)} found", highlight=False)
    if survivors:
        console.print(f"surviving: {', '.join(survivors)}", highlight=False, soft_wrap=True)


def _print_catalogue(mutants: list[Mutant]) -> None:
    table = Table("mutant", "breaks", "needs", "judge", "within seeds", show_lines=True)
    for mutant in mutants:
        table.add_row(mutant.name, mutant.breaks, mutant.needs, mutant.judge, str(mutant.seeds or "-"))
    Console(markup=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
