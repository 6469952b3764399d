"""`quorumlog topics move | moves | elect`: where partitions live and who leads them.

Kafka's calls for reassignment and elections are in kafka-python, the rest in confluent_kafka. `--throttle` sets what
kafka-reassign-partitions would, so either tool can go on where the other stopped.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from quorumlog.cli.kafka import REQUEST_TIMEOUT_S, admin_client, errors_in_one_line, metadata, patiently, topic_metadata
from quorumlog.cli.options import bootstrap_option, node_ids
from quorumlog.cli.output import output_option, print_rows

SIDES = ("leader", "follower")
PREFERRED, UNCLEAN = 0, 1
LOOK_S = 0.5
BAR_WIDTH = 20
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

Target = tuple[str, tuple[int, ...]]  # a topic, and partitions of it; none are all
Assignment = dict[int, list[int]]  # partition -> replicas


# --- what is given on the command line


def topic_partitions(text: str) -> Target:
    """TOPIC or TOPIC:0,3, for `type=`."""
    topic, colon, numbers = text.partition(":")
    try:
        partitions = tuple(sorted({int(number) for number in numbers.split(",")})) if colon else ()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not TOPIC or TOPIC:PARTITION[,...]") from None
    if not topic or any(partition < 0 for partition in partitions):
        raise click.BadParameter(f"{text!r} is not TOPIC or TOPIC:PARTITION[,...]")
    return topic, partitions


def rate(text: str) -> int:
    """Bytes a second, for `type=`: 500000, 10MB/s, 4MiB."""
    words = text.strip().lower().removesuffix("/s")
    digits = words.rstrip("bgikm")
    factor = UNITS.get(words[len(digits) :].strip() or "b")
    if factor is None or not digits.strip().isdecimal() or not int(digits) * factor:
        raise click.BadParameter(f"{text!r} is no rate such as 500000, 10MB/s or 4MiB/s; the least is 1 byte a second")
    return int(digits) * factor


def spread(nodes: Sequence[int], partitions: Sequence[int]) -> Assignment:
    """The nodes for each partition; of several partitions each begins with the next node, so that not one leads them all."""
    if len(partitions) == 1:
        return {partitions[0]: list(nodes)}
    return {number: [*nodes[number % len(nodes) :], *nodes[: number % len(nodes)]] for number in partitions}


# --- commands


@click.command()
@click.argument("target", type=topic_partitions, metavar="TOPIC[:PARTITION,...]")
@click.option("--to", "nodes", type=node_ids, metavar="NODE,...", help="Where the replicas are to be; the first is to lead.")
@click.option("--throttle", type=rate, metavar="RATE", help="At most so much is copied by and to each node, such as 10MB/s.")
@click.option("--cancel", is_flag=True, help="Take back the moves that are under way.")
@click.option("--wait", is_flag=True, help="Return when the partitions have moved, and lift the throttle.")
@bootstrap_option
def move(target: Target, nodes: list[int] | None, throttle: int | None, cancel: bool, wait: bool, bootstrap_servers: str) -> None:
    """Move partitions to other nodes while they are written and read. Of several partitions each begins with the next node.

    A throttle stays until --wait, --cancel or `topics moves --lift-throttles` lifts it.
    """
    if cancel == (nodes is not None) or (cancel and (throttle or wait)):
        raise click.UsageError("give either --to NODE,... (with --throttle, --wait), or --cancel")
    topic, chosen = target
    with errors_in_one_line(bootstrap_servers), reassigner(bootstrap_servers) as client:
        admin = admin_client(bootstrap_servers)
        held = _replicas_of(admin, topic, chosen)
        if nodes is None:
            _cancel(client, admin, topic, sorted(held))
            return
        wanted = spread(nodes, sorted(held))
        if throttle is not None:
            _set_throttle(admin, topic, held, wanted, throttle)
        _alter(client, topic, wanted)
        for number, replicas in wanted.items():
            click.echo(f"{topic}-{number}: {_listed(held[number])} -> {_listed(replicas)}")
        if wait:
            _wait(client, topic, list(wanted))
            _lift_throttle(admin, [topic])


@click.command()
@click.option("--lift-throttles", is_flag=True, help="Take the throttle from every topic that does not move any more.")
@bootstrap_option
@output_option
def moves(lift_throttles: bool, bootstrap_servers: str, output: str) -> None:
    """List the partitions that are being moved, and how much of them is copied."""
    with errors_in_one_line(bootstrap_servers), reassigner(bootstrap_servers) as client:
        rows = _progress(client)
        print_rows(rows, output, columns=("partition", "from", "to", "copied"))
        if lift_throttles:
            admin = admin_client(bootstrap_servers)
            still = {row["topic"] for row in rows}
            _lift_throttle(admin, sorted(name for name in metadata(admin).topics if name not in still), rates_too=not still)


@click.command()
@click.argument("target", type=topic_partitions, metavar="[TOPIC[:PARTITION,...]]", required=False)
@click.option("--unclean", is_flag=True, help="Elect any live replica where there is no leader. LOSES RECORDS.")
@bootstrap_option
@output_option
def elect(target: Target | None, unclean: bool, bootstrap_servers: str, output: str) -> None:
    """Give leadership to the preferred replicas of a topic, or of all."""
    with errors_in_one_line(bootstrap_servers), reassigner(bootstrap_servers) as client:
        chosen = None
        if target is not None:
            chosen = {target[0]: sorted(_replicas_of(admin_client(bootstrap_servers), *target))}
        answer = client.elect_leaders(UNCLEAN if unclean else PREFERRED, chosen, raise_errors=False)
    rows = [
        {
            "partition": f"{topic.topic}-{one.partition_id}",
            "result": "elected" if one.error_code == 0 else one.error_message or f"error {one.error_code}",
        }
        for topic in answer.replica_election_results
        for one in topic.partition_result
    ]
    print_rows(rows, output, columns=("partition", "result"))


# --- moving


@contextlib.contextmanager
def reassigner(bootstrap_servers: str) -> Iterator[Any]:
    """kafka-python's KafkaAdminClient; its errors become one line."""
    import kafka
    from kafka.errors import KafkaError, KafkaTimeoutError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it would print of each connection that it loses
    timeout_ms = int(1000 * REQUEST_TIMEOUT_S)
    try:
        client = kafka.KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","), client_id="quorumlog-cli", bootstrap_timeout_ms=timeout_ms
        )
    except KafkaTimeoutError:
        raise click.ClickException(f"no node answers at {bootstrap_servers}") from None
    with contextlib.closing(client):
        try:
            yield client
        except KafkaError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error


