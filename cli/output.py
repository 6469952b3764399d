"""What a command prints: the same rows as a table for people or as JSON for programs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

output_option = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="For people or for programs."
)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Mapping[str, Any]], output: str, columns: Sequence[str], title: str | None = None) -> None:
    """Rows as JSON with all their fields, or as a table of the named columns."""
    if output == "json":
        print_json(list(rows))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console = Console(highlight=False, markup=False, soft_wrap=False)
    # A pipe has no width: let every line be as long as its content.
    Console(highlight=False, markup=False, width=console.width if console.is_terminal else 1000).print(table)


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
