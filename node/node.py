"""One node, assembled from a config and a host: the only place that knows all parts.

    start: quorum or observer -> peers' port -> image -> partitions -> session -> Kafka port
    stop:  leadership handed over -> Kafka port -> streams -> flush -> quorum -> store

The host (clock, disk, store, peers) is handed in, so that the same node runs on a machine and in the simulator.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from quorumlog.host.ports import Clock, Disk, KVStore, Peers, Worker
from quorumlog.metadata.broker_config import broker_value
from quorumlog.metadata.controller import ControllerConfig
from quorumlog.metadata.image import Endpoint, Image
from quorumlog.metadata.machine import MetadataMachine
from quorumlog.metadata.records import Record
from quorumlog.partitions.partition import PartitionSettings
from quorumlog.partitions.renewal import renew_unpromised
from quorumlog.raft.driver import QuorumDriver
from quorumlog.raft.identity import StorageIdentity, read_identity
from quorumlog.raft.quorum import Quorum

from .active_controller import ActiveController
from .api_table import API_TABLE
from .cleaners import Cleaner, InlineCleaner
from .cluster import ClusterView
from .compactor import Compactor
from .config import NodeConfig
from .controller_link import ControllerClient, ControllerServer
from .dispatch import Dispatcher
from .fetch_sessions import FetchSessions
from .first_uses import FirstUses
from .group_coordinator import GroupCoordinator
from .isr_updates import IsrUpdates
from .listener import KafkaListener
from .observer import MetadataObserver, MetadataPublisher
from .producer_ids import ProducerIds
from .quorum import QuorumEvents, quorum_config
from .quorum_link import QuorumLink
from .quorum_view import QuorumView
from .replicas import Replicas
from .replication_follower import SERVICE as REPLICATION
from .replication_follower import FollowerSide
from .replication_leader import LeaderSide
from .services import Services
from .session import BrokerSession, registration_of
from .suspects import Suspects
from .tasks import Tasks, cancelled
from .transaction_coordinator import TransactionCoordinator
from .transaction_markers import MarkerSender, MarkerWriter
from .transaction_verifier import Verifier

logger = logging.getLogger(__name__)

ISR_LOOK_S = 0.1
QUORUM_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a node runs on. Whoever made it closes it, after the node has stopped."""

    clock: Clock
    disk: Disk
    store: KVStore
    peers: Peers
    rng: random.Random
    make_worker: Callable[[str], Worker]
    make_driver: Callable[..., QuorumDriver]  # with the arguments of QuorumDriver
    make_cleaner: Callable[[], Cleaner] | None = None  # None: the node compacts on its own loop
    volume: Callable[[], tuple[int, int]] = lambda: (-1, -1)  # bytes in all and free, where the data are

    def new_uuid(self) -> UUID:
        return UUID(int=self.rng.getrandbits(128), version=4)


