"""The life of a node's process: from a checked configuration to the exit status."""

import asyncio
import gc
import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Coroutine
from typing import Any

from quorumlog.host.clock import SystemClock
from quorumlog.host.disk import RealDisk
from quorumlog.host.grpc_peers import GrpcPeers
from quorumlog.host.loop import run as run_loop
from quorumlog.host.malloc import tune_malloc
from quorumlog.host.peer_identity import PeerCredentials, Refused
from quorumlog.host.ports import StorageError
from quorumlog.host.store import RocksStore
from quorumlog.host.worker import ThreadWorker
from quorumlog.raft.errors import Fatal, StorageRefused
from quorumlog.raft.identity import StorageIdentity, adopt_voters, read_identity
from quorumlog.raft.thread import QuorumThread
from quorumlog.wire.codec import prepare

from .api_table import API_TABLE
from .cleaner_link import ProcessCleaner
from .config import ConfigError, NodeConfig, parse_address
from .http import HttpListener
from .metrics import Metrics
from .node import Host, Node
from .storage import EXIT_REFUSED, open_storage

logger = logging.getLogger("quorumlog.node")

# Hardly anything on the way of a batch is a cycle: look for cycles seldom, and at old objects more seldom still.
GC_THRESHOLDS = (20_000, 20, 50)
COMPILE_PAUSE_S = 0.02
EXIT_FATAL = 70  # EX_SOFTWARE: the storage failed or an invariant broke; what is durable is no longer known


def run_node(config: NodeConfig) -> int:
    """Run a node until SIGTERM or SIGINT; the exit status."""
    started = time.monotonic()
    _set_up_logging(config)
    tune_malloc()
    return run_loop(_run(config, started))


async def _run(config: NodeConfig, started: float) -> int:
    """The node's whole life in this process; returns the exit status."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        with open_storage(config.data_dir) as (disk, store):
            _check_identity(store, config)
            await _serve(config, disk, store, stop, started)
    except (StorageError, StorageRefused, Fatal, ConfigError, Refused, OSError, ValueError) as error:
        logger.error("%s", error)
        return EXIT_REFUSED
    return 0


async def _serve(config: NodeConfig, disk: RealDisk, store: RocksStore, stop: asyncio.Event, started: float) -> None:
    peers = GrpcPeers(cluster_id=config.cluster_id, node_id=config.node_id, credentials=_credentials(config))
    node: Node | None = None
    try:
        host = Host(
            SystemClock(),
            disk,
            store,
            peers,
            random.Random(),
            make_worker=ThreadWorker,
            make_driver=QuorumThread,
            make_cleaner=lambda: ProcessCleaner(disk.root, ThreadWorker("compacting process")),
            volume=disk.volume,
        )
        node = Node(config, host, on_fatal=_stop_at_once)
        metrics = Metrics(node.services, node.kafka, lambda: node.controller is not None and node.controller.is_active)
        http = HttpListener(not_ready=node.not_ready, render_metrics=metrics.render)
        listen = parse_address("peer_listen", config.peer_listen)
        await node.start()
        await peers.start(listen.host, listen.port)
        await http.start(parse_address("http_listen", config.http_listen))
        logger.info("node %d of cluster %s is up after %.2f s", config.node_id, config.cluster_id, time.monotonic() - started)
        # Clients are let in when the image is current: an empty one would tell them that their topics are gone.
        if await _first_of(node.registered(), stop.wait()):
            await node.kafka.start(parse_address("kafka_listen", config.kafka_listen))
            # Not before: what the cluster needs to begin would wait. Whatever is asked first compiles its own.
            threading.Thread(target=_compile_codecs, name="compile codecs", daemon=True).start()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            await stop.wait()
        logger.info("stopping")
        await node.stop()
        await http.close()
        metrics.close()
        logger.info("stopped")
    except BaseException:
        if node is not None:
            node.abandon()
        raise
    finally:
        await peers.stop(grace_s=0.5)


def _compile_codecs() -> None:
    for api_key in API_TABLE:
        prepare([api_key])
        time.sleep(COMPILE_PAUSE_S)  # a young cluster has other things to do
    gc.freeze()  # they stay: no later collection need look at their tens of thousands of objects


async def _first_of(wanted: Coroutine[Any, Any, Any], otherwise: Coroutine[Any, Any, Any]) -> bool:
    """Wait for either; True if it was the wanted one."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(otherwise)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    is_wanted = tasks[0].done()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return is_wanted


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
