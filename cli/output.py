"""What a command prints: the same rows as a table for people or as JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

PIPE_WIDTH = 10_000

output_option = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="For people or for programs."
)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, Any]], output: str, columns: Sequence[str]) -> None:
    """Rows as JSON with all their fields, or as a table of the named columns."""
    if output == "json":
        print_json(list(rows))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    # A pipe has no width: there every line is as long as its content.
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case dict():
            return " ".join(f"{key}={item}" for key, item in value.items())
        case _:
            return str(value)
