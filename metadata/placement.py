"""On which brokers the replicas of new partitions go.

Per topic, leaders are spread evenly (the counts of any two live brokers differ by at most one), then replicas (without racks: by
at most two); the replicas of a partition stand on as many racks as there are. Ties go to the broker that shares the fewest
partitions with the leader, then to the one with the least to do in the whole cluster. Of the followers that comes first, and so
leads when the leader dies, who is first behind this leader least often: a broker's death does not burden one neighbour with all
it led. Deterministic: equal images place alike.

Leaders are live. Followers may be fenced brokers where there are not enough live ones, or none on another rack, as in Kafka: one
that is down for an hour must not keep anybody from creating topics; it gets its replicas when it is back.
"""

from collections import Counter
from collections.abc import Iterable

from .image import Image

Replicas = tuple[int, ...]


class Placer:
    """Lives for one request. Remembers what it has placed."""

    def __init__(self, image: Image) -> None:
        usable = {node: broker for node, broker in sorted(image.brokers.items()) if broker.fenced or not broker.in_shutdown}
        self._racks: dict[int, str | None] = {node: broker.rack for node, broker in usable.items()}
        self._live = [node for node, broker in usable.items() if not broker.fenced]
        self._cluster = Load()
        for topic in image.topics.values():
            for state in topic.partitions.values():
                self._cluster.count(state.replicas)

    @property
    def broker_count(self) -> int:
        """Brokers that can take replicas: the greatest replication factor that can be placed. None while nobody could lead."""
        return len(self._racks) if self._live else 0

    def place(self, existing: Iterable[Replicas], count: int, replication_factor: int) -> list[Replicas]:
        """Replicas, the preferred leader first, for `count` more partitions of a topic that has the existing ones."""
        assert 1 <= replication_factor <= self.broker_count, (replication_factor, self.broker_count)
        topic = Load()
        for replicas in existing:
            topic.count(replicas)
        placed = []
        for _ in range(count):
            replicas = self._next(topic, replication_factor)
            topic.count(replicas)
            self._cluster.count(replicas)
            placed.append(replicas)
        return placed

    def _next(self, topic: "Load", replication_factor: int) -> Replicas:
        replicas = [min(self._live, key=lambda node: self._leader_cost(topic, node))]
        while len(replicas) < replication_factor:
            leader = replicas[0]
            replicas.append(min(self._followers(replicas), key=lambda node: self._follower_cost(topic, leader, node)))
        leader, *followers = replicas
        return (leader, *sorted(followers, key=lambda node: self._heir_cost(topic, leader, node)))

    def _followers(self, chosen: list[int]) -> list[int]:
        """Who can be next: on a rack of its own, if there is one."""
        racks = {self._racks[node] for node in chosen}
        others = [node for node in self._racks if node not in chosen]
        return [node for node in others if self._racks[node] not in racks] or others

    def _leader_cost(self, topic: "Load", node: int) -> tuple[int, ...]:
        cluster = self._cluster
        return topic.leaders[node], topic.replicas[node], cluster.leaders[node], cluster.replicas[node], node

    def _follower_cost(self, topic: "Load", leader: int, node: int) -> tuple[int, ...]:
        # Followed partitions are counted apart from led ones: who has not yet led in this round is going to.
        cluster = self._cluster
        follows = topic.replicas[node] - topic.leaders[node]
        return (
            node not in self._live,
            follows,
            topic.pairs[leader, node],
            cluster.pairs[leader, node],
            cluster.replicas[node],
            node,
        )

    def _heir_cost(self, topic: "Load", leader: int, node: int) -> tuple[int, ...]:
        return node not in self._live, topic.heirs[leader, node], self._cluster.heirs[leader, node]


class Load:
    """What brokers hold: of one topic, or of all."""

    def __init__(self) -> None:
        self.leaders: Counter[int] = Counter()
        self.replicas: Counter[int] = Counter()
        self.pairs: Counter[tuple[int, int]] = Counter()  # (preferred leader, follower)
        self.heirs: Counter[Replicas] = Counter()  # (preferred leader, first follower), if there is one

    def count(self, replicas: Replicas) -> None:
        self.leaders[replicas[0]] += 1
        self.replicas.update(replicas)
        self.pairs.update((replicas[0], follower) for follower in replicas[1:])
        self.heirs.update([replicas[:2]])
