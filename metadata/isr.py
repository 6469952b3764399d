"""In-sync sets as leaders propose them, and replicas that find themselves damaged."""

from uuid import UUID

from quorumlog.wire.errors import ClusterError, ErrorCode

from .draft import Draft
from .elections import settle, with_isr, without_disk
from .image import PartitionState
from .requests import AlterIsr, AlterIsrReply, IsrProposal, IsrResult, ReportDamage, ReportDamageReply

UNKNOWN_EPOCH = -1


def alter_isr(draft: Draft, request: AlterIsr) -> AlterIsrReply:
    """Raises BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH; each partition has a result of its own."""
    draft.registered(request.node_id, request.broker_epoch)
    return AlterIsrReply(tuple(_result(draft, request.node_id, proposal) for proposal in request.partitions))


def _result(draft: Draft, node_id: int, proposal: IsrProposal) -> IsrResult:
    outcome = draft.attempt(lambda: _alter(draft, node_id, proposal))
    if isinstance(outcome, ClusterError):
        return IsrResult(proposal.topic_id, proposal.partition, outcome.code, outcome.message, None)
    return IsrResult(proposal.topic_id, proposal.partition, ErrorCode.none, None, outcome)


def _alter(draft: Draft, node_id: int, proposal: IsrProposal) -> PartitionState:
    topic, state = _find(draft, proposal.topic_id, proposal.partition)
    where = f"{topic}-{proposal.partition}"
    _check_epochs(where, node_id, proposal, state)
    _check_members(draft, where, proposal, state)
    settle(draft, topic, state, with_isr(state, set(proposal.new_isr), draft.min_isr(topic, state)))
    return _find(draft, proposal.topic_id, proposal.partition)[1]


def _find(draft: Draft, topic_id: UUID, partition: int) -> tuple[str, PartitionState]:
    topic = draft.image.topic_names.get(topic_id)
    if topic is None:
        raise ClusterError(ErrorCode.unknown_topic_id, f"there is no topic with id {topic_id}")
    state = draft.image.partition(topic, partition)
    if state is None:
        raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no partition {topic}-{partition}")
    return topic, state


def _check_epochs(where: str, node_id: int, proposal: IsrProposal, state: PartitionState) -> None:
    seen, held = proposal.leader_epoch, state.leader_epoch
    if seen != held:
        code = ErrorCode.fenced_leader_epoch if seen < held else ErrorCode.unknown_leader_epoch
        raise ClusterError(code, f"{where}: proposed in leader epoch {seen}, held is {held}")
    if state.leader != node_id:
        raise ClusterError(ErrorCode.not_leader_or_follower, f"{where} is led by {state.leader}, not by {node_id}")
    if proposal.partition_epoch != state.partition_epoch:
        raise ClusterError(
            ErrorCode.invalid_update_version,
            f"{where}: proposed on partition epoch {proposal.partition_epoch}, held is {state.partition_epoch}",
        )


def _check_members(draft: Draft, where: str, proposal: IsrProposal, state: PartitionState) -> None:
    members = set(proposal.new_isr)
    if len(members) != len(proposal.new_isr) or not members <= set(state.replicas) or state.leader not in members:
        raise ClusterError(
            ErrorCode.invalid_request,
            f"{where}: in-sync set {list(proposal.new_isr)}; allowed are the leader {state.leader} and others of "
            f"{list(state.replicas)}, each once",
        )
    epochs = proposal.broker_epochs or (UNKNOWN_EPOCH,) * len(proposal.new_isr)
    if len(epochs) != len(proposal.new_isr):
        raise ClusterError(
            ErrorCode.invalid_request, f"{where}: {len(epochs)} broker epochs for {len(proposal.new_isr)} in-sync replicas"
        )
    for member, epoch in zip(proposal.new_isr, epochs, strict=True):
        if member not in state.isr:
            _check_new_member(draft, where, member, epoch)


def _check_new_member(draft: Draft, where: str, member: int, epoch: int) -> None:
    if not draft.may_lead(member):
        raise ClusterError(ErrorCode.ineligible_replica, f"{where}: replica {member} is fenced or shutting down")
    held = draft.image.brokers[member].broker_epoch
    if epoch not in (UNKNOWN_EPOCH, held):
        raise ClusterError(
            ErrorCode.ineligible_replica,
            f"{where}: replica {member} was in sync in broker epoch {epoch} and has registered anew since, with {held}",
        )


def report_damage(draft: Draft, request: ReportDamage) -> ReportDamageReply:
    """Take a damaged replica for incomplete, if another is complete.

    Raises BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION or, from a broker that
    holds no replica, INVALID_REQUEST.
    """
    node_id = request.node_id
    draft.registered(node_id, request.broker_epoch)
    topic, state = _find(draft, request.topic_id, request.partition)
    if node_id not in state.replicas:
        raise ClusterError(
            ErrorCode.invalid_request, f"{topic}-{request.partition} has its replicas on {list(state.replicas)}, not on {node_id}"
        )
    complete = {*state.isr, *state.elr}
    if complete != {node_id}:
        settle(draft, topic, state, without_disk(state, node_id), shunned=node_id)
    return ReportDamageReply(excluded=complete != {node_id}, state=_find(draft, request.topic_id, request.partition)[1])
