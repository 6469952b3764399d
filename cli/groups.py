"""`quorumlog groups`: who reads what, how far behind, and where a group is to read on."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
from confluent_kafka import OFFSET_INVALID, ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    AdminClient,
    OffsetSpec,
)

from quorumlog.cli.group_resets import Goal, as_commits, goal, new_offsets
from quorumlog.cli.kafka import REQUEST_TIMEOUT_S, admin_client, errors_in_one_line, metadata, patiently, topic_metadata
from quorumlog.cli.moves import Target, reassigner, topic_partitions
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option, print_json, print_rows

EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
RESULT_TIMEOUT_S = 2 * REQUEST_TIMEOUT_S
PARTITION_COLUMNS = ("topic", "partition", "committed", "log_end", "lag", "member")
MEMBER_COLUMNS = ("member", "instance", "client", "host", "assigned")

Place = tuple[str, int]  # topic and partition

target_option = click.option(
    "--topic", "targets", type=topic_partitions, multiple=True, metavar="TOPIC[:PARTITION,...]", help="Repeatable."
)


@click.group()
def groups() -> None:
    """List and describe consumer groups, and set where they read on."""


@groups.command("list")
@bootstrap_option
@output_option
def list_groups(bootstrap_servers: str, output: str) -> None:
    """List the consumer groups of the cluster."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        found = patiently(lambda: client.list_consumer_groups(request_timeout=REQUEST_TIMEOUT_S).result(RESULT_TIMEOUT_S))
        if found.errors:
            raise found.errors[0]
    rows = [{"group": one.group_id, "type": one.type.name.lower(), "state": one.state.name.lower()} for one in found.valid]
    print_rows(sorted(rows, key=lambda row: row["group"]), output, columns=("group", "type", "state"))


@groups.command()
@click.argument("group")
@bootstrap_option
@output_option
def describe(group: str, bootstrap_servers: str, output: str) -> None:
    """Show the members of GROUP, what each reads, and how far each partition is behind the end."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        description = _describe(client, group)
    if output == "json":
        print_json(description)
        return
    members = description["members"]
    click.echo(f"{group}: {description['state']}, {description['type']}, coordinator {description['coordinator']}")
    if members:
        print_rows(members, output, columns=MEMBER_COLUMNS)
        click.echo()
    print_rows(description["partitions"], output, columns=PARTITION_COLUMNS)


def _describe(client: AdminClient, group: str) -> dict[str, Any]:
    found = _group(client, group)
    if found.state is ConsumerGroupState.DEAD:  # which older servers answer for any name
        raise click.ClickException(f"there is no group {group!r}")
    owners = {(tp.topic, tp.partition): member.member_id for member in found.members for tp in _assigned(member)}
    committed = _committed(client, group)
    places = sorted({*owners, *committed})
    ends = _offsets(client, places, LATEST)
    return {
        "group": group,
        "state": found.state.name.lower(),
        "type": found.type.name.lower(),
        "assignor": found.partition_assignor,
        "coordinator": found.coordinator.id if found.coordinator is not None else None,
        "members": sorted((_member_row(member) for member in found.members), key=lambda row: str(row["member"])),
        "partitions": [_partition_row(place, committed, ends, owners) for place in places],
    }


def _group(client: AdminClient, group: str) -> Any:
    """confluent_kafka's ConsumerGroupDescription."""
    return patiently(
        lambda: client.describe_consumer_groups([group], request_timeout=REQUEST_TIMEOUT_S)[group].result(RESULT_TIMEOUT_S)
    )


def _assigned(member: Any) -> Sequence[TopicPartition]:
    return member.assignment.topic_partitions if member.assignment else ()


def _member_row(member: Any) -> dict[str, Any]:
    return {
        "member": member.member_id,
        "instance": member.group_instance_id,
        "client": member.client_id,
        "host": member.host,
        "assigned": [f"{topic}:{number}" for topic, number in sorted((tp.topic, tp.partition) for tp in _assigned(member))],
    }


def _partition_row(place: Place, committed: dict[Place, int], ends: dict[Place, int], owners: dict[Place, str]) -> dict[str, Any]:
    offset, end = committed.get(place), ends.get(place)
    return {
        "topic": place[0],
        "partition": place[1],
        "committed": offset,
        "log_end": end,
        "lag": end - offset if offset is not None and end is not None else None,
        "member": owners.get(place),
    }


def _committed(client: AdminClient, group: str) -> dict[Place, int]:
    asked = ConsumerGroupTopicPartitions(group)
    found = patiently(
        lambda: client.list_consumer_group_offsets([asked], request_timeout=REQUEST_TIMEOUT_S)[group].result(RESULT_TIMEOUT_S)
    )
    return {(tp.topic, tp.partition): tp.offset for tp in found.topic_partitions if tp.offset != OFFSET_INVALID}


