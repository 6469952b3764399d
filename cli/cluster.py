"""`quorumlog cluster`: how the cluster is."""

from typing import Any

import click

from quorumlog.cli.kafka import admin_client, errors_in_one_line, metadata
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option, print_json, print_rows


@click.group()
def cluster() -> None:
    """Look at a running cluster."""


@cluster.command()
@bootstrap_option
@output_option
def status(bootstrap_servers: str, output: str) -> None:
    """Show the nodes, what each leads and holds, and which partitions are not whole."""
    with errors_in_one_line(bootstrap_servers):
        summary = summarize(metadata(admin_client(bootstrap_servers)))
    if output == "json":
        print_json(summary)
        return
    click.echo(f"cluster {summary['cluster_id']}, controller {summary['controller']}, {summary['topics']} topics")
    print_rows(summary["nodes"], output, columns=("id", "address", "leads", "replicas", "in_sync"))
    click.echo(
        f"partitions: {summary['partitions']}, of these under-replicated {summary['under_replicated']}, "
        f"without a leader {summary['leaderless']}"
    )


def summarize(found: Any) -> dict[str, Any]:
    """The whole cluster in numbers, from confluent_kafka's ClusterMetadata."""
    partitions = [partition for topic in found.topics.values() for partition in topic.partitions.values()]
    return {
        "cluster_id": found.cluster_id,
        "controller": found.controller_id if found.controller_id >= 0 else None,
        "topics": len(found.topics),
        "partitions": len(partitions),
        "under_replicated": sum(len(partition.isrs) < len(partition.replicas) for partition in partitions),
        "leaderless": sum(partition.leader < 0 for partition in partitions),
        "nodes": [_node_row(found.brokers[node_id], partitions) for node_id in sorted(found.brokers)],
    }


def _node_row(broker: Any, partitions: list[Any]) -> dict[str, Any]:
    return {
        "id": broker.id,
        "address": f"{broker.host}:{broker.port}",
        "leads": sum(partition.leader == broker.id for partition in partitions),
        "replicas": sum(broker.id in partition.replicas for partition in partitions),
        "in_sync": sum(broker.id in partition.isrs for partition in partitions),
    }
