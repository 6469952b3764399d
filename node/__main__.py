"""The node program: `python -m quorumlog.node format | run | rebuild`. The `quorumlog` command hands over to it."""

import asyncio
import gc
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn
from uuid import uuid4

import click
from quorumlog.host.clock import SystemClock
from quorumlog.host.disk import RealDisk
from quorumlog.host.grpc_peers import GrpcPeers
from quorumlog.host.loop import run as run_loop
from quorumlog.host.malloc import tune_malloc
from quorumlog.host.peer_identity import PeerCredentials, Refused
from quorumlog.host.ports import StorageError
from quorumlog.host.store import RocksStore
from quorumlog.raft.errors import StorageRefused
from quorumlog.raft.identity import StorageIdentity, adopt_voters, format_quorum, read_identity
from quorumlog.wire.codec import prepare

from .api_table import API_TABLE
from .config import ConfigError, NodeConfig, load_config, parse_address
from .config_table import render
from .http import HttpListener
from .metrics import Metrics
from .node import Host, Node

logger = logging.getLogger("quorumlog.node")

STORE_DIRECTORY = "store"
EXIT_REFUSED = 1
EXIT_FATAL = 70  # EX_SOFTWARE: the storage failed or an invariant broke; what is durable is no longer known


@click.group()
def main() -> None:
    """Run or prepare one quorumlog node."""


@main.command("format")
@click.option("--data-dir", required=True)
@click.option("--cluster-id", required=True)
@click.option("--node-id", required=True, type=click.IntRange(min=0))
@click.option("--voters", default="", help="Ids of the metadata quorum, such as 1,2,3; by default taken over at the first start.")
@click.option("--ignore-formatted", is_flag=True, help="Succeed if the directory is formatted for just this node already.")
def format_command(data_dir: str, cluster_id: str, node_id: int, voters: str, ignore_formatted: bool) -> None:
    """Make a directory a node's storage, once. A wiped disk must not come back under its old identity unnoticed."""
    disk = _open_disk(data_dir, create=True)
    store = RocksStore(os.path.join(data_dir, STORE_DIRECTORY))
    try:
        held = read_identity(store)
        if held is None:
            ids = [int(part) for part in voters.split(",") if part.strip()]
            format_quorum(store, cluster_id=cluster_id, node_id=node_id, storage_id=str(uuid4()), voters=ids)
            click.echo(f"formatted {data_dir} for node {node_id} of cluster {cluster_id!r}")
        elif (held.cluster_id, held.node_id) == (cluster_id, node_id) and ignore_formatted:
            click.echo(f"{data_dir} is formatted for node {node_id} of cluster {cluster_id!r} already")
        else:
            _refuse(f"{data_dir} is formatted already, for node {held.node_id} of cluster {held.cluster_id!r}")
    except StorageRefused as error:
        _refuse(str(error))
    finally:
        store.close()
        disk.close()


@main.command("run")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="TOML file with settings.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="One setting; wins over file and environment.")
def run_command(config_file: str | None, settings: Sequence[str]) -> None:
    """Run a node until SIGTERM or SIGINT."""
    started = time.monotonic()
    try:
        config = load_config(file=config_file, overrides=_parse_settings(settings))
    except ConfigError as error:
        _refuse(str(error))
    _set_up_logging(config)
    tune_malloc()
    sys.exit(run_loop(_run(config, started)))


@main.command("rebuild")
@click.option("--data-dir", required=True)
def rebuild_command(data_dir: str) -> None:
    """Recreate everything that the store keeps about segments from the segment files alone. The node must be stopped."""
    from quorumlog.partitions.rebuild import rebuild

    disk = _open_disk(data_dir)
    store = RocksStore(os.path.join(data_dir, STORE_DIRECTORY))
    try:
        done = rebuild(
            disk, store, wall_ms=SystemClock().wall_ms(), progress=lambda one: click.echo(f"{one.directory}: {one.report}")
        )
        store.sync()
        click.echo(f"rebuilt what the store keeps of {len(done)} partitions")
    finally:
        store.close()
        disk.close()


