"""The next step of one member from what it has to what it shall have (KIP-848).

    Stable               it has all that it shall have in its epoch
    UnrevokedPartitions  it was told to give some up, and has not said yet that it did; it stays in its epoch until then
    UnreleasedPartitions it is in the target epoch, and waits for partitions that others have not given up yet

A partition is given to a member only when nobody else owns it: its last owner has told that it reads it no more, or is gone.
"""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from .consumer_records import STABLE, UNRELEASED_PARTITIONS, UNREVOKED_PARTITIONS, Epochs, Partitions, Position

Owned = Mapping[UUID, Sequence[int]] | None
"""What a member says it has; None if it says nothing, which is: as before."""


def next_position(
    position: Position, *, target_epoch: int, target: Partitions, owned: Owned, is_free: Callable[[UUID, int], bool]
) -> Position:
    """The same object, if there is no step to take."""
    if position.state == STABLE and position.epoch == target_epoch:
        return position
    if position.state == UNREVOKED_PARTITIONS and _still_has(position.revoking, owned):
        return position
    kept, surplus = _divided(position.assigned, target)
    if surplus and _still_has(surplus, owned):
        return _stepped(position, position.epoch, UNREVOKED_PARTITIONS, kept, surplus)
    return _forward(position, target_epoch, target, kept, is_free)


def _forward(
    position: Position, target_epoch: int, target: Partitions, kept: Epochs, is_free: Callable[[UUID, int], bool]
) -> Position:
    """Nothing is left to give up: it gets what is free of what it lacks."""
    assigned: Epochs = {}
    state = STABLE
    for topic_id, partitions in target.items():
        epochs = dict(kept.get(topic_id, {}))
        for partition in partitions:
            if partition not in epochs:
                if is_free(topic_id, partition):
                    epochs[partition] = target_epoch
                else:
                    state = UNRELEASED_PARTITIONS
        if epochs:
            assigned[topic_id] = dict(sorted(epochs.items()))
    return _stepped(position, target_epoch, state, assigned, {})


def _stepped(position: Position, epoch: int, state: int, assigned: Epochs, revoking: Epochs) -> Position:
    """The epoch before is remembered, for a member that did not hear of the new one."""
    previous = position.previous_epoch if epoch == position.epoch else position.epoch
    stepped = Position(epoch, previous, state, assigned, revoking)
    return position if stepped == position else stepped


def _divided(assigned: Epochs, target: Partitions) -> tuple[Epochs, Epochs]:
    """What is kept and what is not."""
    kept: Epochs = {}
    surplus: Epochs = {}
    for topic_id, epochs in assigned.items():
        wanted = frozenset(target.get(topic_id, ()))
        for partition, epoch in epochs.items():
            part = kept if partition in wanted else surplus
            part.setdefault(topic_id, {})[partition] = epoch
    return kept, surplus


def _still_has(partitions: Epochs, owned: Owned) -> bool:
    if owned is None:
        return True
    return any(partition in partitions.get(topic_id, {}) for topic_id, held in owned.items() for partition in held)
