"""`quorumlog topics alter | partitions | delete-records`: what can be changed of a topic that is in use."""

import click
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from quorumlog.cli.configs import alter_settings
from quorumlog.cli.kafka import REQUEST_TIMEOUT_S, admin_client, errors_in_one_line, patiently, topic_metadata, wait_for_leaders
from quorumlog.cli.moves import Target, topic_partitions
from quorumlog.cli.options import assignment, bootstrap_option
from quorumlog.cli.output import output_option, print_rows

RESULT_TIMEOUT_S = 2 * REQUEST_TIMEOUT_S


@click.command()
@click.argument("name")
@click.option("--config", "settings", multiple=True, type=assignment, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--delete-config", "deleted", multiple=True, metavar="KEY", help="Go back to the default. Repeatable.")
@bootstrap_option
def alter(name: str, settings: tuple[tuple[str, str], ...], deleted: tuple[str, ...], bootstrap_servers: str) -> None:
    """Change settings of topic NAME; the others stay as they are."""
    if not settings and not deleted:
        raise click.UsageError("give --config KEY=VALUE or --delete-config KEY")
    with errors_in_one_line(bootstrap_servers):
        alter_settings(admin_client(bootstrap_servers), ConfigResource(ResourceType.TOPIC, name), settings, deleted)
    click.echo(f"{name}: {len(settings) + len(deleted)} settings changed")


@click.command("partitions")
@click.argument("name")
@click.argument("count", type=click.IntRange(min=1))
@bootstrap_option
def add_partitions(name: str, count: int, bootstrap_servers: str) -> None:
    """Give topic NAME so many partitions in all. Keys may go to other partitions from then on."""
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        new = NewPartitions(name, count)
        patiently(lambda: client.create_partitions([new], request_timeout=REQUEST_TIMEOUT_S)[name].result(RESULT_TIMEOUT_S))
        wait_for_leaders(client, name)
    click.echo(f"{name}: {count} partitions")


@click.command("delete-records")
@click.argument("target", type=topic_partitions, metavar="TOPIC[:PARTITION,...]")
@click.option("--before", required=True, metavar="OFFSET|end", help="The first offset to keep; `end` keeps none.")
@bootstrap_option
@output_option
def delete_records(target: Target, before: str, bootstrap_servers: str, output: str) -> None:
    """Delete the records of partitions up to an offset, for good."""
    if before != "end" and not before.isdecimal():
        raise click.UsageError(f"--before is {before!r}; expected an offset or `end`")
    topic, numbers = target
    offset = OFFSET_END if before == "end" else int(before)
    with errors_in_one_line(bootstrap_servers):
        client = admin_client(bootstrap_servers)
        chosen = numbers or sorted(topic_metadata(client, topic).partitions)
        asked = [TopicPartition(topic, number, offset) for number in chosen]
        futures = client.delete_records(asked, request_timeout=REQUEST_TIMEOUT_S)
        rows = [
            {"partition": tp.partition, "log_start": future.result(RESULT_TIMEOUT_S).low_watermark}
            for tp, future in futures.items()
        ]
    print_rows(sorted(rows, key=lambda row: row["partition"]), output, columns=("partition", "log_start"))
