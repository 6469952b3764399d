"""Brokers come, show that they live, are fenced, come again, and go."""

from quorumlog.wire.errors import ClusterError, ErrorCode

from . import elections, records
from .draft import Draft
from .image import CLUSTER_DEFAULT, NO_LEADER, Broker
from .records import BrokerChange, ConfigRecord, ProducerIds, ResourceKind
from .requests import (
    PRODUCER_ID_BLOCK,
    AllocateProducerIds,
    AllocateProducerIdsReply,
    BrokerHeartbeat,
    BrokerHeartbeatReply,
    Done,
    RegisterBroker,
    RegisterBrokerReply,
    UnregisterBroker,
)
from .sessions import Sessions
from .topic_config import MIN_INSYNC_REPLICAS, TOPIC_SETTINGS


def register(draft: Draft, sessions: Sessions, request: RegisterBroker, now: float) -> RegisterBrokerReply:
    """A process starts. It stays fenced until it has caught up with the metadata log. Raises DUPLICATE_BROKER_REGISTRATION."""
    if request.node_id < 0:
        raise ClusterError(ErrorCode.invalid_request, f"node id {request.node_id}; the least is 0")
    held = draft.image.brokers.get(request.node_id)
    if held is not None and (held.incarnation_id, held.storage_id) == (request.incarnation_id, request.storage_id):
        return RegisterBrokerReply(held.broker_epoch)
    has_its_disk = held is not None and held.storage_id == request.storage_id
    if not has_its_disk and sessions.is_alive(request.node_id, now):
        raise ClusterError(
            ErrorCode.duplicate_broker_registration,
            f"node id {request.node_id} belongs to a live broker with another disk (storage id {held and held.storage_id}, "
            f"not {request.storage_id})",
        )
    sessions.end(request.node_id)
    _write_down_min_isr(draft)
    epoch = draft.image.next_broker_epoch
    draft.add(_registration(request, epoch))
    # The same disk under a new incarnation: its storage lock says that the old process is gone, and what it flushed is there.
    # Any other disk, also that of a broker of which nothing is known, may hold nothing of what its replicas promised.
    if has_its_disk:
        elections.release(draft, request.node_id)
    else:
        elections.release_disk(draft, request.node_id)
    return RegisterBrokerReply(epoch)


def _registration(request: RegisterBroker, epoch: int) -> records.RegisterBroker:
    return records.RegisterBroker(
        node_id=request.node_id,
        broker_epoch=epoch,
        incarnation_id=request.incarnation_id,
        storage_id=request.storage_id,
        kafka=request.kafka,
        peer=request.peer,
        rack=request.rack,
        fenced=True,
        in_shutdown=False,
    )


def _write_down_min_isr(draft: Draft) -> None:
    """Controller and leaders must agree on the least in-sync set, also when nodes' static configurations differ (KIP-966).

    So the first controller's static value becomes the cluster's, before there is any broker to hold a partition.
    """
    if MIN_INSYNC_REPLICAS not in draft.image.broker_configs.get(CLUSTER_DEFAULT, {}):
        value = draft.config.broker_defaults.get(MIN_INSYNC_REPLICAS, TOPIC_SETTINGS[MIN_INSYNC_REPLICAS].default)
        draft.add(ConfigRecord(ResourceKind.BROKER, CLUSTER_DEFAULT, MIN_INSYNC_REPLICAS, value))


def heartbeat(draft: Draft, sessions: Sessions, request: BrokerHeartbeat, now: float) -> BrokerHeartbeatReply:
    """A broker lives. Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH."""
    broker = draft.registered(request.node_id, request.broker_epoch)
    if request.want_shutdown and not broker.in_shutdown:
        _change(draft, broker, fenced=broker.fenced, in_shutdown=True)
        elections.release(draft, broker.node_id)
    elif broker.fenced and request.caught_up and not broker.in_shutdown:
        _change(draft, broker, fenced=False, in_shutdown=False)
        elections.elect_missing(draft)
    broker = draft.image.brokers[broker.node_id]
    if not broker.fenced:
        sessions.refresh(broker.node_id, now)
    may_shut_down = broker.in_shutdown and not _leads_any(draft, broker.node_id)
    return BrokerHeartbeatReply(fenced=broker.fenced, may_shut_down=may_shut_down)


def _change(draft: Draft, broker: Broker, *, fenced: bool, in_shutdown: bool) -> None:
    draft.add(BrokerChange(broker.node_id, broker.broker_epoch, fenced=fenced, in_shutdown=in_shutdown))


def _leads_any(draft: Draft, node_id: int) -> bool:
    assert node_id != NO_LEADER
    return any(state.leader == node_id for _, state in draft.partitions_on(node_id))


def fence(draft: Draft, sessions: Sessions, node_id: int) -> None:
    """The broker is silent or gone: others lead what it led. Nothing happens to one that is fenced already."""
    sessions.end(node_id)
    broker = draft.image.brokers.get(node_id)
    if broker is not None and not broker.fenced:
        _change(draft, broker, fenced=True, in_shutdown=broker.in_shutdown)
        elections.release(draft, node_id)


def unregister(draft: Draft, sessions: Sessions, request: UnregisterBroker) -> Done:
    """Forget a broker. Raises BROKER_ID_NOT_REGISTERED."""
    broker = draft.image.brokers.get(request.node_id)
    if broker is None:
        raise ClusterError(ErrorCode.broker_id_not_registered, f"broker {request.node_id} is not registered")
    fence(draft, sessions, request.node_id)
    draft.add(records.UnregisterBroker(request.node_id, broker.broker_epoch))
    return Done()


def allocate_producer_ids(draft: Draft, request: AllocateProducerIds) -> AllocateProducerIdsReply:
    """A block of ids that no other broker has. Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH."""
    draft.registered(request.node_id, request.broker_epoch)
    first = draft.image.next_producer_id
    draft.add(ProducerIds(first + PRODUCER_ID_BLOCK, request.node_id))
    return AllocateProducerIdsReply(first, PRODUCER_ID_BLOCK)
