"""Options that several commands share, and how their text is read."""

import click

bootstrap_option = click.option(
    "--bootstrap-server",
    "bootstrap_servers",
    envvar="QUORUMLOG_BOOTSTRAP_SERVER",
    default="127.0.0.1:19092",
    show_default=True,
    show_envvar=True,
    metavar="HOST:PORT[,...]",
    help="Any nodes of the cluster.",
)


def assignment(text: str) -> tuple[str, str]:
    """KEY=VALUE, for `type=`; the value may hold further equals signs."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key.strip(), value


def node_ids(text: str) -> list[int]:
    """Comma-separated node ids, for `type=`: 1,2,3."""
    try:
        ids = [int(word) for word in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a list of node ids like 1,2,3") from error
    if min(ids) < 0 or len(set(ids)) != len(ids):
        raise click.BadParameter(f"{text!r}: node ids are not negative and differ from each other")
    return ids
