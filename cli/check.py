"""`quorumlog check`: judge a history of operations on any Kafka-compatible cluster."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from quorumlog.checker.analysis import check as judge
from quorumlog.checker.anomalies import MEANINGS, Anomaly, Verdict
from quorumlog.checker.excerpt import describe, excerpt
from quorumlog.checker.history import HistoryError, Operation, read_history, to_json
from quorumlog.cli.output import output_option, print_json

ANOMALIES_STATUS = 1


class BadInput(click.ClickException):
    """A history or a report that cannot be: one line on stderr, exit status 2."""

    exit_code = 2


@click.command()
@click.argument("history", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Draw the run into this .html or .png file.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=5, show_default=True, help="Anomalies to print of each kind (table)."
)
@output_option
@click.pass_context
def check(context: click.Context, history: Path, report: Path | None, limit: int, output: str) -> None:
    """Judge HISTORY, a file of JSON lines that says what clients of a cluster did and were answered.

    \b
    Exit status: 0 no anomalies, 1 anomalies, 2 the history cannot be read.
    docs/checker.md has the format, which clients of any Kafka-compatible cluster can write, and what is looked for.
    """
    try:
        operations = read_history(history)
    except (HistoryError, OSError) as error:
        raise BadInput(str(error)) from error
    verdict = judge(operations)
    if report is not None:
        _draw(report, operations, verdict, title=history.name)
    if output == "json":
        print_json(_as_json(operations, verdict))
    else:
        _print(operations, verdict, limit)
    context.exit(0 if verdict.is_clean else ANOMALIES_STATUS)


def _draw(path: Path, operations: Sequence[Operation], verdict: Verdict, title: str) -> None:
    from quorumlog.checker.report import ReportError, write_report

    try:
        write_report(path, operations, (), verdict, title=title)
    except (ReportError, OSError) as error:
        raise BadInput(str(error)) from error


def _as_json(operations: Sequence[Operation], verdict: Verdict) -> dict[str, Any]:
    return {
        "clean": verdict.is_clean,
        "operations": len(operations),
        "anomalies": [_anomaly_fields(operations, anomaly) for anomaly in verdict.anomalies],
        "allowed": [_anomaly_fields(operations, anomaly) for anomaly in verdict.allowed],
        "notes": list(verdict.notes),
    }


def _anomaly_fields(operations: Sequence[Operation], anomaly: Anomaly) -> dict[str, Any]:
    return {
        "kind": anomaly.kind,
        "key": anomaly.key,
        "message": anomaly.message,
        "operations": list(anomaly.operations),
        "excerpt": [json.loads(to_json(operation)) for _, operation in excerpt(operations, anomaly)],
    }


def _print(operations: Sequence[Operation], verdict: Verdict, limit: int) -> None:
    counts = Counter(anomaly.kind for anomaly in verdict.anomalies)
    for kind, count in counts.items():
        click.echo(f"{kind}: {count} ({MEANINGS[kind]})")
        shown = [anomaly for anomaly in verdict.anomalies if anomaly.kind == kind][:limit]
        for anomaly in shown:
            _print_anomaly(operations, anomaly)
        if count > limit:
            click.echo(f"  and {count - limit} more; --limit shows them")
        click.echo()
    for kind, count in Counter(anomaly.kind for anomaly in verdict.allowed).items():
        click.echo(f"allowed: {count} {kind} ({MEANINGS[kind]})")
    for note in verdict.notes:
        click.echo(f"note: {note}")
    processes = len({operation.process for operation in operations})
    total = counts.total()
    click.echo(
        f"{len(operations)} operations of {processes} processes: {total or 'no'} {'anomaly' if total == 1 else 'anomalies'}"
    )


def _print_anomaly(operations: Sequence[Operation], anomaly: Anomaly) -> None:
    where = f"{anomaly.key}: " if anomaly.key is not None else ""
    click.echo(f"  {where}{anomaly.message}")
    for place, operation in excerpt(operations, anomaly):
        click.echo(f"    {describe(place, operation)}")