@main.command("settings")
def settings_command() -> None:
    """Print all settings as docs/configuration.md has them."""
    click.echo(render(), nl=False)


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_REFUSED)


def _open_disk(data_dir: str, *, create: bool = False) -> RealDisk:
    try:
        return RealDisk(data_dir, create=create)
    except StorageError as error:
        _refuse(str(error))


def _parse_settings(settings: Sequence[str]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting!r}; expected NAME=VALUE")
        parsed[name.strip().replace("-", "_").replace(".", "_")] = value
    return parsed


async def _run(config: NodeConfig, started: float) -> int:
    """The node's whole life in this process; returns the exit status."""
    disk = _open_disk(config.data_dir)
    store = RocksStore(os.path.join(config.data_dir, STORE_DIRECTORY))
    peers: GrpcPeers | None = None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        _check_identity(store, config)
        peers = GrpcPeers(cluster_id=config.cluster_id, node_id=config.node_id, credentials=_credentials(config))
        host = Host(SystemClock(), disk, store, peers, random.Random())
        node = Node(config, host, on_fatal=_stop_at_once)
        metrics = Metrics(node.services, node.kafka, lambda: node.controller is not None and node.controller.is_active)
        http = HttpListener(not_ready=node.not_ready, render_metrics=metrics.render)
        listen = parse_address("peer_listen", config.peer_listen)
        await node.start()
        await peers.start(listen.host, listen.port)
        await node.kafka.start(parse_address("kafka_listen", config.kafka_listen))
        await http.start(parse_address("http_listen", config.http_listen))
        threading.Thread(target=prepare, args=(API_TABLE,), name="compile codecs", daemon=True).start()
        gc.collect()
        gc.freeze()
        logger.info("node %d of cluster %s listens after %.2f s", config.node_id, config.cluster_id, time.monotonic() - started)
        await stop.wait()
        logger.info("stopping")
        await node.stop()
        await http.close()
        metrics.close()
        logger.info("stopped")
        return 0
    except (StorageRefused, ConfigError, Refused, OSError, ValueError) as error:
        logger.error("%s", error)
        return EXIT_REFUSED
    finally:
        if peers is not None:
            await peers.stop(grace_s=0.5)
        store.close()
        disk.close()


def _check_identity(store: RocksStore, config: NodeConfig) -> StorageIdentity:
    """The storage must be formatted, for this node of this cluster. Raises StorageRefused."""
    identity = read_identity(store)
    if identity is None:
        raise StorageRefused(
            f"{config.data_dir} is not formatted; run: quorumlog format --data-dir {config.data_dir} "
            f"--cluster-id {config.cluster_id} --node-id {config.node_id}"
        )
    if (identity.cluster_id, identity.node_id) != (config.cluster_id, config.node_id):
        raise StorageRefused(
            f"{config.data_dir} belongs to node {identity.node_id} of cluster {identity.cluster_id!r}, "
            f"not to node {config.node_id} of cluster {config.cluster_id!r}"
        )
    if not identity.voters:
        return adopt_voters(store, sorted(config.voter_addresses))
    return identity


def _credentials(config: NodeConfig) -> PeerCredentials | None:
    if not config.certs_dir:
        return None
    try:
        return PeerCredentials.read(config.certs_dir, config.node_id)
    except OSError as error:
        raise ConfigError(f"certs_dir {config.certs_dir}: cannot read {error.filename}: {error.strerror}") from error


def _stop_at_once(error: BaseException) -> None:
    """Fail-stop: no clean-up, no answer, nothing that could tell a client of what may not be on the disk."""
    logger.critical("this node cannot go on: %r", error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FATAL)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _set_up_logging(config: NodeConfig) -> None:
    handler = logging.StreamHandler()
    if config.log_format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s node {config.node_id} %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)


if __name__ == "__main__":
    main()
