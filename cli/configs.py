"""`quorumlog configs`: the settings of topics, brokers and groups, with where each value comes from."""

from typing import Any

import click
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # documented there, but not exported as mypy wants it
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)

from quorumlog.cli.kafka import REQUEST_TIMEOUT_S, admin_client, errors_in_one_line, patiently
from quorumlog.cli.options import assignment, bootstrap_option
from quorumlog.cli.output import output_option, print_rows

KINDS = {"topic": ResourceType.TOPIC, "broker": ResourceType.BROKER, "group": ResourceType.GROUP}
RESULT_TIMEOUT_S = 2 * REQUEST_TIMEOUT_S
SOURCES = {
    ConfigSource.DYNAMIC_TOPIC_CONFIG.value: "topic",
    ConfigSource.DYNAMIC_BROKER_CONFIG.value: "broker",
    ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG.value: "all brokers",
    ConfigSource.STATIC_BROKER_CONFIG.value: "static",
    ConfigSource.DEFAULT_CONFIG.value: "default",
    ConfigSource.GROUP_CONFIG.value: "group",
}
DEFAULTS = ("default", "static")

kind_argument = click.argument("kind", type=click.Choice(list(KINDS)))
name_argument = click.argument("name")


@click.group()
def configs() -> None:
    """Show and change the settings of topics, brokers and groups.

    What holds for all brokers is shown for each; to change it, use `kafka-configs --entity-default`: the client library that
    stands behind this command has no name for all brokers.
    """


@configs.command()
@kind_argument
@name_argument
@click.option("--all", "with_defaults", is_flag=True, help="Defaults and what the nodes' files say, too.")
@bootstrap_option
@output_option
def describe(kind: str, name: str, with_defaults: bool, bootstrap_servers: str, output: str) -> None:
    """Show the settings that were made for a topic, a broker or a group."""
    with errors_in_one_line(bootstrap_servers):
        rows = _rows(admin_client(bootstrap_servers), _resource(kind, name))
    shown = [row for row in rows if with_defaults or row["source"] not in DEFAULTS]
    print_rows(shown, output, columns=("name", "value", "source"))


def _resource(kind: str, name: str) -> ConfigResource:
    if kind == "broker" and not name.isdecimal():
        raise click.UsageError(f"{name!r} is no broker's id")
    return ConfigResource(KINDS[kind], name)


def _rows(client: AdminClient, resource: ConfigResource) -> list[dict[str, Any]]:
    found = patiently(
        lambda: client.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[resource].result(RESULT_TIMEOUT_S)
    )
    return [
        {
            "name": name,
            "value": "(hidden)" if entry.is_sensitive else entry.value,
            "source": SOURCES.get(entry.source, "unknown"),
            "read_only": entry.is_read_only,
        }
        for name, entry in sorted(found.items())
    ]


@configs.command()
@kind_argument
@name_argument
@click.option("--set", "settings", multiple=True, type=assignment, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--delete", "deleted", multiple=True, metavar="KEY", help="Go back to the default. Repeatable.")
@bootstrap_option
def alter(kind: str, name: str, settings: tuple[tuple[str, str], ...], deleted: tuple[str, ...], bootstrap_servers: str) -> None:
    """Change settings of a topic, a broker or a group; the others stay as they are."""
    if not settings and not deleted:
        raise click.UsageError("give --set KEY=VALUE or --delete KEY")
    with errors_in_one_line(bootstrap_servers):
        alter_settings(admin_client(bootstrap_servers), _resource(kind, name), settings, deleted)
    click.echo(f"{kind} {name}: {len(settings) + len(deleted)} settings changed")


def alter_settings(
    client: AdminClient, resource: ConfigResource, settings: tuple[tuple[str, str], ...], deleted: tuple[str, ...]
) -> None:
    for key, value in settings:
        resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET))
    for key in deleted:
        resource.add_incremental_config(ConfigEntry(key, None, incremental_operation=AlterConfigOpType.DELETE))
    patiently(
        lambda: client.incremental_alter_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[resource].result(RESULT_TIMEOUT_S)
    )
