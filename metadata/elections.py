"""Who is in sync, who is eligible, who leads: what happens to a partition when replicas go and come.

A partition's in-sync set (ISR) holds every committed record in each member. A member that leaves it while it is smaller than
`min.insync.replicas` goes to the eligible leader replicas (ELR, KIP-966): the high watermark advances only while the ISR has at
least that many members, and over flushed offsets only, so that an ELR member holds all that is committed, too. The ELR ends when
the ISR is large enough again. With a least number of 1 the last member stays in the ISR while it is away, as in Kafka before.
"""

from dataclasses import replace

from quorumlog.wire.errors import ClusterError, ErrorCode

from .draft import Draft
from .image import NO_LEADER, PartitionState
from .records import PartitionChange
from .requests import ElectionResult, ElectLeaders, ElectLeadersReply, TopicPartitions

# --- what becomes of a partition; epochs are set when the change is written


def with_isr(state: PartitionState, isr: set[int], min_isr: int) -> PartitionState:
    """Another in-sync set. Who leaves it is eligible as long as it is too small for commits."""
    elr = set() if len(isr) >= min_isr else {*state.elr, *state.isr} - isr
    return replace(state, isr=tuple(sorted(isr)), elr=tuple(sorted(elr)))


def without(state: PartitionState, node_id: int, min_isr: int) -> PartitionState:
    """A replica goes, with its disk whole: it leaves the ISR, unless nobody would know any more who is complete."""
    if node_id not in state.isr or (state.isr == (node_id,) and min_isr <= 1):
        return state
    return with_isr(state, set(state.isr) - {node_id}, min_isr)


def without_disk(state: PartitionState, node_id: int) -> PartitionState:
    """A replica lost its records: it is neither in sync nor eligible, even if nobody is left."""
    return replace(
        state,
        isr=tuple(member for member in state.isr if member != node_id),
        elr=tuple(member for member in state.elr if member != node_id),
    )


def elected(state: PartitionState, candidates: tuple[int, ...], min_isr: int, *, unclean: bool) -> PartitionState:
    """The leader stays if it can; otherwise the first candidate of the ISR, else of the ELR, else (unclean) any, else nobody."""
    if state.leader in state.isr and state.leader in candidates:
        return state
    for candidate in candidates:
        if candidate in state.isr:
            return replace(state, leader=candidate)
    for candidate in candidates:
        if candidate in state.elr:
            return replace(with_isr(state, {candidate}, min_isr), leader=candidate)
    if unclean and candidates:
        # Its log is the truth from now on; whoever held more has to cut it off.
        return replace(state, leader=candidates[0], isr=(candidates[0],), elr=())
    return replace(state, leader=NO_LEADER)


def completed(state: PartitionState) -> PartitionState:
    """A reassignment is over as soon as every replica that stays is in sync: they hold all that is committed, the others go."""
    if not state.is_moving or not set(state.target) <= set(state.isr):
        return state
    return replace(state, replicas=state.target, isr=tuple(sorted(state.target)), elr=(), adding=(), removing=())


def change_between(old: PartitionState, new: PartitionState) -> PartitionChange | None:
    """What to log so that `old` becomes `new` with its epochs raised; None if they are the same."""
    if old == new:
        return None
    led_anew = new.leader != old.leader
    # A replica that goes and comes again begins with nothing: what it said before must not count in the epoch after.
    begins_epoch = led_anew or not set(old.replicas) <= set(new.replicas)
    return PartitionChange(
        topic_id=old.topic_id,
        partition=old.partition,
        partition_epoch=old.partition_epoch + 1,
        isr=new.isr if new.isr != old.isr else None,
        elr=new.elr if new.elr != old.elr else None,
        leader=new.leader if led_anew else None,
        leader_epoch=old.leader_epoch + 1 if begins_epoch else None,
        replicas=new.replicas if new.replicas != old.replicas else None,
        adding=new.adding if new.adding != old.adding else None,
        removing=new.removing if new.removing != old.removing else None,
    )


# --- deciding


def settle(
    draft: Draft,
    topic: str,
    old: PartitionState,
    new: PartitionState,
    *,
    unclean: bool | None = None,
    shunned: int | None = None,
) -> None:
    """Write the change from `old` to `new`, with a reassignment ended that is complete by it, and a leader elected if there is
    need; `shunned` is no candidate this time.

    `unclean` None leaves it to the topic's setting whether a replica that is not complete may be elected.
    """
    new = completed(new)
    candidates = tuple(node for node in new.replicas if node != shunned and draft.may_lead(node))
    if unclean is None:
        unclean = draft.unclean_election_allowed(topic)
    # An election may leave the elected alone in sync, and that may be all that the reassignment waited for.
    new = completed(elected(new, candidates, draft.min_isr(topic, new), unclean=unclean))
    change = change_between(old, new)
    if change is not None:
        draft.add(change)


