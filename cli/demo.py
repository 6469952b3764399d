"""`quorumlog demo`: three nodes, a stream of orders, a kill -9 in the middle, and the count of what was lost: 0."""

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # not exported as mypy wants it
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from quorumlog.cli import kafka
from quorumlog.cli.order_check import ReadBackError, Verdict, read_back
from quorumlog.cli.order_stream import PRODUCER_COUNT, OrderStream
from quorumlog.cli.orders import OrdersError, count_orders_in, made_up_orders, orders_in
from quorumlog.cli.stopping import StopRequested, StopSignals
from quorumlog.cli.topics import create_topic, partition_rows
from quorumlog.host.local_cluster import LocalProcesses
from quorumlog.host.local_layout import LocalClusterError, ReservedPorts

TOPIC = "orders"
NODE_COUNT = 3
PARTITION_COUNT = 6
DEFAULT_RECORDS = 60_000
STREAM_S = 20.0  # how long the orders take when nothing slows them down
KILL_AT = 0.35  # of the orders
RETURN_AT = 0.65
STEP_TIMEOUT_S = 90.0
LOOK_S = 0.1


class DemoError(Exception):
    """Something did not happen that had to."""


@click.command()
@click.option("--events", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A CSV file with a CustomerID.")
@click.option("--records", type=click.IntRange(min=1000), help=f"[default: {DEFAULT_RECORDS}, or the file's]")
def demo(events: Path | None, records: int | None) -> None:
    """Three nodes, a stream of orders, and a kill -9 in the middle: nothing acknowledged is lost, doubled or out of order."""
    try:
        total = min(count_orders_in(events), records or sys.maxsize) if events else records or DEFAULT_RECORDS
    except OrdersError as error:
        raise click.BadParameter(str(error), param_hint="--events") from error
    directory = Path(tempfile.mkdtemp(prefix="quorumlog-demo-"))
    try:
        with StopSignals() as signals:
            is_good = Story(directory, events, total, signals).tell()
    except (DemoError, ReadBackError, LocalClusterError, KafkaException, click.ClickException) as error:
        click.echo(f"The demo failed: {error}", err=True)
        is_good = False
    except StopRequested:
        shutil.rmtree(directory, ignore_errors=True)
        click.echo("stopped", err=True)
        sys.exit(1)
    if not is_good:
        click.echo(f"The nodes' logs and data are in {directory}", err=True)
        sys.exit(1)
    shutil.rmtree(directory, ignore_errors=True)


class Story:
    """One run, told as it happens."""

    def __init__(self, directory: Path, events: Path | None, total: int, signals: StopSignals) -> None:
        self._console = Console(highlight=False)
        self._began_s = time.monotonic()
        self._processes = LocalProcesses(directory, die_with_parent=True, on_wait=signals.check)
        self._signals = signals
        self._events = events
        self._total = total
        self._ports = ReservedPorts(NODE_COUNT)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self._console, transient=True
        )
        self._task = self._progress.add_task("orders acknowledged", total=total)

    def tell(self) -> bool:
        """The whole story; True if all is as promised. No process is left behind."""
        try:
            self._start_cluster()
            stream = self._start_orders()
            try:
                with self._progress_of():
                    victim = self._lose_the_busiest_node(stream)
                    self._bring_back(victim, stream)
                    self._await_last_acknowledgment(stream)
            finally:
                stream.abort()
            return self._judge(stream)
        finally:
            self._processes.kill_all()
            self._ports.release()

    # The chapters

    def _start_cluster(self) -> None:
        began_s = time.monotonic()
        self._processes.up(node_count=NODE_COUNT, base_port=self._ports.base_port, timeout_s=STEP_TIMEOUT_S)
        self._say(f"[bold]{NODE_COUNT} nodes[/] are ready after {time.monotonic() - began_s:.1f} s: {self._bootstrap}")
        self._admin: AdminClient = kafka.admin_client(self._bootstrap)
        create_topic(self._admin, NewTopic(TOPIC, PARTITION_COUNT, NODE_COUNT, config={"min.insync.replicas": "2"}))
        kafka.wait_for_leaders(self._admin, TOPIC)
        self._say(f"topic [bold]{TOPIC}[/]: {PARTITION_COUNT} partitions on {NODE_COUNT} nodes each, min.insync.replicas=2")
        self._show_leaders()

    def _start_orders(self) -> OrderStream:
        orders = orders_in(self._events, self._total) if self._events else made_up_orders(self._total)
        stream = OrderStream(self._bootstrap, TOPIC, orders, pace=self._total / STREAM_S)
        source = f"from {self._events.name}" if self._events else "made up"
        how = f"keyed by customer, through {PRODUCER_COUNT} producers: acks=all, idempotent"
        self._say(f"{self._total:,} orders ({source}), {how}")
        stream.start()
        return stream

    def _lose_the_busiest_node(self, stream: OrderStream) -> int:
        self._wait(stream, lambda: stream.sent >= KILL_AT * self._total, "orders to flow")
        led = self._led_partitions()
        victim = Counter(led.values()).most_common(1)[0][0]
        partitions = sorted(number for number, leader in led.items() if leader == victim)
        fail_over = stream.watch_fail_over(partitions)
        self._processes.signal(victim, signal.SIGKILL)
        self._say(f"[bold red]kill -9 node {victim}[/], the leader of partitions {_listed(partitions)}")
        self._wait(stream, lambda: not fail_over.pending, f"partitions {_listed(partitions)} to take orders again")
        slowest = max(fail_over.took_s.values())
        self._say(f"[bold green]all partitions take orders again[/] {slowest:.2f} s after the kill, on two nodes")
        self._show_leaders()
        return victim

    def _bring_back(self, victim: int, stream: OrderStream) -> None:
        self._wait(stream, lambda: stream.sent >= RETURN_AT * self._total, "more orders")
        began_s = time.monotonic()
        self._processes.start(victim, timeout_s=STEP_TIMEOUT_S)
        self._say(f"node {victim} is [bold]back[/] and ready after {time.monotonic() - began_s:.1f} s; it has to catch up")
        self._wait(stream, self._is_all_in_sync, f"node {victim} to catch up", must_run=False)
        self._say(f"[bold green]node {victim} is in sync[/] on all partitions {time.monotonic() - began_s:.1f} s after its start")

    def _await_last_acknowledgment(self, stream: OrderStream) -> None:
        self._wait(stream, lambda: not stream.is_running, "the last acknowledgments", must_run=False)
        stream.check()
        self._say(f"{stream.sent:,} orders sent, {stream.acknowledged:,} acknowledged, {stream.failed:,} refused")
        waits = ", ".join(f"{wait.longest_s:.2f} s" for wait in stream.waits)
        self._say(f"longest time without an acknowledgment, per producer: {waits}")
        self._show_leaders()

    def _judge(self, stream: OrderStream) -> bool:
        self._say("reading everything back")
        verdict = read_back(self._bootstrap, TOPIC, stream.ledger, self._signals.check)
        unanswered = stream.sent - stream.acknowledged
        self._say(f"{verdict.read:,} records read")
        self._show_verdict(verdict, unanswered)
        if stream.first_error is not None:
            self._say(f"first error of a producer: {stream.first_error.str()}")
        return verdict.is_good and unanswered == 0

    # Helpers

    @property
    def _bootstrap(self) -> str:
        return self._processes.bootstrap_servers

    def _led_partitions(self) -> dict[int, int]:
        rows = partition_rows(kafka.topic_metadata(self._admin, TOPIC))
        return {row["partition"]: row["leader"] for row in rows if row["leader"] is not None}

    def _is_all_in_sync(self) -> bool:
        rows = partition_rows(kafka.topic_metadata(self._admin, TOPIC))
        return all(len(row["in_sync"]) == NODE_COUNT for row in rows)

    def _wait(self, stream: OrderStream, is_done: Callable[[], bool], what: str, *, must_run: bool = True) -> None:
        """Look again and again. Raises DemoError after STEP_TIMEOUT_S, or if the stream ended although it `must_run`."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while not is_done():
            self._signals.check()
            stream.check()
            if must_run and not stream.is_running:
                raise DemoError(f"the orders ended while waiting for {what}")
            if time.monotonic() > deadline:
                raise DemoError(f"waited {STEP_TIMEOUT_S:g} s in vain for {what}")
            self._progress.update(self._task, completed=stream.acknowledged)
            time.sleep(LOOK_S)

    @contextlib.contextmanager
    def _progress_of(self) -> Iterator[None]:
        """A bar of acknowledged orders, where someone watches."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began_s:5.1f} s[/]  {text}", soft_wrap=True)

    def _show_leaders(self) -> None:
        rows = partition_rows(kafka.topic_metadata(self._admin, TOPIC))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("partition")
        for row in rows:
            table.add_column(str(row["partition"]), justify="right")
        table.add_row("leader", *(_node_name(row["leader"]) for row in rows))
        table.add_row("in sync", *(",".join(map(str, row["in_sync"])) for row in rows))
        self._console.print(Padding(table, (0, 0, 0, 9)))

    def _show_verdict(self, verdict: Verdict, unanswered: int) -> None:
        counts = {"lost": verdict.lost, "twice": verdict.twice, "out of order": verdict.out_of_order}
        # The rest is told only when it happened.
        counts |= {name: count for name, count in (("altered", verdict.altered), ("unanswered", unanswered)) if count}
        style = "bold red" if any(counts.values()) else "bold green"
        self._say(f"[{style}]{', '.join(f'{name}: {count:,}' for name, count in counts.items())}[/]")


def _node_name(node_id: int | None) -> str:
    return "none" if node_id is None else f"node {node_id}"


def _listed(numbers: Sequence[int]) -> str:
    """1, 2 and 3."""
    *others, last = [str(number) for number in numbers]
    return f"{', '.join(others)} and {last}" if others else last
