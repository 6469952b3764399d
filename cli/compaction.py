"""`quorumlog topics compact`, and what `topics describe` tells of compactions: each replica compacts and tells by itself.

A compaction is asked for by a setting of the topic, which reaches every node that has a replica, also those that are down now.
"""

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    AdminClient,
    ConfigResource,
    ResourceType,
)

from quorumlog.cli.configs import alter_settings
from quorumlog.cli.kafka import REQUEST_TIMEOUT_S, admin_client, errors_in_one_line, patiently, topic_metadata
from quorumlog.cli.moves import reassigner
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option, print_rows

REQUEST = "quorumlog.compaction.request"
STATE = "quorumlog.compaction.state"
TOPIC = 2  # among the kinds of resources that have settings
LOOK_S = 0.3

States = Mapping[int, Sequence[Mapping[str, Any]]]  # node -> what it tells of each of its replicas


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Return when all replicas that can be reached have done it.")
@bootstrap_option
@output_option
def compact(name: str, wait: bool, bootstrap_servers: str, output: str) -> None:
    """Compact topic NAME now, however clean it is: all that was written until now, on every replica."""
    request = int(time.time() * 1000)
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        topic_metadata(client, name)
        policy = topic_settings(client, name)["cleanup.policy"].value
        if "compact" not in policy:
            raise click.ClickException(f"topic {name!r} is not compacted: its cleanup.policy is {policy or 'empty'}")
        alter_settings(client, ConfigResource(ResourceType.TOPIC, name), ((REQUEST, str(request)),), ())
        if not wait:
            click.echo(f"{name}: every replica compacts what it has; `quorumlog topics describe {name}` shows when it did")
            return
        states = _waited_for(name, request, bootstrap_servers)
    rows = [
        {"partition": one["partition"], "node": node, "dirty": one["dirty_ratio"], "compacted": moment(one["last_run_ms"])}
        for node, ones in states.items()
        for one in ones
    ]
    print_rows(
        sorted(rows, key=lambda row: (row["partition"], row["node"])),
        output,
        columns=("partition", "node", "dirty", "compacted"),
    )


def topic_settings(client: AdminClient, name: str) -> dict[str, Any]:
    """All settings of a topic, defaults included, as confluent_kafka tells them."""
    resource = ConfigResource(ResourceType.TOPIC, name)
    described: dict[str, Any] = patiently(
        lambda: client.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[resource].result(2 * REQUEST_TIMEOUT_S)
    )
    return described


def states_of(topic: str, bootstrap_servers: str) -> States:
    """What each node tells that answers."""
    from kafka.errors import KafkaError
    from kafka.protocol.admin import DescribeConfigsRequest

    found: dict[int, list[dict[str, Any]]] = {}
    with reassigner(bootstrap_servers) as client:

        async def ask() -> None:
            request = DescribeConfigsRequest(resources=[(TOPIC, topic, [STATE])], include_synonyms=False)
            for node in sorted(broker.node_id for broker in client._manager.cluster.brokers()):
                try:
                    answer = await client._manager.send(request, node_id=node)
                except KafkaError:
                    continue  # it is down: what it would tell nobody knows
                found[node] = [
                    one
                    for result in answer.results
                    for config in result.configs
                    if config.name == STATE
                    for one in json.loads(config.value)
                ]

        client._manager.run(ask)
    return found


def moment(wall_ms: int) -> str:
    """For people; "never" for -1."""
    return datetime.fromtimestamp(wall_ms // 1000, UTC).isoformat().replace("+00:00", "Z") if wall_ms >= 0 else "never"


def _waited_for(name: str, request: int, bootstrap_servers: str) -> States:
    while True:
        states = states_of(name, bootstrap_servers)
        if states and all(one["request_met"] == request for ones in states.values() for one in ones):
            return states
        time.sleep(LOOK_S)