def release(draft: Draft, node_id: int) -> None:
    """The broker goes (fenced, restarted, or shutting down): it leads nothing and leaves the ISRs that it can leave."""
    for topic, state in draft.partitions_on(node_id):
        settle(draft, topic, state, without(state, node_id, draft.min_isr(topic, state)))


def release_disk(draft: Draft, node_id: int) -> None:
    """The broker's disk is another one: it is complete nowhere."""
    for topic, state in draft.partitions_on(node_id):
        settle(draft, topic, state, without_disk(state, node_id))


def elect_missing(draft: Draft) -> None:
    """Elect a leader for each partition that has none and can have one."""
    for topic, state in draft.partitions():
        if state.leader == NO_LEADER:
            settle(draft, topic, state, state)


def move_to_preferred(draft: Draft, moves_max: int) -> bool:
    """Give leadership back to preferred replicas, at most so many; True if there are more to move."""
    moves = 0
    for _, state in draft.partitions():
        if state.leader in (NO_LEADER, state.replicas[0]) or not _preferred_can_lead(draft, state):
            continue
        if moves == moves_max:
            return True
        _lead_by_preferred(draft, state)
        moves += 1
    return False


def _preferred_can_lead(draft: Draft, state: PartitionState) -> bool:
    return state.replicas[0] in state.isr and draft.may_lead(state.replicas[0])


def _lead_by_preferred(draft: Draft, state: PartitionState) -> None:
    change = change_between(state, replace(state, leader=state.replicas[0]))
    assert change is not None, state
    draft.add(change)


# --- on request


def elect_leaders(draft: Draft, request: ElectLeaders) -> ElectLeadersReply:
    """For all partitions, those that need no election are left out of the reply, as Kafka does."""
    results = []
    for topic, partition in _asked(draft, request.partitions):
        refusal = draft.attempt(lambda topic=topic, partition=partition: _elect(draft, topic, partition, request.preferred))  # type: ignore[misc]
        if refusal is None:
            results.append(ElectionResult(topic, partition, ErrorCode.none, None))
        elif request.partitions is not None or refusal.code is not ErrorCode.election_not_needed:
            results.append(ElectionResult(topic, partition, refusal.code, refusal.message))
    return ElectLeadersReply(tuple(results))


def _asked(draft: Draft, partitions: tuple[TopicPartitions, ...] | None) -> list[tuple[str, int]]:
    if partitions is None:
        return [(topic, state.partition) for topic, state in draft.partitions()]
    return [(asked.topic, partition) for asked in partitions for partition in asked.partitions]


def _elect(draft: Draft, topic: str, partition: int, preferred: bool) -> None:
    state = draft.image.partition(topic, partition)
    if state is None:
        raise ClusterError(ErrorCode.unknown_topic_or_partition, f"there is no partition {topic}-{partition}")
    if preferred:
        _elect_preferred(draft, topic, state)
    else:
        _elect_unclean(draft, topic, state)


def _elect_preferred(draft: Draft, topic: str, state: PartitionState) -> None:
    where, preferred = f"{topic}-{state.partition}", state.replicas[0]
    if state.leader == preferred:
        raise ClusterError(ErrorCode.election_not_needed, f"{where} is led by its preferred replica {preferred}")
    if not _preferred_can_lead(draft, state):
        raise ClusterError(
            ErrorCode.preferred_leader_not_available,
            f"{where}: preferred replica {preferred} is not live or not in sync (in sync are {list(state.isr)})",
        )
    _lead_by_preferred(draft, state)


def _elect_unclean(draft: Draft, topic: str, state: PartitionState) -> None:
    where = f"{topic}-{state.partition}"
    if state.leader != NO_LEADER:
        raise ClusterError(ErrorCode.election_not_needed, f"{where} is led by {state.leader}")
    settle(draft, topic, state, state, unclean=True)
    elected_state = draft.image.partition(topic, state.partition)
    if elected_state == state:
        raise ClusterError(ErrorCode.eligible_leaders_not_available, f"{where}: none of {list(state.replicas)} is live")
