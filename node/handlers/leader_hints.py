"""With "not the leader" comes who is, and where: a client moves at once, without asking for metadata (KIP-951)."""

from collections.abc import Iterable

from quorumlog.metadata.image import Image
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.leader_hints import CurrentLeader, NodeEndpoint

MOVED = (ErrorCode.not_leader_or_follower, ErrorCode.fenced_leader_epoch)


def leader_hint(image: Image, tp: TopicPartition, code: ErrorCode) -> CurrentLeader | None:
    """The partition's leader, where the error says that the client is at the wrong place."""
    if code not in MOVED:
        return None
    state = image.partition(tp.topic, tp.partition)
    return CurrentLeader(state.leader, state.leader_epoch) if state is not None else None


def endpoints_of(image: Image, hints: Iterable[CurrentLeader | None]) -> tuple[NodeEndpoint, ...]:
    nodes = sorted({hint.leader_id for hint in hints if hint is not None and image.is_live(hint.leader_id)})
    brokers = [image.brokers[node] for node in nodes]
    return tuple(NodeEndpoint(broker.node_id, broker.kafka.host, broker.kafka.port, broker.rack) for broker in brokers)
