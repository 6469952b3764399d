"""`quorumlog topics`: create, list, describe, change, delete and move topics."""

from collections.abc import Sequence
from typing import Any

import click
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    AdminClient,
    ConfigSource,
    NewTopic,
)

from quorumlog.cli.compaction import States, compact, moment, states_of, topic_settings
from quorumlog.cli.kafka import (
    REQUEST_TIMEOUT_S,
    admin_client,
    errors_in_one_line,
    metadata,
    patiently,
    topic_metadata,
    wait_for_leaders,
)
from quorumlog.cli.moves import elect, move, moves
from quorumlog.cli.options import assignment, bootstrap_option
from quorumlog.cli.output import output_option, print_json, print_rows
from quorumlog.cli.topic_changes import add_partitions, alter, delete_records

BROKER_DEFAULT = -1


@click.group()
def topics() -> None:
    """Create, list, describe, change, delete and move topics."""


for command in (move, moves, elect, alter, add_partitions, delete_records, compact):
    topics.add_command(command)


@topics.command()
@click.argument("name")
@click.option("--partitions", type=click.IntRange(min=1), help="[default: the cluster's]")
@click.option("--replication-factor", type=click.IntRange(min=1), help="[default: the cluster's]")
@click.option("--config", "settings", multiple=True, type=assignment, metavar="KEY=VALUE", help="Topic setting; repeatable.")
@bootstrap_option
@output_option
def create(
    name: str,
    partitions: int | None,
    replication_factor: int | None,
    settings: tuple[tuple[str, str], ...],
    bootstrap_servers: str,
    output: str,
) -> None:
    """Create topic NAME and wait until every partition has a leader."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        new_topic = NewTopic(name, partitions or BROKER_DEFAULT, replication_factor or BROKER_DEFAULT, config=dict(settings))
        create_topic(client, new_topic)
        created = wait_for_leaders(client, name)
    if output == "json":
        print_json(_describe(name, created, {}))
    else:
        click.echo(f"created {name}: {len(created.partitions)} partitions")


def create_topic(client: AdminClient, topic: NewTopic) -> None:
    """Create a topic, patiently. An attempt whose answer was lost may have made it: then it is ours. Raises KafkaException."""
    attempts = 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        try:
            client.create_topics([topic], request_timeout=REQUEST_TIMEOUT_S)[topic.topic].result(timeout=2 * REQUEST_TIMEOUT_S)
        except KafkaException as error:
            if attempts == 1 or error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    patiently(attempt)


@topics.command("list")
@bootstrap_option
@output_option
def list_topics(bootstrap_servers: str, output: str) -> None:
    """List the topics of the cluster."""
    with errors_in_one_line(bootstrap_servers):
        found = metadata(admin_client(bootstrap_servers)).topics
    rows = [_summary(name, found[name]) for name in sorted(found)]
    print_rows(rows, output, columns=("name", "partitions", "replication_factor", "under_replicated", "leaderless"))


def _summary(name: str, topic: Any) -> dict[str, Any]:
    partitions = topic.partitions.values()
    return {
        "name": name,
        "partitions": len(partitions),
        "replication_factor": max((len(partition.replicas) for partition in partitions), default=0),
        "under_replicated": sum(len(partition.isrs) < len(partition.replicas) for partition in partitions),
        "leaderless": sum(partition.leader < 0 for partition in partitions),
    }


@topics.command()
@click.argument("name")
@bootstrap_option
@output_option
def describe(name: str, bootstrap_servers: str, output: str) -> None:
    """Show the partitions of topic NAME, and the settings that were made for it.

    Of a compacted topic also how much of each partition is not compacted yet, and when it last was, on its leader (on each node
    with --output json).
    """
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        topic, described = topic_metadata(client, name), topic_settings(client, name)
        description = _describe(name, topic, _own(described))
        is_compacted = "compact" in described["cleanup.policy"].value
        if is_compacted:
            _add_compactions(description["partitions"], states_of(name, bootstrap_servers))
    if output == "json":
        print_json(description)
        return
    settings = " ".join(f"{key}={value}" for key, value in description["config"].items())
    click.echo(f"{name}: {len(description['partitions'])} partitions{', ' * bool(settings)}{settings}")
    compactions = ("dirty", "compacted") if is_compacted else ()
    print_rows(description["partitions"], output, columns=("partition", "leader", "replicas", "in_sync", *compactions))


def _describe(name: str, topic: Any, settings: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "config": settings, "partitions": partition_rows(topic)}


def partition_rows(topic: Any) -> list[dict[str, Any]]:
    """Leader (None if there is none), replicas and in-sync set of each partition."""
    partitions: Sequence[Any] = [topic.partitions[number] for number in sorted(topic.partitions)]
    return [
        {
            "partition": partition.id,
            "leader": partition.leader if partition.leader >= 0 else None,
            "replicas": list(partition.replicas),
            "in_sync": sorted(partition.isrs),
        }
        for partition in partitions
    ]


def _add_compactions(partitions: Sequence[dict[str, Any]], states: States) -> None:
    for row in partitions:
        told = {node: one for node, ones in states.items() for one in ones if one["partition"] == row["partition"]}
        at_leader = told.get(row["leader"])
        row["dirty"] = at_leader["dirty_ratio"] if at_leader else None
        row["compacted"] = moment(at_leader["last_run_ms"]) if at_leader else None
        row["compactions"] = [
            {"node": node, "dirty_ratio": one["dirty_ratio"], "last_run_ms": one["last_run_ms"]} for node, one in told.items()
        ]


def _own(settings: dict[str, Any]) -> dict[str, str]:
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {key: entry.value for key, entry in sorted(settings.items()) if entry.source == own}


@topics.command()
@click.argument("name")
@bootstrap_option
def delete(name: str, bootstrap_servers: str) -> None:
    """Delete topic NAME with all its records."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        patiently(lambda: client.delete_topics([name], request_timeout=REQUEST_TIMEOUT_S)[name].result(2 * REQUEST_TIMEOUT_S))
    click.echo(f"deleted {name}")