class Node:
    """Lives from `start` to `stop`. `on_fatal` is called once if the node must not go on: the owner ends the process."""

    def __init__(self, config: NodeConfig, host: Host, *, on_fatal: Callable[[BaseException], None]) -> None:
        identity = read_identity(host.store)
        assert identity is not None, "the storage was checked before"
        self.config = config
        self.host = host
        self._on_fatal = on_fatal
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(on_fatal)
        self._incarnation_id = host.new_uuid()
        self.cluster = ClusterView(config.cluster_id)
        self.suspects = Suspects(self.cluster, host.peers)
        self.machine = MetadataMachine(config.cluster_id, on_image=self._on_image)
        self.controller = self._make_quorum() if config.is_voter else None
        voters = sorted(config.voter_addresses)
        self.controller_client = ControllerClient(config.node_id, voters, self.cluster, host.peers, self.controller)
        driver = self.quorum if config.is_voter else None
        self.quorum_view = QuorumView(config.node_id, driver, self.cluster, self.controller_client, host.peers)
        self.replicas = self._make_replicas()
        self.compactor = self._make_compactor()
        self.session = self._make_session(identity)
        self.follower_side.introduce_as(lambda: self.session.broker_epoch)
        self.isr_updates = IsrUpdates(
            self.replicas,
            self.leader_side,
            self.cluster,
            self.controller_client,
            self.session,
            host.clock,
            self._tasks,
            interval_s=ISR_LOOK_S,
        )
        producer_ids = ProducerIds(self.controller_client, self.session, config.node_id)
        groups = self._make_groups()
        markers = MarkerWriter(self.cluster, self.replicas, groups, host.clock, on_fatal)
        transactions = self._make_transactions(producer_ids, markers)
        self.services = Services(
            config=config,
            clock=host.clock,
            cluster=self.cluster,
            suspects=self.suspects,
            replicas=self.replicas,
            controller=self.controller_client,
            first_uses=FirstUses(self.controller_client, self._tasks),
            session=self.session,
            quorum=self.quorum_view,
            new_uuid=host.new_uuid,
            volume=host.volume,
            producer_ids=producer_ids,
            fetch_sessions=FetchSessions(self.replicas.reads, host.rng.randint, sessions_max=config.fetch_sessions_max),
            groups=groups,
            transactions=transactions,
            markers=markers,
            verifier=Verifier(config.node_id, transactions, self.cluster, host.peers, self._tasks, on_fatal),
            api_versions={key: (api.versions[0], api.versions[-1]) for key, api in API_TABLE.items()},
        )
        self.kafka = KafkaListener(config, Dispatcher(self.services, API_TABLE), on_fatal=on_fatal)
        self.services.answer_room = self.kafka.answer_room

    # --- assembling

    def _deliver(self, call: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _make_quorum(self) -> ActiveController:
        config, host = self.config, self.host
        events = QuorumEvents(self.cluster, self._deliver)
        others = [voter for voter in sorted(config.voter_addresses) if voter != config.node_id]
        self.link = QuorumLink(host.peers, others, self.suspects, self._tasks, on_gone=self._on_voter_gone)
        quorum = Quorum(
            quorum_config(config),
            store=host.store,
            disk=host.disk,
            machine=self.machine,
            listener=events,
            send=self.link.send,
            clock=host.clock,
            rng=host.rng,
        )
        self.quorum = host.make_driver(quorum, deliver=self._deliver, on_fatal=self._on_fatal)
        controller = ActiveController(self.cluster, self.quorum, host.clock, self._controller_config(), new_uuid=host.new_uuid)
        events.activate = self._activate
        events.deactivate = controller.deactivate
        self.controller_server = ControllerServer(controller, self.cluster, host.peers, self.suspects)
        self.publisher = MetadataPublisher(self.cluster, host.peers)
        return controller

    def _controller_config(self) -> ControllerConfig:
        config = self.config
        return ControllerConfig(
            session_timeout_s=config.session_timeout_ms / 1000,
            leader_rebalance_interval_s=config.leader_rebalance_interval_s or float("inf"),
            broker_defaults=config.broker_defaults,
        )

    def _make_replicas(self) -> Replicas:
        config, host = self.config, self.host
        settings = PartitionSettings(
            replica_lag_time_max_s=config.replica_lag_time_max_ms / 1000,
            checkpoint_interval_bytes=config.checkpoint_interval_bytes,
            fsync=config.flush_policy == "fsync",
        )
        replicas = Replicas(
            node_id=config.node_id,
            disk=host.disk,
            store=host.store,
            clock=host.clock,
            flush_worker=host.make_worker("flusher"),
            settings=settings,
            broker_defaults=config.broker_defaults,
            incarnation_id=self._incarnation_id,
            tasks=self._tasks,
        )
        self.leader_side = LeaderSide(replicas, clock=host.clock, message_bytes=config.replication_message_bytes)
        self.follower_side = FollowerSide(
            replicas, host.peers, self.suspects, host.clock, self._tasks, ping_s=config.replication_ping_ms / 1000
        )
        replicas.followers, replicas.leaders = self.leader_side, self.follower_side
        self.cluster.subscribe(self._learn_addresses)
        self.cluster.subscribe(replicas.on_image)
        return replicas

    def _make_compactor(self) -> Compactor:
        config, host = self.config, self.host
        compactor = Compactor(
            self.replicas,
            host.store,
            host.clock,
            self._tasks,
            make_cleaner=host.make_cleaner or (lambda: InlineCleaner(host.disk)),
            make_worker=host.make_worker,
            setting=lambda name: broker_value(self.cluster.image, name, config.broker_defaults, config.node_id),
        )
        self.replicas.compactor = compactor
        return compactor

    def _make_session(self, identity: StorageIdentity) -> BrokerSession:
        config = self.config
        kafka, peer = config.kafka_address, config.peer_address
        registration = registration_of(
            node_id=config.node_id,
            incarnation_id=self._incarnation_id,
            storage_id=UUID(identity.storage_id),
            kafka=Endpoint(kafka.host, kafka.port),
            peer=Endpoint(peer.host, peer.port),
            rack=config.rack or None,
        )
        return BrokerSession(
            registration,
            self.cluster,
            self.host.peers,
            self.controller_client,
            self.host.clock,
            self._tasks,
            on_in_service=self.replicas.set_strays_aside,
            heartbeat_interval_s=config.heartbeat_interval_ms / 1000,
            session_timeout_s=config.session_timeout_ms / 1000,
        )

    def _make_groups(self) -> GroupCoordinator:
        return GroupCoordinator(
            self.config,
            self.cluster,
            self.replicas,
            self.controller_client,
            self.host.clock,
            self._tasks,
            new_uuid=self.host.new_uuid,
            is_fresh=lambda: self.session.is_fresh,
        )

    def _make_transactions(self, producer_ids: ProducerIds, markers: MarkerWriter) -> TransactionCoordinator:
        return TransactionCoordinator(
            self.config,
            self.cluster,
            self.replicas,
            self.controller_client,
            self.host.clock,
            self._tasks,
            producer_ids=producer_ids,
            markers=MarkerSender(self.config.node_id, markers, self.host.peers, self._tasks),
        )

    # --- running

    async def start(self) -> None:
        """Take part in the cluster. The peers' port must be open already or open right after; the Kafka port opens here."""
        if renewed := renew_unpromised(self.host.disk, self.host.store):
            logger.warning("a sync failed before this start; copied what it may not have saved: %s", ", ".join(renewed))
        for node_id, address in self.config.voter_addresses.items():
            self.host.peers.set_address(node_id, address.host, address.port)
        self.host.peers.serve_stream(REPLICATION, self.leader_side.serve)
        if self.controller is not None:
            self.controller_server.start()
            self.publisher.start()
            self.link.start(self.quorum)
            self.quorum.start()
            self.quorum_view.start()
        else:
            self.observer = MetadataObserver(self.machine, sorted(self.config.voter_addresses), self.host.peers, self._tasks)
            self.observer.start()
        self.session.start()
        self.isr_updates.start()
        self._tasks.spawn(self._care(), "retention")
        self.compactor.start()

    async def stop(self) -> None:
        """A clean end: hand over, answer what can be answered, sync, checkpoint."""
        await self._hand_over()
        await self.kafka.close()
        await self.isr_updates.close()
        await self.follower_side.close()
        await self.session.close()
        if self.controller is not None:
            await self.link.close()
            self.quorum.stop(timeout_s=5.0)
        else:
            await self.observer.close()
        self.services.transactions.close()
        self.services.groups.close()
        await self.compactor.close()
        await self.replicas.close()
        await self._tasks.close()

    def abandon(self) -> None:
        """The start failed half way, and the storage is closed next: the quorum's thread must let go of it before."""
        if self.controller is not None:
            self.quorum.stop(timeout_s=5.0)

    async def _hand_over(self) -> None:
        timeout_s = self.config.shutdown_timeout_ms / 1000
        if timeout_s and self.session.broker_epoch >= 0 and not await self._has_leave(timeout_s):
            logger.warning("stopping without leave: no controller answered within %.1f s, or most voters are gone", timeout_s)
        if self.controller is not None and self.controller.is_active:
            self.quorum.transfer_leadership()
            await self.cluster.wait_for_change(1.0)

    async def _has_leave(self, timeout_s: float) -> bool:
        """Hand over all leadership. False if nobody answers in time, or nobody can."""
        asked = asyncio.get_running_loop().create_task(self.session.ask_to_stop(timeout_s), name="leave to stop")
        while not asked.done():
            await asyncio.wait({asked}, timeout=QUORUM_LOOK_S)
            if not asked.done() and await self._is_quorum_gone():
                await cancelled(asked)
                return False
        return asked.result()

    async def _is_quorum_gone(self) -> bool:
        """Do the ports of so many voters refuse that the others are no majority?"""
        voters = self.config.voter_addresses
        refused = await asyncio.gather(*(self.host.peers.is_refused(voter) for voter in voters if voter != self.config.node_id))
        return 2 * (len(voters) - sum(refused)) <= len(voters)

    async def registered(self) -> None:
        """Return when the image shows this process's own registration: it is current then."""
        while not await self.cluster.wait_until(lambda _image: self.replicas.is_registered, timeout_s=60.0):
            logger.warning("still waiting to be registered: is a majority of the voters up?")

    def not_ready(self) -> str | None:
        """What this node lacks to be in service; None if nothing."""
        if self.session.broker_epoch < 0:
            return "not registered with a controller yet"
        if self.session.fenced:
            return "fenced: the controller has not let this broker in yet"
        return None

    async def _care(self) -> None:
        while True:
            await asyncio.sleep(self.config.retention_check_interval_ms / 1000)
            self.replicas.apply_retention()

    # --- what the parts tell each other

    def _on_image(self, image: Image, records: tuple[Record, ...] | None) -> None:
        """On the quorum's thread of a voter, on the loop of an observer."""
        if self.config.is_voter:
            self._deliver(lambda: self._publish(image, records))
        else:
            self._publish(image, records)

    def _publish(self, image: Image, records: tuple[Record, ...] | None) -> None:
        try:
            self.cluster.publish(image, records)
        except Exception as error:  # a node that cannot follow the metadata must not serve by an older one
            logger.exception("the metadata image %d cannot be applied", image.index)
            self._on_fatal(error)

    def _learn_addresses(self, old: Image, image: Image, _records: tuple[Record, ...] | None) -> None:
        if image.brokers is old.brokers:
            return
        for node_id, broker in image.brokers.items():
            if node_id in self.config.voter_addresses:
                continue  # as configured: an image from a snapshot may be older than a move, and without voters none is newer
            self.host.peers.set_address(node_id, broker.peer.host, broker.peer.port)

    def _activate(self, term: int) -> None:
        assert self.controller is not None
        self.controller.activate(term)
        self._tasks.spawn(self.controller_server.probe_silent_brokers(), "probe brokers")

    def _on_voter_gone(self, node_id: int) -> None:
        assert self.controller is not None
        if self.controller.is_active:
            self._tasks.spawn(self.controller.on_process_gone(node_id), f"fence broker {node_id}")
