"""One member of a classic group: what it said when it joined, what it was assigned, and which of its requests waits."""

from collections.abc import Collection
from dataclasses import dataclass

from .records import MemberMetadata
from .results import Waiter

Protocols = tuple[tuple[str, bytes], ...]
"""Names and metadata of the protocols (assignors) that a member can follow, the one it likes best first."""


@dataclass(slots=True, eq=False)
class ClassicMember:
    """Owned by its ClassicGroup, which also counts the members that wait for a join: set `join_waiter` through it alone."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    protocols: Protocols
    assignment: bytes = b""
    join_waiter: Waiter | None = None
    sync_waiter: Waiter | None = None
    is_new: bool = False  # it cannot send heartbeats yet, so its first join expires by itself

    @classmethod
    def of_saved(cls, saved: MemberMetadata, protocol: str) -> "ClassicMember":
        """As it is known after loading: of its protocols only the one that the group followed."""
        return cls(
            saved.member_id,
            saved.instance_id,
            saved.client_id,
            saved.client_host,
            saved.rebalance_timeout_ms,
            saved.session_timeout_ms,
            ((protocol, saved.subscription),),
            saved.assignment,
        )

    @property
    def is_static(self) -> bool:
        return self.instance_id is not None

    @property
    def is_excused(self) -> bool:
        """May it miss heartbeats, since it waits for us?"""
        return not self.is_new and (self.join_waiter is not None or self.sync_waiter is not None)

    def metadata(self, protocol: str | None) -> bytes:
        return next((metadata for name, metadata in self.protocols if name == protocol), b"")

    def vote(self, candidates: Collection[str]) -> str:
        """The one it likes best; all members support each candidate."""
        return next(name for name, _ in self.protocols if name in candidates)

    def saved(self, protocol: str | None, assignment: bytes) -> MemberMetadata:
        return MemberMetadata(
            member_id=self.member_id,
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=self.rebalance_timeout_ms,
            session_timeout_ms=self.session_timeout_ms,
            subscription=self.metadata(protocol),
            assignment=assignment,
        )
