"""The format step: whose storage this is.

A voter that lost its disk must not vote under its old id: it could elect a leader without the entries it once acknowledged.
So storage is formatted once, explicitly, and a quorum refuses storage without the record.

    b"raft/identity" -> JSON {"cluster_id", "node_id", "storage_id", "voters"}
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from quorumlog.host.ports import KVStore, WriteBatch
from quorumlog.raft.errors import StorageRefused
from quorumlog.raft.journal import begin_journal

IDENTITY_KEY = b"raft/identity"


@dataclass(frozen=True, slots=True)
class StorageIdentity:
    """Written once by `format_quorum`. `voters` are the ids that elect the controller; the node itself need not be one."""

    cluster_id: str
    node_id: int
    storage_id: str
    voters: tuple[int, ...]


def format_quorum(store: KVStore, *, cluster_id: str, node_id: int, storage_id: str, voters: Sequence[int]) -> StorageIdentity:
    """Make an empty store a node's storage, durably. Raises StorageRefused if it is formatted already."""
    held = read_identity(store)
    if held is not None:
        raise StorageRefused(f"the storage is formatted already: cluster {held.cluster_id!r}, node {held.node_id}")
    identity = StorageIdentity(cluster_id, node_id, storage_id, tuple(voters))
    batch = WriteBatch()
    batch.put(IDENTITY_KEY, _encode(identity))
    begin_journal(batch)
    store.write(batch)
    store.sync()
    return identity


def read_identity(store: KVStore) -> StorageIdentity | None:
    """The record of the format step, or None if the store was never formatted. Raises StorageRefused if it is unreadable."""
    value = store.get(IDENTITY_KEY)
    if value is None:
        return None
    try:
        fields = json.loads(value)
        return StorageIdentity(fields["cluster_id"], fields["node_id"], fields["storage_id"], tuple(fields["voters"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StorageRefused(f"the storage's identity record is unreadable: {value[:100]!r}") from error


def adopt_voters(store: KVStore, voters: Sequence[int]) -> StorageIdentity:
    """Write the voters into an identity that was formatted without any, durably. Raises StorageRefused if it has some."""
    held = read_identity(store)
    if held is None or held.voters:
        raise StorageRefused(f"only storage formatted without voters can adopt some; this is {held}")
    identity = StorageIdentity(held.cluster_id, held.node_id, held.storage_id, tuple(voters))
    batch = WriteBatch()
    batch.put(IDENTITY_KEY, _encode(identity))
    store.write(batch)
    store.sync()
    return identity


def require_identity(store: KVStore, *, node_id: int, voters: Sequence[int]) -> StorageIdentity:
    """The store's identity if it is this voter's. Raises StorageRefused saying what differs."""
    identity = read_identity(store)
    if identity is None:
        raise StorageRefused(f"the storage of node {node_id} is not formatted")
    if identity.node_id != node_id:
        raise StorageRefused(f"the storage belongs to node {identity.node_id}, not to node {node_id}")
    if set(identity.voters) != set(voters):
        raise StorageRefused(f"the storage was formatted for the voters {sorted(identity.voters)}, not for {sorted(voters)}")
    return identity


def _encode(identity: StorageIdentity) -> bytes:
    fields = {
        "cluster_id": identity.cluster_id,
        "node_id": identity.node_id,
        "storage_id": identity.storage_id,
        "voters": list(identity.voters),
    }
    return json.dumps(fields).encode()