def _replicas_of(admin: AdminClient, topic: str, chosen: Sequence[int]) -> Assignment:
    """The replicas of the chosen partitions, or of all."""
    held = {number: list(one.replicas) for number, one in topic_metadata(admin, topic).partitions.items()}
    missing = [number for number in chosen if number not in held]
    if missing:
        raise click.ClickException(f"topic {topic!r} has no partition {missing[0]}; it has {len(held)}")
    return {number: held[number] for number in chosen or sorted(held)}


def _alter(client: Any, topic: str, wanted: Mapping[int, list[int] | None]) -> None:
    from kafka import TopicPartition as Partition

    results = client.alter_partition_reassignments({Partition(topic, number): nodes for number, nodes in wanted.items()})
    refused = [f"{one.topic}-{one.partition}: {error.message}" for one, error in results.items() if error is not None]
    if refused:
        raise click.ClickException("; ".join(refused))


def _cancel(client: Any, admin: AdminClient, topic: str, partitions: Sequence[int]) -> None:
    under_way = {one.partition for one in client.list_partition_reassignments({topic: list(partitions)})}
    if not under_way:
        raise click.ClickException(f"nothing of {topic} is being moved")
    _alter(client, topic, dict.fromkeys(sorted(under_way)))
    _lift_throttle(admin, [topic])
    for number in sorted(under_way):
        click.echo(f"{topic}-{number}: stays where it was")


def _wait(client: Any, topic: str, partitions: Sequence[int]) -> None:
    with click.progressbar(length=1000, label=f"moving {topic}", show_eta=False) as bar:
        while rows := _progress(client, {topic: list(partitions)}):
            copied = sum(row["share"] for row in rows) + len(partitions) - len(rows)
            bar.update(max(0, int(1000 * copied / len(partitions)) - bar.pos))
            time.sleep(LOOK_S)
        bar.update(1000 - bar.pos)


