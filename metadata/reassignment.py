"""Partitions move to other brokers while they are written and read (KIP-455).

    replicas   1 2 3       move to 3 4 5       3 4 5 1 2           all of 3 4 5 in sync      3 4 5
    adding                 ------------->      4 5                 --------------------->
    removing                                   1 2

The new replicas are added and fetch from the leader like any follower. The change of the in-sync set with which the last of them
comes in ends the move (`elections.completed`): in the same record the old ones go, and one of the new leads if the leader was
among the old. Who leads and who is in sync follows the same rules as ever in between, whatever becomes of the brokers.
"""

from dataclasses import replace

from quorumlog.wire.errors import ClusterError, ErrorCode

from .draft import Draft
from .elections import settle, with_isr
from .image import PartitionState
from .requests import AlterReassignments, AlterReassignmentsReply, Reassignment, ReassignmentResult

NAME_SHOWN = 249


def alter_reassignments(draft: Draft, request: AlterReassignments) -> AlterReassignmentsReply:
    """Each partition has a result of its own."""
    fixed_factor = not request.allow_replication_factor_change
    return AlterReassignmentsReply(tuple(_result(draft, asked, fixed_factor=fixed_factor) for asked in request.partitions))


def _result(draft: Draft, asked: Reassignment, *, fixed_factor: bool) -> ReassignmentResult:
    refusal = draft.attempt(lambda: _alter(draft, asked, fixed_factor=fixed_factor))
    code, message = (ErrorCode.none, None) if refusal is None else (refusal.code, refusal.message)
    return ReassignmentResult(asked.topic, asked.partition, code, message)


def _alter(draft: Draft, asked: Reassignment, *, fixed_factor: bool) -> None:
    state = draft.image.partition(asked.topic, asked.partition)
    if state is None:
        where = f"{asked.topic[:NAME_SHOWN]}-{asked.partition}"
        raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no partition {where}")
    if asked.target is None:
        _cancel(draft, asked.topic, state)
        return
    _check_target(draft, asked, asked.target)
    if fixed_factor and len(asked.target) != len(state.target):
        raise ClusterError(
            ErrorCode.invalid_replication_factor,
            f"{asked.topic}-{asked.partition} would go from {len(state.target)} replicas to {len(asked.target)}, "
            "and the request allows no change of their number",
        )
    _move(draft, asked.topic, state, asked.target)


def _check_target(draft: Draft, asked: Reassignment, target: tuple[int, ...]) -> None:
    """Raises INVALID_REPLICA_ASSIGNMENT."""
    where = f"{asked.topic}-{asked.partition}"
    if not target:
        raise ClusterError(ErrorCode.invalid_replica_assignment, f"{where}: no replicas are named; the least is one")
    unknown = next((node for node in target if node not in draft.image.brokers), None)
    if unknown is not None:
        raise ClusterError(ErrorCode.invalid_replica_assignment, f"{where}: broker {unknown} is not registered")
    if len(set(target)) < len(target):
        raise ClusterError(ErrorCode.invalid_replica_assignment, f"{where}: a broker is named twice")


def _move(draft: Draft, topic: str, state: PartitionState, target: tuple[int, ...]) -> None:
    """Another move that is under way is replaced: what it has brought goes, unless it is all that is complete."""
    original = state.original if _holders_within(state, {*state.original, *target}) else state.replicas
    moving = replace(
        state,
        replicas=(*target, *sorted(set(original) - set(target))),
        adding=tuple(sorted(set(target) - set(original))),
        removing=tuple(sorted(set(original) - set(target))),
    )
    settle(draft, topic, state, _among_replicas(draft, topic, moving))


def _cancel(draft: Draft, topic: str, state: PartitionState) -> None:
    """Raises NO_REASSIGNMENT_IN_PROGRESS, or INVALID_REPLICA_ASSIGNMENT where only what came with the move is complete."""
    where = f"{topic}-{state.partition}"
    if not state.is_moving:
        raise ClusterError(ErrorCode.no_reassignment_in_progress, f"{where} is not being moved")
    reverted = _among_replicas(draft, topic, replace(state, replicas=state.original, adding=(), removing=()))
    eligible = any(draft.may_lead(node) for node in reverted.elr)
    if not _holders_within(state, set(state.original)) and not eligible and not draft.unclean_election_allowed(topic):
        raise ClusterError(
            ErrorCode.invalid_replica_assignment,
            f"{where}: none of its former replicas {list(state.original)} is in sync (in sync are {list(state.isr)}); "
            "going back would need an unclean election",
        )
    settle(draft, topic, state, reverted)


def _holders_within(state: PartitionState, replicas: set[int]) -> bool:
    """Would somebody who is complete remain among these? True also if nobody is to begin with."""
    holders = set(state.isr or state.elr)
    return not holders or bool(holders & replicas)


def _among_replicas(draft: Draft, topic: str, state: PartitionState) -> PartitionState:
    """Only replicas are in sync or eligible; the least in-sync set may be another one now."""
    among = replace(
        state,
        isr=tuple(node for node in state.isr if node in state.replicas),
        elr=tuple(node for node in state.elr if node in state.replicas),
    )
    return with_isr(among, set(among.isr), draft.min_isr(topic, among))
