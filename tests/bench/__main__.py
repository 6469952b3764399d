"""Benchmarks. `python -m tests.bench` runs the workloads, a workload's name runs that one, `--help` says which there are."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from tests.bench import compaction, dedup, groups, opening, report, table, targets
from tests.bench.contestants import Site, kafka, quorumlog
from tests.bench.cores import Cores, decide, parse
from tests.bench.hot_path import hotpath_command
from tests.bench.load.records import real_lines
from tests.bench.nodes import nodes_command
from tests.bench.run import WORKLOADS, Run
from tests.bench.workloads import FULL, QUICK, Scale, yardstick

Command = Callable[..., None]

BUSY = 0.5  # load average a core
SIZES = ", ".join(f"{field.name} {field.default}" for field in fields(Scale))
OPTIONS = (
    click.option("--peer", type=click.Choice(["kafka"]), envvar="PEER", help="Measure it too, in turn with us."),
    click.option("--yardstick", envvar="YARDSTICK", help="The yardstick's script: its load on its nodes and on each cluster."),
    click.option("--quick", is_flag=True, help="A smoke run: seconds, and figures that say nothing."),
    click.option("--rounds", type=click.IntRange(1), help="How often each has its turn; of `failover`, faults of each kind."),
    click.option("--size", "sizes", multiple=True, metavar="NAME=NUMBER", help=f"How much of something: {SIZES}."),
    click.option("--directory", type=click.Path(path_type=Path), help="Where data lies; by default where temporary files do."),
    click.option("--broker-cores", help="As taskset takes them: 0,1 or 0-3."),
    click.option("--client-cores", help="As taskset takes them."),
    click.option("--write", is_flag=True, help="Append the run to docs/benchmarks.md."),
)


def with_options(command: Command) -> Command:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--only", help=f"Workloads with commas between them, of {', '.join(WORKLOADS)}.")
@with_options
@click.pass_context
def main(context: click.Context, /, only: str | None, **given: Any) -> None:
    """Measure three nodes of quorumlog on this machine, and a peer beside them.

    All workloads are run, or those named by --only. JSON and a plot go to .bench/.
    """
    if context.invoked_subcommand is None:
        names = only.split(",") if only else [name for name in WORKLOADS if name != yardstick.NAME or given["yardstick"]]
        measure(names, **given)


def measure(names: list[str], *, peer: str | None, yardstick: str | None, quick: bool, write: bool, **given: Any) -> None:
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        raise click.UsageError(f"no workload is called {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    if "yardstick" in names and not yardstick:
        raise click.UsageError("name the yardstick's script: YARDSTICK=path")
    site = _site(**given)
    contestants = [quorumlog.contestant(site), *([kafka.contestant(site)] if peer else [])]
    run = Run(site, _scale(QUICK if quick else FULL, names, **given), contestants, real_lines(), yardstick, _say)
    if run.load_before > BUSY * (os.cpu_count() or 1):
        _say(f"the machine is busy (load average {run.load_before:.1f}): what comes out says little")
    try:
        run.measure(names)
    finally:  # a run that is interrupted tells what it has found
        click.echo(f"{table.as_text(run.figures)}\n\n{targets.as_text(targets.judged(run.figures))}")
        click.echo(report.keep(run, write=write))
    if run.failures:
        raise click.ClickException("\n".join(run.failures))


def _site(directory: Path | None, broker_cores: str | None, client_cores: str | None, **_: Any) -> Site:
    cores = decide()
    brokers, clients = (parse(text) if text else None for text in (broker_cores, client_cores))
    return Site(Cores(brokers or cores.brokers, clients or cores.clients), directory or Path(tempfile.gettempdir()))


def _scale(scale: Scale, names: list[str], rounds: int | None, sizes: tuple[str, ...], **_: Any) -> Scale:
    if rounds:
        scale = replace(scale, faults=rounds) if names == ["failover"] else replace(scale, rounds=rounds)
    for size in sizes:
        scale = _sized(scale, size)
    return scale


def _sized(scale: Scale, text: str) -> Scale:
    """One of the scale's fields set, as whole a number as it is."""
    name, _, number = text.partition("=")
    try:
        changed = replace(scale, **{name: type(getattr(scale, name))(number)})
    except (AttributeError, TypeError, ValueError):
        raise click.UsageError(f"--size {text}: NAME=NUMBER, with one of {SIZES}") from None
    if getattr(changed, name) <= 0:
        raise click.UsageError(f"--size {text}: more than nothing")
    return changed


def _say(line: str) -> None:
    click.echo(line, err=True)


def _command(name: str) -> click.Command:
    """The workload of that name alone."""

    @click.command(name, help=(sys.modules[WORKLOADS[name].__module__].__doc__ or "").strip())
    @with_options
    def command(**given: Any) -> None:
        measure([name], **given)

    return command


for _name in WORKLOADS:
    main.add_command(_command(_name))
main.add_command(groups.command)
main.add_command(hotpath_command)
main.add_command(nodes_command)
main.add_command(compaction.command)
main.add_command(dedup.command)
main.add_command(opening.command)

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, which takes the clusters down
    main(prog_name="python -m tests.bench")
