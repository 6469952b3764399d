"""`quorumlog transactions`: which are under way, and which hang on a partition though nobody will ever end them.

A transaction hangs when a partition holds it open and its coordinator knows nothing of that: readers of committed records wait
for it for ever. The calls are in kafka-python (KIP-664); they are those of `kafka-transactions`.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click

from quorumlog.cli.moves import Target, reassigner, topic_partitions
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option, print_json, print_rows

MAX_TIMEOUT_MS = 900_000  # transaction.max.timeout.ms, where nobody has changed it
PATIENCE_MS = 300_000  # on top of it, as Kafka's tool has it: for the coordinator to abort it, and for clocks
LIST_COLUMNS = ("transactional_id", "producer_id", "state", "coordinator")
HANGING_COLUMNS = ("topic", "partition", "producer_id", "producer_epoch", "start_offset", "idle_s")
STATES = ("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "PrepareEpochFence", "Dead")

Row = dict[str, Any]


@click.group()
def transactions() -> None:
    """Look at transactions, and abort those that hang."""


@transactions.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those; repeatable.")
@click.option("--producer-id", "producer_ids", multiple=True, type=int, help="Only those; repeatable.")
@click.option("--longer-than", type=click.IntRange(min=0), metavar="SECONDS", help="Only those that began so long ago.")
@bootstrap_option
@output_option
def list_transactions(
    states: Sequence[str], producer_ids: Sequence[int], longer_than: int | None, bootstrap_servers: str, output: str
) -> None:
    """List the transactional ids of the cluster, and how their transactions stand."""
    with reassigner(bootstrap_servers) as client:
        rows = _listed(client, states, producer_ids, -1 if longer_than is None else 1000 * longer_than)
    print_rows(rows, output, columns=LIST_COLUMNS)


@transactions.command()
@click.argument("transactional_id")
@bootstrap_option
@output_option
def describe(transactional_id: str, bootstrap_servers: str, output: str) -> None:
    """Show the transaction of TRANSACTIONAL_ID, and which partitions take part in it."""
    from kafka.errors import TransactionalIdNotFoundError

    with reassigner(bootstrap_servers) as client:
        try:
            found = client.describe_transactions([transactional_id])[transactional_id]
        except TransactionalIdNotFoundError:
            raise click.ClickException(f"there is no transactional id {transactional_id!r}") from None
    row = {
        "transactional_id": transactional_id,
        "state": found.state.value,
        "producer_id": found.producer_id,
        "producer_epoch": found.producer_epoch,
        "coordinator": found.coordinator_id,
        "timeout_s": found.transaction_timeout_ms / 1000,
        "began_s_ago": _seconds_since(found.transaction_start_time_ms),
        "partitions": [f"{topic}:{number}" for topic, number in sorted(found.topic_partitions)],
    }
    if output == "json":
        print_json(row)
    else:
        print_rows([row], output, columns=list(row))


@transactions.command("find-hanging")
@click.option("--topic", "targets", type=topic_partitions, multiple=True, metavar="TOPIC[:PARTITION,...]", help="Repeatable.")
@click.option(
    "--max-timeout-ms",
    type=click.IntRange(min=0),
    default=MAX_TIMEOUT_MS,
    show_default=True,
    help="transaction.max.timeout.ms of the cluster: what is younger than that and five minutes is not looked at.",
)
@bootstrap_option
@output_option
def find_hanging(targets: Sequence[Target], max_timeout_ms: int, bootstrap_servers: str, output: str) -> None:
    """Find transactions that partitions hold open, and no coordinator knows of. Of all topics, or some."""
    idle_ms = max_timeout_ms + PATIENCE_MS if max_timeout_ms else 0
    with reassigner(bootstrap_servers) as client:
        rows = [row for row in _open(client, _places(client, targets)) if row["idle_s"] * 1000 >= idle_ms]
        known = _taking_part(client, {row["producer_id"] for row in rows}) if rows else {}
    hanging = [row for row in rows if (row["topic"], row["partition"]) not in known.get(row["producer_id"], ())]
    print_rows(hanging, output, columns=HANGING_COLUMNS)


@transactions.command()
@click.argument("target", type=topic_partitions, metavar="TOPIC:PARTITION")
@click.option(
    "--start-offset", type=click.IntRange(min=0), required=True, help="Where the transaction begins, as find-hanging says."
)
@bootstrap_option
def abort(target: Target, start_offset: int, bootstrap_servers: str) -> None:
    """Abort the transaction that begins at an offset of one partition, there alone."""
    from kafka import TopicPartition
    from kafka.admin._transactions import AbortTransactionSpec

    topic, numbers = target
    if len(numbers) != 1:
        raise click.BadParameter("expected TOPIC:PARTITION")
    with reassigner(bootstrap_servers) as client:
        rows = [row for row in _open(client, [(topic, numbers[0])]) if row["start_offset"] == start_offset]
        if not rows:
            raise click.ClickException(f"no transaction that begins at offset {start_offset} is open on {topic}:{numbers[0]}")
        row = rows[0]
        client.abort_transaction(
            AbortTransactionSpec(
                TopicPartition(topic, numbers[0]), row["producer_id"], row["producer_epoch"], row["coordinator_epoch"]
            )
        )
    click.echo(f"aborted the transaction of producer {row['producer_id']} on {topic}:{numbers[0]}")


def _listed(client: Any, states: Sequence[str], producer_ids: Iterable[int], longer_ms: int) -> list[Row]:
    found = client.list_transactions(
        state_filters=list(states), producer_id_filters=list(producer_ids), duration_filter_ms=longer_ms
    )
    rows = [
        {
            "transactional_id": one.transactional_id,
            "producer_id": one.producer_id,
            "state": one.state.value,
            "coordinator": node_id,
        }
        for node_id, ones in found.items()
        for one in ones
    ]
    return sorted(rows, key=lambda row: str(row["transactional_id"]))


def _places(client: Any, targets: Sequence[Target]) -> list[tuple[str, int]]:
    held = {topic["name"]: topic for topic in client.describe_topics()}
    wanted = targets or [(topic, ()) for topic in sorted(held)]
    places = []
    for topic, numbers in wanted:
        if topic not in held:
            raise click.ClickException(f"there is no topic {topic!r}")
        there = sorted(partition["partition_index"] for partition in held[topic]["partitions"])
        places += [(topic, number) for number in numbers or there]
    return places


def _open(client: Any, places: Sequence[tuple[str, int]]) -> list[Row]:
    """The transactions that these partitions hold open."""
    from kafka import TopicPartition

    found = client.describe_producers([TopicPartition(*place) for place in places])
    return [
        {
            "topic": place.topic,
            "partition": place.partition,
            "producer_id": one.producer_id,
            "producer_epoch": one.producer_epoch,
            "coordinator_epoch": max(0, one.coordinator_epoch),
            "start_offset": one.current_transaction_start_offset,
            "idle_s": _seconds_since(one.last_timestamp),
        }
        for place, state in sorted(found.items())
        for one in state.active_producers
        if one.current_transaction_start_offset >= 0
    ]


def _taking_part(client: Any, producer_ids: Iterable[int]) -> dict[int, set[tuple[str, int]]]:
    """By producer, the partitions that take part in what its coordinator knows to be under way."""
    names = [row["transactional_id"] for row in _listed(client, (), sorted(producer_ids), -1)]
    described = client.describe_transactions(names) if names else {}
    return {one.producer_id: {(topic, number) for topic, number in one.topic_partitions} for one in described.values()}


def _seconds_since(timestamp_ms: int) -> int:
    return max(0, int(time.time() - timestamp_ms / 1000)) if timestamp_ms >= 0 else 0
