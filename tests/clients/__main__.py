"""`python -m tests.clients`: the client matrix. Exits with 1 when a cell failed, or when one was not run and CI=true."""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.clients.cache import LackingError
from tests.clients.catalogue import CLIENTS
from tests.clients.driver import Client
from tests.clients.matrix import Cell, Matrix, Outcome
from tests.clients.peers import PEERS
from tests.clients.run import TOOLS, Programs, find_tools, report, run_faults, run_scenarios, run_tools

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("--only", default="", help=f"of {','.join([*CLIENTS, *TOOLS])}")
    parser.add_argument("--peer", choices=PEERS, default="quorumlog", help="the cluster that they talk to")
    parser.add_argument(
        "-k", "--scenario", default="", help="only scenarios whose title contains one of these, separated by commas"
    )
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--logs", type=Path, help="directory for what the programs say, kept")
    return parser.parse_args()


def start(programs: Programs, names: list[str], stack: ExitStack) -> tuple[list[Client], list[Cell]]:
    """The clients that this machine can run, and a cell for each that it cannot."""
    running: list[Client] = []
    lacking: list[Cell] = []
    for name in names:
        try:
            running.append(programs.start(name))
            stack.callback(running[-1].close)
        except LackingError as error:
            lacking.append(report(Cell("", "all", name, Outcome.NOT_RUN, str(error))))
    return running, lacking


def main() -> int:
    chosen = arguments()
    only = [name for name in chosen.only.split(",") if name]
    if unknown := set(only) - set(CLIENTS) - set(TOOLS):
        print(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join([*CLIENTS, *TOOLS])}", file=sys.stderr)
        return 2
    names = [name for name in CLIENTS if not only or name in only]
    tool_names = [name for name in TOOLS if not only or name in only]
    words = chosen.scenario.split(",")

    def is_chosen(title: str) -> bool:
        return any(word in title for word in words)

    with ExitStack() as stack:
        logs = chosen.logs or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs.mkdir(parents=True, exist_ok=True)
        peer = stack.enter_context(PEERS[chosen.peer]())
        programs = Programs(peer, logs)
        running, cells = start(programs, names, stack)
        versions = {client.name: client.version for client in running}
        benches, without = find_tools(peer, tool_names, versions)
        aside = stack.enter_context(ThreadPoolExecutor(1)).submit(run_tools, benches, is_chosen)
        cells += run_scenarios(programs, running, is_chosen)
        cells += without + aside.result()
        cells += run_faults(programs, running, benches, peer, is_chosen)
        bugs = peer.bugs()
    matrix = Matrix(peer.name, versions, cells)
    tables = [clients for clients in (names, *([name] for name in tool_names)) if clients]
    if chosen.output == "json":
        print(matrix.json())
    else:
        for clients in tables:
            matrix.show(clients)
    if chosen.write:
        matrix.write(PAGE, tables)
    for line in bugs:
        print(f"the cluster has logged: {line}", file=sys.stderr)
    not_run = [cell for cell in cells if cell.outcome == Outcome.NOT_RUN]
    return 1 if matrix.failed or bugs or (not_run and os.environ.get("CI") == "true") else 0


if __name__ == "__main__":
    sys.exit(main())
