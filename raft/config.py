"""The settings of one voter of the metadata quorum, checked once."""

from dataclasses import dataclass

ENTRY_OVERHEAD_BYTES = 16
"""What an entry costs in a frame beside its command: tags, lengths and its term."""
FRAME_OVERHEAD_BYTES = 4096
_LIMITS = (
    "snapshot_every_entries",
    "command_bytes_max",
    "in_flight_commands_max",
    "in_flight_bytes_max",
    "in_flight_reads_max",
    "snapshot_chunk_bytes",
    "snapshot_chunks_in_flight",
    "snapshot_bytes_max",
)


@dataclass(frozen=True, slots=True)
class QuorumConfig:
    """Times in seconds, sizes in bytes. Raises ValueError naming the setting that does not fit."""

    node_id: int
    voters: tuple[int, ...]
    election_timeout_min_s: float = 0.5
    election_timeout_max_s: float = 1.0
    heartbeat_s: float = 0.1
    early_election_step_s: float = 0.05
    """When the leader's process is known to be gone, the survivors start one after the other, this far apart."""
    snapshot_every_entries: int = 5000
    trailing_entries: int = 1000
    """Entries kept behind a snapshot, so that a follower that is a little behind needs no snapshot."""
    command_bytes_max: int = 1 << 20
    append_batch_bytes: int = (1 << 20) + (1 << 16)
    in_flight_commands_max: int = 10_000
    in_flight_bytes_max: int = 64 << 20
    in_flight_reads_max: int = 10_000
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_chunks_in_flight: int = 4
    snapshot_bytes_max: int = 256 << 20

    def __post_init__(self) -> None:
        for complaint in self._complaints():
            raise ValueError(complaint)

    def _complaints(self) -> list[str]:
        low, high = self.election_timeout_min_s, self.election_timeout_max_s
        rules = (
            (self.node_id in self.voters, f"node_id {self.node_id} is not one of the voters {self.voters}"),
            (self._voters_are_sane(), f"voters {self.voters} must be distinct ids in 0..2^31-1"),
            (0 < self.heartbeat_s * 3 < low, f"heartbeat_s {self.heartbeat_s} must be above 0 and under a third of {low}"),
            (low < high, f"election_timeout_max_s {high} must exceed election_timeout_min_s {low}"),
            # The core sends a larger command through a path that pickles it.
            (
                self.append_batch_bytes > self.command_bytes_max + 1,
                f"append_batch_bytes {self.append_batch_bytes} must exceed command_bytes_max {self.command_bytes_max} + 1",
            ),
            *((getattr(self, name) >= 1, f"{name} {getattr(self, name)} must be at least 1") for name in _LIMITS),
            (self.trailing_entries >= 0, f"trailing_entries {self.trailing_entries} must not be negative"),
            (self.early_election_step_s >= 0, f"early_election_step_s {self.early_election_step_s} must not be negative"),
        )
        return [complaint for holds, complaint in rules if not holds]

    def _voters_are_sane(self) -> bool:
        return len(set(self.voters)) == len(self.voters) and all(0 <= voter < 1 << 31 for voter in self.voters)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def peers(self) -> tuple[int, ...]:
        """The other voters, ascending."""
        return tuple(sorted(voter for voter in self.voters if voter != self.node_id))

    @property
    def frame_bytes_max(self) -> int:
        """No valid frame is larger; a transport may refuse what is."""
        largest_append = self.append_batch_bytes + self.command_bytes_max + ENTRY_OVERHEAD_BYTES
        return max(largest_append, self.snapshot_chunk_bytes) + FRAME_OVERHEAD_BYTES
