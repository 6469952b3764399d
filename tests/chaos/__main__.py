"""Chaos on real processes: `python -m tests.chaos --minutes 5 --seed 7`.

Clients of three libraries work on a cluster while faults are made that a seed has drawn beforehand. Then everything heals, every
reader reads everything once more, the history of all operations goes through the checker, and the replicas are compared byte by
byte. Exit status 1 if anything is wrong. docs/chaos.md says what each fault does.
"""

import datetime
import json
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from quorumlog.checker.analysis import check
from quorumlog.checker.history import HistoryWriter, read_history
from quorumlog.checker.report import Band, ensure_possible, write_report
from tests.chaos import schedule
from tests.chaos.faults import FAULTS
from tests.chaos.replicas import compare
from tests.chaos.result import ROOT, Result, append_row, described_version
from tests.chaos.round import Course, Round
from tests.chaos.schedule import Planned
from tests.chaos.screen import Screen
from tests.chaos.stage import Stage
from tests.chaos.targets import Target, TargetError
from tests.chaos.workloads import WORKLOADS, start

KEPT = ROOT / ".run" / "chaos"


def chosen_faults(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(FAULTS)):
        raise click.BadParameter(f"{', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return names


def chosen_workloads(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(WORKLOADS)):
        raise click.BadParameter(f"{', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return names


def node_settings(_context: click.Context, _parameter: click.Parameter, words: Sequence[str]) -> dict[str, str]:
    if wrong := [word for word in words if "=" not in word]:
        raise click.BadParameter(f"{', '.join(wrong)}; expected NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@click.command()
@click.option("--minutes", default=1.0, show_default=True, help="How long faults are made; healing and judging come on top.")
@click.option("--seed", type=int, help="Draws the faults and the work; printed, so that a round can be drawn again.")
@click.option("--target", "target_name", type=click.Choice(["local", "compose"]), default="local", show_default=True)
@click.option("--faults", default="", callback=chosen_faults, help="Only these, separated by commas; by default all.")
@click.option(
    "--workloads", default="", callback=chosen_workloads, help="What clients do, separated by commas; by default everything."
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", callback=node_settings, help="A setting of the local nodes."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Plot of the run, .html or .png.")
@click.option("--record", is_flag=True, help="Append a row to the table in docs/chaos.md.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table")
def main(
    minutes: float,
    seed: int | None,
    target_name: str,
    faults: Sequence[str],
    workloads: Sequence[str],
    settings: Mapping[str, str],
    report: Path | None,
    record: bool,
    output: str,
) -> None:
    """Break nodes for a while; nothing that was acknowledged may be missing."""
    if report is not None:
        ensure_possible(report)
    # A time limit ends us by SIGTERM: the nodes, mounts and namespaces must go with us.
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(128 + signal.SIGTERM))
    seed = random.randrange(1 << 32) if seed is None else seed
    try:
        target = make_target(target_name, settings)
    except TargetError as error:
        raise click.ClickException(f"NOT RUN: {error}") from error
    try:
        result = run(target, seed=seed, minutes=minutes, faults=faults, workloads=workloads, report=report)
    finally:
        target.close()
    if record:
        append_row(result)
    show(result, output)
    if not result.is_clean:
        raise SystemExit(1)


def make_target(name: str, settings: Mapping[str, str]) -> Target:
    if name == "compose":
        from tests.chaos.compose_target import ComposeTarget

        if settings:
            raise click.UsageError("--set is for the local target; docker-compose.yml holds the settings of the containers")
        return ComposeTarget()
    from tests.chaos.local_target import SETTINGS, LocalTarget

    return LocalTarget({**SETTINGS, **settings})


def run(
    target: Target, *, seed: int, minutes: float, faults: Sequence[str], workloads: Sequence[str], report: Path | None
) -> Result:
    """One round from start to verdict. Raises TargetError if the cluster does not even start."""
    version, date = described_version(), datetime.datetime.now(datetime.UTC).date().isoformat()
    kept = KEPT / f"{target.name}-{seed}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    # The clients tell of every connection that breaks: worth a file, not the screen.
    logging.basicConfig(filename=kept / "clients.log", format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    with Screen(minutes * 60) as screen:
        plan = planned(target, seed=seed, seconds=minutes * 60, faults=faults, screen=screen)
        target.start()
        stage = Stage(target)
        with HistoryWriter(kept / "history.jsonl") as history:
            work = start(target.bootstrap, history=history, seed=seed, kinds=workloads)
            screen.begin(work)
            course = Round(stage, work, screen).play(plan, minutes * 60)
        screen.doing("judging")
        differences = stopped_and_compared(stage, work.topics, course)
        operations = read_history(kept / "history.jsonl")
        verdict = check(operations)
        course.complaints += work.unprocessed(operations)
    result = Result(
        *(target.name, seed, minutes, course, work.counts, work.group_counts),
        *(len(operations), verdict, differences, target.shortcomings),
        version=version,
        date=date,
    )
    if report is not None:
        bands = [Band(made.name, made.begin, made.end) for made in course.made]
        write_report(report, operations, bands, verdict, title=f"chaos, {target.name}, seed {seed}, {version}")
    keep(target, kept, result)
    return result


def planned(target: Target, *, seed: int, seconds: float, faults: Sequence[str], screen: Screen) -> list[Planned]:
    """Draw the schedule and say it. Raises TargetError if a fault was asked for that this target cannot suffer."""
    for shortcoming in target.shortcomings:
        screen.say(f"NOT JUDGED: {shortcoming}")
    if target.shortcomings and os.environ.get("CI") == "true":
        raise TargetError("; ".join(target.shortcomings))
    names = schedule.possible(target.abilities)
    if impossible := sorted(set(faults) - set(names)):
        raise TargetError(f"the target {target.name} cannot suffer {', '.join(impossible)} here")
    plan = schedule.draw(seed, seconds=seconds, names=faults or names)
    screen.say(f"seed {seed}, {seconds:g} s on {target.name}; in this order, as far as the time goes:")
    for number, one in enumerate(plan, 1):
        screen.say(f"  {number}. {one}")
    return plan


def stopped_and_compared(stage: Stage, topics: Sequence[str], course: Course) -> list[str]:
    """What differs between the replicas, once their nodes have stopped; those of lost nodes do not count."""
    try:
        stage.target.stop()
    except TargetError as error:
        course.complaints.append(str(error))
    data_dirs = stage.target.data_dirs()
    living = {node: data_dirs[node] for node in stage.living}
    return compare(living, in_sync=course.in_sync_s is not None, replicas_of=dict.fromkeys(topics, len(living)))


def keep(target: Target, kept: Path, result: Result) -> None:
    """The history and the result of every round; of one that went wrong also what the nodes wrote."""
    (kept / "result.json").write_text(json.dumps(result.fields(), indent=2) + "\n")
    if result.is_clean:
        return
    target.keep(kept)


def show(result: Result, output: str) -> None:
    fields = result.fields()
    if output == "json":
        click.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        if name not in ("made", "wrong"):
            click.echo(f"{name:18} {value}")
    for sentence in result.wrong:
        click.echo(f"WRONG: {sentence}")


if __name__ == "__main__":
    main(prog_name="python -m tests.chaos")
