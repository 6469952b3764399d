"""The results as a table: on the screen, as JSON, and in docs/compatibility.md."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.table import Table


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_SUPPORTED = "not supported"  # by the client
    NOT_RUN = "NOT RUN"


@dataclass(frozen=True, slots=True)
class Cell:
    section: str
    title: str
    client: str
    outcome: Outcome
    text: str = ""
    seconds: float = 0.0


SIGNS = {Outcome.PASSED: "passed", Outcome.FAILED: "**failed**", Outcome.NOT_SUPPORTED: "–", Outcome.NOT_RUN: "NOT RUN"}
COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.NOT_SUPPORTED: "dim", Outcome.NOT_RUN: "yellow"}
WIDTH = 150  # where there is no terminal
BEGIN, END = "<!-- written by `make clients ARGS=--write`: do not edit -->\n", "<!-- end -->\n"


@dataclass(slots=True)
class Matrix:
    """Cells by row and client. `versions` names the clients in the order of the columns."""

    peer: str
    versions: dict[str, str]
    cells: list[Cell]

    @property
    def failed(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.outcome == Outcome.FAILED]

    def rows(self, clients: Sequence[str]) -> list[tuple[str, str, dict[str, Cell]]]:
        found: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            if cell.client in clients:
                found.setdefault((cell.section, cell.title), {})[cell.client] = cell
        sections = list(dict.fromkeys(section for section, _ in found))
        return [(section, title, found[section, title]) for part in sections for section, title in found if section == part]

    def show(self, clients: Sequence[str]) -> None:
        table = Table("", "", *(f"{client}\n{self.versions.get(client, '')}" for client in clients), title=self.peer)
        last = ""
        for section, title, cells in self.rows(clients):
            table.add_row(section if section != last else "", title, *(_coloured(cells.get(client)) for client in clients))
            last = section
        console = Console()
        (console if console.is_terminal else Console(width=WIDTH)).print(table)

    def markdown(self, clients: Sequence[str]) -> str:
        head = ["", *(f"{client} {self.versions.get(client, '')}".strip() for client in clients)]
        lines = [_line(head), _line([":--", *(":-:" for _ in clients)])]
        last = ""
        for section, title, cells in self.rows(clients):
            if section != last:
                lines.append(_line([f"**{section}**", *("" for _ in clients)]))
            lines.append(_line([title, *(SIGNS[cells[client].outcome] if client in cells else "" for client in clients)]))
            last = section
        return "\n".join(lines) + "\n"

    def write(self, page: Path, tables: Sequence[Sequence[str]]) -> None:
        """Put the tables between the page's two marks."""
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        page.write_text(before + BEGIN + "".join("\n" + self.markdown(clients) for clients in tables) + "\n" + END + after)

    def json(self) -> str:
        cells = [asdict(cell) for cell in self.cells]
        return json.dumps({"peer": self.peer, "versions": self.versions, "cells": cells}, indent=1)


def _coloured(cell: Cell | None) -> str:
    return "" if cell is None else f"[{COLOURS[cell.outcome]}]{cell.outcome.value}[/]"


def _line(words: Iterable[str]) -> str:
    return "| " + " | ".join(words) + " |"
