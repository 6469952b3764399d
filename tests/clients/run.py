"""Runs the scenarios: clients side by side on one cluster, then the faults, which strike all of them at once."""

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, ElectionType

from tests.clients import tool_faults, tools
from tests.clients.cache import LackingError, kafka_version
from tests.clients.catalogue import CLIENTS
from tests.clients.driver import Client, NotSupported
from tests.clients.matrix import Cell, Outcome
from tests.clients.peers import Peer
from tests.clients.scenarios import FaultScenario, Scenario, admin, faults, groups, records, transactions
from tests.clients.stage import Stage, eventually

SCENARIOS: list[Scenario] = [*records.SCENARIOS, *groups.SCENARIOS, *transactions.SCENARIOS, *admin.SCENARIOS]
FAULT_SECTION = "faults"
SIDE_BY_SIDE = 3
# name -> section, what is done, the command before a tool's name, the version
TOOLS = {
    "kafka-tools": ("Kafka's tools", tools.KAFKA_TOOLS, tools.java_command, kafka_version),
    "kcat": ("kcat", tools.KCAT, tuple, tools.kcat_version),
}
VICTIM = 2
MEETING_TIMEOUT_S = 300

Chosen = Callable[[str], bool]
_printing = threading.Lock()


def report(cell: Cell) -> Cell:
    """One line as soon as it is known; a failure with its reason."""
    if cell.outcome != Outcome.PASSED:
        with _printing:
            print(f"{cell.outcome.value}: {cell.client}: {cell.title}: {cell.text}", file=sys.stderr, flush=True)
    return cell


def judged(section: str, title: str, client: str, action: Callable[[], object]) -> Cell:
    """Perform, and say how it went."""
    started = time.monotonic()
    outcome, text = Outcome.PASSED, ""
    try:
        action()
    except NotSupported as error:
        outcome, text = Outcome.NOT_SUPPORTED, str(error)
    except Exception as error:
        outcome, text = Outcome.FAILED, f"{type(error).__name__}: {error} ({_place(error)})"
    return report(Cell(section, title, client, outcome, text[-1500:], round(time.monotonic() - started, 2)))


def _place(error: BaseException) -> str:
    """Where in the scenarios it went wrong."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "clients" in frame.filename]
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[1:4])


class Programs:
    """The running clients, and how to run another of the same kind."""

    def __init__(self, peer: Peer, logs: Path) -> None:
        self._peer = peer
        self._logs = logs

    def start(self, name: str) -> Client:
        return Client(name, CLIENTS[name](self._peer.bootstrap_servers), self._logs / f"{name}.log")

    def stage(self, client: Client) -> Stage:
        return Stage(client, self._peer, lambda: self.start(client.name))


def run_scenarios(programs: Programs, clients: Sequence[Client], chosen: Chosen) -> list[Cell]:
    def run(client: Client) -> list[Cell]:
        return [_run(programs.stage(client), scenario) for scenario in SCENARIOS if chosen(scenario.title)]

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return [cell for cells in pool.map(run, clients) for cell in cells]


def _run(stage: Stage, scenario: Scenario) -> Cell:
    def perform() -> None:
        try:
            scenario.run(stage)
        finally:
            stage.clear()

    return judged(scenario.section, scenario.title, stage.client.name, perform)


def find_tools(peer: Peer, names: Sequence[str], versions: dict[str, str]) -> tuple[dict[str, tools.Bench], list[Cell]]:
    """The tools that this machine can run, and a cell for each kind that it cannot; `versions` gets theirs."""
    benches: dict[str, tools.Bench] = {}
    lacking: list[Cell] = []
    for name in names:
        section, _, find, version = TOOLS[name]
        try:
            benches[name] = tools.Bench(peer, find())
            versions[name] = version()
        except LackingError as error:
            lacking.append(report(Cell(section, "all", name, Outcome.NOT_RUN, str(error))))
    return benches, lacking


def run_tools(benches: dict[str, tools.Bench], chosen: Chosen) -> list[Cell]:
    """Kafka's command-line tools and kcat, one program after the other."""
    return [
        judged(section, title, name, partial(work, bench))
        for name, bench in benches.items()
        for section, works in [TOOLS[name][:2]]
        for title, work in works.items()
        if chosen(title)
    ]


@dataclass(frozen=True, slots=True)
class Struck:
    """Who is at work when a node is killed."""

    client: str
    run: Callable[[], Iterator[None]]
    clear: Callable[[], None] = lambda: None


def run_faults(
    programs: Programs, clients: Sequence[Client], benches: dict[str, tools.Bench], peer: Peer, chosen: Chosen
) -> list[Cell]:
    """One kill each scenario, of one node, for all clients and tools; then the node comes back."""
    cells: list[Cell] = []
    _found_a_coordinator(peer)
    for scenario in faults.SCENARIOS:
        struck = [_struck(programs.stage(client), scenario) for client in clients]
        if scenario is faults.LEADER:
            struck += [Struck(name, partial(tool_faults.WORKS[name], bench, VICTIM)) for name, bench in benches.items()]
        if struck and chosen(scenario.title):
            cells += _strike(scenario.title, struck, peer)
    return cells


def _struck(stage: Stage, scenario: FaultScenario) -> Struck:
    return Struck(stage.client.name, partial(scenario.run, stage, VICTIM), stage.clear)


def _strike(title: str, all_struck: Sequence[Struck], peer: Peer) -> list[Cell]:
    barrier = threading.Barrier(len(all_struck) + 1)

    def run(struck: Struck) -> Cell:
        return judged(FAULT_SECTION, title, struck.client, partial(through, struck, barrier))

    with ThreadPoolExecutor(len(all_struck)) as pool:
        running = [pool.submit(run, struck) for struck in all_struck]
        barrier.wait(MEETING_TIMEOUT_S)  # all are ready to begin
        barrier.wait(MEETING_TIMEOUT_S)  # all are in the middle
        peer.kill(VICTIM)
        barrier.wait(MEETING_TIMEOUT_S)
        cells = [future.result() for future in running]
    peer.start(VICTIM)
    eventually(lambda: _restored(peer), f"node {VICTIM} is in sync again and leads what it prefers to lead", 60)
    return cells


def _found_a_coordinator(peer: Peer) -> None:
    """So that the topic of the offsets is there while all nodes live, and the victim leads its share of it."""
    group = ConsumerGroupTopicPartitions("none")
    peer.admin.list_consumer_group_offsets([group])[group.group_id].result(60)
    eventually(lambda: _restored(peer), "all nodes lead what they prefer to lead")


def _restored(peer: Peer) -> bool:
    """Ask for the preferred leaders, and look whether they lead."""
    peer.admin.elect_leaders(ElectionType.PREFERRED, None).result(30)
    topics = peer.admin.list_topics(timeout=30).topics.values()
    places = [place for topic in topics if topic.topic == "__consumer_offsets" for place in topic.partitions.values()]
    return all(len(place.isrs) == 3 and place.leader == place.replicas[0] for place in places)


def through(struck: Struck, barrier: threading.Barrier) -> None:
    """Everyone keeps all meetings, whether ready or failed: before they begin, before the kill, after it."""
    steps = struck.run()
    meetings = iter(range(3))
    try:
        try:
            next(steps)
            _meet(barrier, meetings)
            next(steps)
        finally:
            while _meet(barrier, meetings):
                pass
        next(steps, None)
    finally:
        struck.clear()


def _meet(barrier: threading.Barrier, meetings: Iterator[int]) -> bool:
    """Whether there was one more to keep."""
    due = next(meetings, None) is not None
    if due:
        barrier.wait(MEETING_TIMEOUT_S)
    return due
