"""The cluster as the invariants see it: the newest committed image, what is committed of each partition, each replica's log."""

from uuid import UUID

from quorumlog.metadata.image import Image, PartitionState
from quorumlog.metadata.topic_config import unclean_election_allowed
from quorumlog.node.node import Node
from quorumlog.partitions.log import parse_directory_name
from quorumlog.partitions.partition import Partition
from tests.sim.disk import SimDisk

from .copies import Copy
from .ledger import Ledger
from .sight import Life, News, PartitionKey, Sight
from .voters import VoterTrack, quorum_of


class NodeTrack:
    """One process of a node."""

    def __init__(self, life: Life, node: Node, disk: SimDisk, *, follows_failure: bool) -> None:
        self.life = life
        self.node = node
        self.disk = disk
        self.machine = node.machine
        self.by_id = node.replicas.by_id
        self.copies: dict[Partition, Copy] = {}
        self.is_over = False
        self.image: Image | None = None  # as last seen
        self.controller = node.controller
        self.term: int | None = None
        quorum = quorum_of(node)
        self.voter = VoterTrack(quorum, follows_failure=follows_failure) if quorum is not None else None


class Model:
    """Owned by the `Watch`; the invariants read it."""

    def __init__(self) -> None:
        self.newest = Image(cluster_id="")
        self.states: dict[PartitionKey, PartitionState] = {}  # of the newest image
        self.ledgers: dict[PartitionKey, Ledger] = {}  # of deleted topics as well
        self.copies: dict[PartitionKey, dict[int, Copy]] = {}  # the last known of each node that was not wiped
        self.ids_of_topic: dict[str, list[UUID]] = {}  # a name may come back with another id
        self.wiped: dict[int, UUID | None] = {}  # node -> the storage id it had, until another is registered
        self._tracks: dict[int, NodeTrack] = {}
        self._rotten: dict[tuple[int, PartitionKey | None], None] = {}
        self._unclean_topics: dict[str, None] = {}
        self._news = News()

    # --- looking

    def look(self, sight: Sight) -> News | None:
        """What changed; None if nothing did."""
        for node_id in sight.moved:
            node = sight.nodes.get(node_id)
            if node is None:
                continue
            track = self._tracks.get(node_id)
            if track is None or track.node is not node:
                track = self._begin_life(node_id, node, sight.disks[node_id])
            self._look_at(track, self._news)
        return self._understood() if self._news else None

    def _understood(self) -> News:
        news, self._news = self._news, News()
        self._take_over(news)
        return news

    def acknowledged(self, topic: str, partition: int, offset: int) -> None:
        self._news.acknowledged.append((topic, partition, offset))

    def _begin_life(self, node_id: int, node: Node, disk: SimDisk) -> NodeTrack:
        before = self._tracks.get(node_id)
        failed = before is not None and before.voter is not None and before.voter.has_failed
        if before is not None:
            self._freeze(before)
        life = Life(node_id, before.life.number + 1 if before is not None else 1)
        track = self._tracks[node_id] = NodeTrack(life, node, disk, follows_failure=failed)
        return track

    def _look_at(self, track: NodeTrack, news: News) -> None:
        """The hot path: most of the time a node that ran has changed nothing that counts."""
        image = track.machine.image
        if image is not track.image:
            news.images.append((track.life, track.image or image, image))
            track.image = image
        if track.controller is not None:
            term = track.controller._term
            if term != track.term:
                track.term = term
                if term is not None:
                    news.controllers.append((track.life, term))
            voter = track.voter
            if voter is not None and voter.has_moved():
                news.voters.append((track.life, voter))
        copies = track.copies
        for partition in track.by_id.values():
            copy = copies.get(partition)
            if copy is None:
                copy = self._new_copy(track, partition)
            if copy.has_moved():
                news.copies.append(copy)

    def _new_copy(self, track: NodeTrack, partition: Partition) -> Copy:
        held = dict.fromkeys(track.by_id.values())
        for gone in [gone for gone in track.copies if gone not in held]:
            del track.copies[gone]
        key = (partition.topic_id, partition.tp.partition)
        ledger = self.ledgers.setdefault(key, Ledger(key))
        copy = Copy(track.life.node_id, track.life.number, partition, track.disk, ledger)
        track.copies[partition] = copy
        self.copies.setdefault(key, {})[track.life.node_id] = copy
        return copy

    # --- understanding

    def _take_over(self, news: News) -> None:
        for _, _, image in news.images:
            if image.index > self.newest.index:
                self._take_newest(image, news)
        for _, voter in news.voters:
            voter.follow()
        for copy in news.copies:
            copy.follow()
        # What belongs to a deleted topic proves nothing any more.
        news.copies = [copy for copy in news.copies if copy.key in self.states]
        for copy in news.copies:
            has_grown = copy.ledger.excuse is None and copy.commit()
            if has_grown or copy.is_anew:
                news.keys[copy.key] = None

    def _take_newest(self, image: Image, news: News) -> None:
        old, self.newest = self.newest, image
        for node_id, storage_id in list(self.wiped.items()):
            broker = image.broker(node_id)
            if broker is not None and broker.storage_id != storage_id:
                del self.wiped[node_id]
                news.keys.update(dict.fromkeys(self.states))
        for name, topic in image.topics.items():
            if old.topics.get(name) is topic:
                continue
            ids = self.ids_of_topic.setdefault(name, [])
            if topic.topic_id not in ids:
                ids.append(topic.topic_id)
            for state in topic.partitions.values():
                self._take_state(name, state, news)
        if old.topic_names is not image.topic_names:
            for key in [key for key in self.states if key[0] not in image.topic_names]:
                del self.states[key]
                self.copies.pop(key, None)
                news.keys.pop(key, None)

    def _take_state(self, name: str, state: PartitionState, news: News) -> None:
        key = (state.topic_id, state.partition)
        before = self.states.get(key)
        if before == state:
            return
        self.states[key] = state
        news.states.append((before, state))
        news.keys[key] = None
        ledger = self.ledgers.setdefault(key, Ledger(key))
        held = self.copies.get(key, {})
        for node_id in [node_id for node_id in held if node_id not in state.replicas]:
            del held[node_id]
        is_incomplete = before is not None and state.leader not in {before.leader, -1, *before.isr, *before.elr}
        if is_incomplete and self._may_be_unclean(name):
            ledger.excuse = f"node {state.leader} was elected uncleanly in epoch {state.leader_epoch}"

    def _may_be_unclean(self, topic: str) -> bool:
        if topic in self._unclean_topics:
            return True
        defaults = [track.node.config.broker_defaults for track in self._tracks.values()]
        return any(unclean_election_allowed(self.newest, topic, default) for default in defaults)

    # --- what the simulator does to nodes

    def on_crash(self, node_id: int, *, power: bool) -> News | None:
        """What was done up to this end of a process: what it said before may arrive yet."""
        dying = self._tracks.get(node_id)
        if dying is None or dying.is_over:
            return None
        for track in self._tracks.values():
            if not track.is_over:
                self._look_at(track, self._news)
        self._forgive_half_done(dying, self._news)
        news = self._understood() if self._news else None
        self._freeze(dying)
        for copy in dying.copies.values():
            state = self.states.get(copy.key)
            if power and not copy.vouches_by_sync and state is not None and node_id in {*state.isr, *state.elr}:
                copy.ledger.excuse = f"node {node_id} lost power, and flush.policy is os"
        return news

    @staticmethod
    def _forgive_half_done(dying: NodeTrack, news: News) -> None:
        """An error may have ended the process in the middle of a truncation, with files that do not fit what it remembers."""
        news.copies = [copy for copy in news.copies if copy.node_id != dying.life.node_id or not copy.is_cut]

    def _freeze(self, track: NodeTrack) -> None:
        track.is_over = True
        for copy in track.copies.values():
            copy.is_frozen = True

    def on_wipe(self, node_id: int) -> None:
        track = self._tracks.get(node_id)
        if track is not None:
            self._freeze(track)
        for held in self.copies.values():
            held.pop(node_id, None)
        broker = self.newest.broker(node_id)
        self.wiped.setdefault(node_id, broker.storage_id if broker is not None else None)
        for rotten in [rotten for rotten in self._rotten if rotten[0] == node_id]:
            del self._rotten[rotten]
        self._excuse_lost()

    def on_rot(self, node_id: int, path: str | None) -> None:
        key = None
        if path is not None:
            parts = path.split("/")
            owner = parse_directory_name(parts[1]) if len(parts) > 1 else None
            if owner is None:
                return  # no partition's file
            key = (owner[1], owner[0].partition)
        self._rotten[node_id, key] = None
        self._excuse_lost()

    def on_unclean_election(self, topic: str) -> None:
        self._unclean_topics[topic] = None

    def is_rotten(self, node_id: int, key: PartitionKey) -> bool:
        """Bytes of this replica may be other than what was written."""
        return (node_id, key) in self._rotten or (node_id, None) in self._rotten

    def is_doubtful(self, copy: Copy) -> bool:
        """It was damaged from outside, and shows it: nothing can be asked of it until it is repaired."""
        return self.is_rotten(copy.node_id, copy.key) and (copy.stand.damage is not None or copy.fault is not None)

    def _excuse_lost(self) -> None:
        """Where everybody who had to hold all that is committed has lost a disk, it may be lost: no fault of the cluster's."""
        for key, state in self.states.items():
            holders = {*state.isr, *state.elr}
            if holders and all(node in self.wiped or self.is_rotten(node, key) for node in holders):
                self.ledgers[key].excuse = f"all complete replicas, {sorted(holders)}, lost a disk"

    # --- the end

    def everything(self, sight: Sight) -> News:
        """As if all had changed, and with every log read again."""
        news = News()
        for node_id in sorted(sight.nodes):
            track = self._tracks.get(node_id)
            if track is None:
                continue
            if track.voter is not None and track.voter.stand is not None:
                news.voters.append((track.life, track.voter))
            for partition in track.by_id.values():
                copy = track.copies.get(partition)
                if copy is not None and copy.key in self.states:
                    copy.reread()
                    news.copies.append(copy)
        news.keys = dict.fromkeys(self.states)
        return news
