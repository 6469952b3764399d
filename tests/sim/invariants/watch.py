"""All invariants, watched together: the simulator's door to this folder.

after each instant of virtual time          Watch.look(Sight(now, nodes, disks, moved))
a process ended (crash, fatal, clean stop)  Watch.on_crash
a disk was replaced by an empty one         Watch.on_wipe
bits flipped, a read failed or lied         Watch.on_rot
an answer to acks=all reached a client      Watch.on_acknowledged
all is healed and all work is done          Watch.finish
"""

from collections.abc import Callable

from .acknowledgments import AcknowledgedIsCommitted
from .compacted import CompactionKeepsLast
from .events import EventsOnce
from .in_sync import InSyncIsComplete, InSyncIsValid, LeaderCountsAll
from .leaders import HighWatermarkRises, LeaderIsComplete, OneLeaderAnEpoch
from .logs import CommittedStays, DamageHasACause, SequencesGoOn, StoredIsSound
from .metadata import EpochsRise, ImagesAgree, ImagesGoForward, OneControllerATerm
from .model import Model
from .quorum import CommittedEntriesStay, OneLeaderATerm, PromisesSurvive
from .sight import Invariant, News, Sight

# The most telling first: one fault often breaks several.
ALL: tuple[Callable[[Model], Invariant], ...] = (
    OneLeaderATerm,
    CommittedEntriesStay,
    PromisesSurvive,
    OneControllerATerm,
    ImagesAgree,
    ImagesGoForward,
    EpochsRise,
    InSyncIsValid,
    OneLeaderAnEpoch,
    LeaderCountsAll,
    HighWatermarkRises,
    StoredIsSound,
    CommittedStays,
    CompactionKeepsLast,
    EventsOnce,
    LeaderIsComplete,
    InSyncIsComplete,
    SequencesGoOn,
    DamageHasACause,
    AcknowledgedIsCommitted,
)


class Watch:
    """Owned by one run of the simulator. Every method may raise Violation."""

    def __init__(self) -> None:
        self.model = Model()
        self.invariants = [make(self.model) for make in ALL]

    def look(self, sight: Sight) -> None:
        news = self.model.look(sight)
        if news is not None:
            self._show(news)

    def _show(self, news: News) -> None:
        for invariant in self.invariants:
            invariant.look(news)

    def on_crash(self, node_id: int, *, power: bool = True) -> None:
        """The node's process ends now, however it does; called before its disk suffers. `power`: what was not synced may go."""
        news = self.model.on_crash(node_id, power=power)
        if news is not None:
            self._show(news)

    def on_wipe(self, node_id: int, *, keeps_quorum: bool = False) -> None:
        """The node's disk and store are gone, its process as well; what comes next has another storage id.

        `keeps_quorum`: what Raft had in them was carried over, as a voter needs.
        """
        self.model.on_wipe(node_id)
        if not keeps_quorum:
            for invariant in self.invariants:
                invariant.on_quorum_wiped(node_id)

    def on_rot(self, node_id: int, path: str | None = None) -> None:
        """The simulator flipped or cut bytes of a file, or let a read of it fail or lie; None: of any."""
        self.model.on_rot(node_id, path)

    def on_unclean_election(self, topic: str) -> None:
        """Somebody asks for an unclean election: from here on an incomplete leader is none of the cluster's faults."""
        self.model.on_unclean_election(topic)

    def on_acknowledged(self, topic: str, partition: int, last_offset: int) -> None:
        """A client was told that acks=all is met for records up to `last_offset`. Judged at the next look."""
        self.model.acknowledged(topic, partition, last_offset)

    def on_event_acknowledged(self, topic: str, partition: int, event: str, offset: int | None) -> None:
        """A client was told that an event is stored; `offset` None where it was not told where."""
        for invariant in self.invariants:
            if isinstance(invariant, EventsOnce):
                invariant.acknowledged(topic, partition, event.encode(), offset)

    def finish(self, sight: Sight) -> None:
        """The last look: `sight.moved` should name every node. All logs are read again, and must hold all that was committed."""
        self.look(sight)
        self._show(self.model.everything(sight))
        for invariant in self.invariants:
            invariant.finish()

    @property
    def excuses(self) -> list[str]:
        """Partitions that may have lost records by no fault of the cluster's, and why."""
        return [
            f"{self.model.newest.topic_names.get(key[0], key[0])}-{key[1]}: {ledger.excuse}"
            for key, ledger in sorted(self.model.ledgers.items(), key=lambda item: (item[0][0].int, item[0][1]))
            if ledger.excuse is not None
        ]