def _offsets(client: AdminClient, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
    """Where there is one: a partition may be gone, or have no record that is so new."""
    asked = {TopicPartition(topic, number): spec for topic, number in places}
    if not asked:
        return {}
    found: dict[Place, int] = {}
    for tp, future in client.list_offsets(asked, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            offset = future.result(RESULT_TIMEOUT_S).offset
        except KafkaException:
            continue
        if offset >= 0:
            found[tp.topic, tp.partition] = offset
    return found


@groups.command()
@click.argument("group")
@target_option
@click.option("--all-topics", is_flag=True, help="Everything that the group has committed.")
@click.option("--to", "wanted", type=goal, required=True, metavar="earliest|latest|OFFSET|+N|-N|AGE|TIME")
@click.option("--execute", is_flag=True, help="Do it; without this, only show what would be done.")
@bootstrap_option
@output_option
def reset(
    group: str, targets: tuple[Target, ...], all_topics: bool, wanted: Goal, execute: bool, bootstrap_servers: str, output: str
) -> None:
    """Set where GROUP, which must have no members, reads on.

    \b
    earliest, latest   the first record that is kept; the end
    1234               this offset
    +100, -100         so many records on or back from what is committed
    90s, 15m, 2h, 1d   the first record that is not older than that
    2025-01-31T12:00Z  the first record that is not older than this time
    """
    if bool(targets) == all_topics:
        raise click.UsageError("give either --topic TOPIC[:PARTITION,...] or --all-topics")
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        committed = _committed(client, group)
        places = sorted(committed) if all_topics else _places(client, targets)
        _refuse_active(client, group)
        starts, ends = (_offsets(client, places, spec) for spec in (EARLIEST, LATEST))
        if missing := [
            f"{topic}:{number}" for topic, number in places if (topic, number) not in starts or (topic, number) not in ends
        ]:
            raise click.ClickException(f"no offsets can be had of {', '.join(missing[:5])}")
        new = new_offsets(
            wanted,
            places,
            committed=committed,
            starts=starts,
            ends=ends,
            at_time=lambda timestamp_ms: _offsets(client, places, OffsetSpec.for_timestamp(timestamp_ms)),
            now_ms=round(time.time() * 1000),
        )
        if execute and new:
            _commit(client, group, as_commits(new))
    rows = [
        {"topic": topic, "partition": number, "committed": committed.get((topic, number)), "new": new[topic, number]}
        for topic, number in places
    ]
    print_rows(rows, output, columns=("topic", "partition", "committed", "new"))
    if not execute:
        click.echo("nothing was changed; add --execute to do it", err=True)


def _places(client: AdminClient, targets: Iterable[Target]) -> list[Place]:
    found: set[Place] = set()
    for topic, numbers in targets:
        known = set(topic_metadata(client, topic).partitions)
        if unknown := sorted(set(numbers) - known):
            raise click.ClickException(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {unknown[0]}")
        found |= {(topic, number) for number in numbers or known}
    return sorted(found)


def _refuse_active(client: AdminClient, group: str) -> None:
    """The server refuses too, but by a name that few understand. A group that nobody knows yet may be set up."""
    try:
        members = _group(client, group).members
    except KafkaException as error:
        if error.args[0].name() != "GROUP_ID_NOT_FOUND":
            raise
        return
    if members:
        raise click.ClickException(f"group {group!r} is in use ({len(members)} members); stop them first")


def _commit(client: AdminClient, group: str, offsets: list[TopicPartition]) -> None:
    asked = ConsumerGroupTopicPartitions(group, offsets)
    done = patiently(
        lambda: client.alter_consumer_group_offsets([asked], request_timeout=REQUEST_TIMEOUT_S)[group].result(RESULT_TIMEOUT_S)
    )
    if failed := [tp for tp in done.topic_partitions if tp.error is not None]:
        raise KafkaException(failed[0].error)


@groups.command()
@click.argument("names", nargs=-1, required=True, metavar="GROUP...")
@bootstrap_option
def delete(names: tuple[str, ...], bootstrap_servers: str) -> None:
    """Delete groups without members, with all that they have committed."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        for name in names:
            patiently(
                lambda name=name: client.delete_consumer_groups([name], request_timeout=REQUEST_TIMEOUT_S)[name].result(  # type: ignore[misc]
                    RESULT_TIMEOUT_S
                )
            )
            click.echo(f"deleted {name}")


@groups.command("delete-offsets")
@click.argument("group")
@target_option
@bootstrap_option
def delete_offsets(group: str, targets: tuple[Target, ...], bootstrap_servers: str) -> None:
    """Forget what GROUP has committed in a topic that none of its members reads."""
    if not targets:
        raise click.UsageError("give --topic TOPIC[:PARTITION,...]")
    from kafka import TopicPartition as Partition  # librdkafka's Python client has no call for it

    with errors_in_one_line(bootstrap_servers), reassigner(bootstrap_servers) as client:
        known = metadata(admin_client(bootstrap_servers)).topics
        places = [
            Partition(topic, number)
            for topic, numbers in targets
            for number in numbers or (sorted(known[topic].partitions) if topic in known else ())
        ]
        if not places:
            raise click.ClickException(f"there is no topic {targets[0][0]!r}")
        results = client.delete_group_offsets(group, places)
    if refused := [f"{place.topic}:{place.partition}: {error.__name__}" for place, error in results.items() if error.errno]:
        raise click.ClickException("; ".join(sorted(refused)))
    click.echo(f"{group}: forgot {len(results)} offsets")