def _progress(client: Any, topics: Mapping[str, list[int]] | None = None) -> list[dict[str, Any]]:
    under_way = client.list_partition_reassignments(topics)
    sizes = _sizes(client, under_way)
    rows = []
    for one in sorted(under_way, key=lambda one: (one.topic, one.partition)):
        adding, removing = under_way[one]["adding_replicas"], under_way[one]["removing_replicas"]
        share = _share(sizes, (one.topic, one.partition), adding)
        rows.append(
            {
                "topic": one.topic,
                "partition": f"{one.topic}-{one.partition}",
                "from": [node for node in under_way[one]["replicas"] if node not in adding],
                "to": [node for node in under_way[one]["replicas"] if node not in removing],
                "share": round(share, 3),
                "copied": f"{'#' * round(BAR_WIDTH * share):.<{BAR_WIDTH}} {share:4.0%}",
            }
        )
    return rows


def _sizes(client: Any, under_way: Mapping[Any, Any]) -> dict[tuple[str, int, int], int]:
    """Bytes of (topic, partition, node)."""
    if not under_way:
        return {}
    named: dict[str, list[int]] = {}
    for one in under_way:
        named.setdefault(one.topic, []).append(one.partition)
    return {
        (topic["name"], partition["partition_index"], answer["broker"]): partition["partition_size"]
        for answer in client.describe_log_dirs(named)
        for directory in answer["log_dirs"]
        for topic in directory["topics"]
        for partition in topic["partitions"]
    }


def _share(sizes: Mapping[tuple[str, int, int], int], partition: tuple[str, int], adding: Sequence[int]) -> float:
    """How much of what is to be copied is there; old replicas show how much that is."""
    there = [sizes.get((*partition, node), 0) for node in adding]
    whole = max((size for (topic, number, _), size in sizes.items() if (topic, number) == partition), default=0)
    return sum(there) / (whole * len(there)) if there and whole else 0.0


def _listed(nodes: Sequence[int]) -> str:
    return ",".join(map(str, nodes))


# --- the throttle, as kafka-reassign-partitions sets it


def _set_throttle(admin: AdminClient, topic: str, held: Assignment, wanted: Assignment, bytes_a_second: int) -> None:
    """Old replicas may lead, new ones follow; each of their nodes gets the rate for both."""
    pairs = {
        "leader": held,
        "follower": {number: [n for n in nodes if n not in held[number]] for number, nodes in wanted.items()},
    }
    lists = {
        f"{side}.replication.throttled.replicas": ",".join(f"{number}:{node}" for number in chosen for node in chosen[number])
        for side, chosen in pairs.items()
    }
    nodes = {node for assignment in (held, wanted) for replicas in assignment.values() for node in replicas}
    rates = {f"{side}.replication.throttled.rate": str(bytes_a_second) for side in SIDES}
    resources = [_resource(ResourceType.BROKER, str(node), rates) for node in sorted(nodes)]
    _alter_settings(admin, [*resources, _resource(ResourceType.TOPIC, topic, lists)])


def _lift_throttle(admin: AdminClient, topics: Sequence[str], *, rates_too: bool = False) -> None:
    """A rate without topics that list replicas holds nobody back, and may be another topic's."""
    lists = dict.fromkeys(f"{side}.replication.throttled.replicas" for side in SIDES)
    resources = [_resource(ResourceType.TOPIC, topic, lists) for topic in topics]
    if rates_too:
        rates = dict.fromkeys(f"{side}.replication.throttled.rate" for side in SIDES)
        resources += [_resource(ResourceType.BROKER, str(node), rates) for node in sorted(metadata(admin).brokers)]
    _alter_settings(admin, resources)


def _resource(kind: Any, name: str, values: Mapping[str, str | None]) -> ConfigResource:
    """Settings to be set, or (None) taken back."""
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET)
        for key, value in values.items()
    ]
    return ConfigResource(kind, name, incremental_configs=entries)


def _alter_settings(admin: AdminClient, resources: list[ConfigResource]) -> None:
    """One by one: librdkafka takes no two brokers in a request."""
    for resource in resources:
        patiently(
            lambda resource=resource: admin.incremental_alter_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[  # type: ignore[misc]
                resource
            ].result(2 * REQUEST_TIMEOUT_S)
        )
