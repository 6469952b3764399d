"""Bytes that rot on a disk while its node is down: in a log's segments, in the store (RocksDB), in the quorum's snapshot.

A segment's damage is found when it is read and is mended from the other replicas. A store or a snapshot that is damaged lets the
node refuse its start; docs/operations.md says what to do: bring the data back from the old disk. So the files are copied before
they are damaged, and laid back when the node has refused. A node that starts nevertheless keeps its damage: what the quorum has
been told since must not be forgotten, so the old files are of no use any more, and if it stops later it stays down for good.
"""

import contextlib
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from quorumlog.wire.batches import BatchError, iterate_headers
from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.stage import Disorder, Place, Stage
from tests.chaos.targets import Ability
from tests.cluster.segments import segment_files

T = TypeVar("T")

LEADER_EPOCH_BYTES = range(12, 16)  # of a batch: its CRC does not cover them, and nothing else tells them from others
PARTS = ("store", "raft")  # what lies in a data directory besides the logs; the second comes with the first snapshot
LEAD_TIMEOUT_S = 30.0
MENDED_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 60.0


@dataclass
class Damage(Fault):
    """A fault that stops a node, by a kill or cleanly, and changes one of its files: a bit flips, or the file is cut."""

    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.FILES})
    node_number: int
    clean: bool
    cut: bool
    place: float
    _node = 0  # which node that is, once it has begun

    @classmethod
    def draw(cls, rng: random.Random) -> Self:
        return cls(
            hold_s=rng.uniform(0.0, 1.0),
            node_number=rng.randrange(1 << 16),
            clean=rng.random() < 0.5,
            cut=rng.random() < 0.4,
            place=rng.random(),
        )

    def _stop_victim(self, stage: Stage) -> int:
        node = stage.living[self.node_number % len(stage.living)]
        if self.clean:
            stage.target.stop_node(node)
        else:
            stage.target.kill(node)
        return node

    def _directory(self, stage: Stage) -> Path:
        return stage.target.data_dirs()[self._node]


@dataclass
class DamagedSegment(Damage):
    """A segment of a partition that the node leads when it can: so it comes to read it, and must find it out."""

    name: ClassVar[str] = "damage-segment"

    def begin(self, stage: Stage) -> Struck:
        places = [place for place in stage.places() if not place.topic.startswith("_")]
        self._node = self._stop_victim(stage)
        preferred = [place for place in places if place.replicas[0] == self._node]
        self._place: Place | None = pick(preferred, self.place)
        if self._place is None:
            return Struck((self._node,), "no partition prefers it: nothing damaged")
        path = self._segment(stage, self._place)
        if path is None:
            return Struck((self._node,), f"{self._place.key} is empty: nothing damaged")
        position, size = position_in(path, self.place), path.stat().st_size
        harm(path, position, cut=self.cut)
        deed = "cut" if self.cut else "a bit flipped"
        return Struck((self._node,), f"{self._place.key}/{path.name} {deed} at {position} of {size}")

    def end(self, stage: Stage) -> None:
        stage.target.start_node(self._node)
        place = self._place
        if place is None:
            return
        stage.wait_in_sync(MENDED_TIMEOUT_S)
        if not self._has_led(stage, place):
            raise Disorder(f"node {self._node} does not come to lead {place.key}")
        read_through(stage.target.bootstrap, place)
        stage.wait_in_sync(MENDED_TIMEOUT_S)

    def _segment(self, stage: Stage, place: Place) -> Path | None:
        files = segment_files(self._directory(stage), place.topic, place.partition)
        return pick([path for path in files if path.stat().st_size], self.place * 31 % 1)

    def _has_led(self, stage: Stage, place: Place) -> bool:
        """It leads now, or it found its damage and gave the lead up before we could see it."""
        try:
            stage.wait_for("lead", lambda: self._leads(stage, place) or self._has_complained(stage, place), LEAD_TIMEOUT_S)
        except Disorder:
            return False
        return True

    def _leads(self, stage: Stage, place: Place) -> bool:
        return any(now.key == place.key and now.leader == self._node for now in stage.places())

    def _has_complained(self, stage: Stage, place: Place) -> bool:
        return f"{place.key} is damaged" in stage.target.log_tails()[self._node]


@dataclass
class DamagedFile(Damage):
    """A file without which the node may not start. Refused: the old files are laid back. Started: it goes on with what it has.

    One that began to work and died of what it read may have voted or acknowledged since: laid back, a voter would forget that
    (docs/operations.md forbids it). The one bit is mended where it is.
    """

    def begin(self, stage: Stage) -> Struck:
        self._node = self._stop_victim(stage)
        path = pick(self._files(stage), self.place)
        if path is None:
            return Struck((self._node,), "it has no such file yet: nothing damaged")
        self._keep(stage)
        position = min(int(path.stat().st_size * (self.place * 31 % 1)), path.stat().st_size - 1)
        harm(path, position, cut=self.cut)
        deed = "cut" if self.cut else "a bit flipped"
        logged = stage.target.log_tails()[self._node]
        refused = not stage.starts(self._node)
        # A refusal is one sentence. (The words before the trace may be above what the tail shows.)
        died = refused and '  File "' in fresh_lines(logged, stage.target.log_tails()[self._node])
        if died and self.cut:
            raise Disorder(f"node {self._node} has begun to work on {path} that was {deed} at {position}")
        if died and path.exists() and path.stat().st_size > position:
            harm(path, position, cut=False)
            os.sync()
        elif refused and not died:
            self._lay_back(stage)
        shutil.rmtree(self._kept(stage))
        if self._must_refuse and not refused:
            raise Disorder(f"node {self._node} has started on {path} that was {deed} at {position}")
        outcome = "it died of it, and the bit was flipped back" if died else "start refused" if refused else "started"
        return Struck((self._node,), f"{path.name} {deed} at {position}: {outcome}")

    def end(self, stage: Stage) -> None:
        if not stage.target.is_running(self._node):
            stage.target.start_node(self._node, wait=False)

    _must_refuse: ClassVar[bool] = False

    def _files(self, stage: Stage) -> Sequence[Path]:
        raise NotImplementedError

    def _keep(self, stage: Stage) -> None:
        for part in PARTS:
            if (self._directory(stage) / part).exists():
                shutil.copytree(self._directory(stage) / part, self._kept(stage) / part)

    def _lay_back(self, stage: Stage) -> None:
        for part in self._kept(stage).iterdir():
            shutil.rmtree(self._directory(stage) / part.name)
            shutil.copytree(part, self._directory(stage) / part.name)
        os.sync()  # a later power cut must take nothing that the node had made durable

    def _kept(self, stage: Stage) -> Path:
        return self._directory(stage) / "lost+found" / "kept"


@dataclass
class DamagedStore(DamagedFile):
    """A table, a write-ahead log, the manifest or the pointer to it, in the node's RocksDB."""

    name: ClassVar[str] = "damage-store"

    def _files(self, stage: Stage) -> Sequence[Path]:
        store = self._directory(stage) / "store"
        kinds = ("*.sst", "*.log", "MANIFEST-*", "CURRENT")
        return sorted(path for kind in kinds for path in store.glob(kind) if path.stat().st_size)


@dataclass
class DamagedSnapshot(DamagedFile):
    """The snapshot of the metadata quorum: a node whose snapshot is damaged must not start."""

    name: ClassVar[str] = "damage-raft"
    _must_refuse: ClassVar[bool] = True

    def _files(self, stage: Stage) -> Sequence[Path]:
        return [path for path in (self._directory(stage) / "raft").glob("snapshot") if path.stat().st_size]


def pick(things: Sequence[T], share: float) -> T | None:
    """The one at a share of the way from first to last, None if there are none."""
    return things[int(share * len(things))] if things else None


def position_in(segment: Path, share: float) -> int:
    """A byte of some batch whose change must be noticed; the first byte if there is no whole batch."""
    batch = pick(places_of_batches(segment), share)
    if batch is None:
        return 0
    within = int(share * 7919 % 1 * len(batch))
    return batch.start + (LEADER_EPOCH_BYTES.stop if within in LEADER_EPOCH_BYTES else within)


def places_of_batches(segment: Path) -> list[range]:
    """Where the whole batches of a segment lie, up to where a crash may have torn it."""
    places: list[range] = []
    log = segment.read_bytes()
    with contextlib.suppress(BatchError):
        for position, header in iterate_headers(log):
            if position + header.size <= len(log):
                places.append(range(position, position + header.size))
    return places


def _read_to(message: Message) -> int:
    """Where reading goes on behind it. At the end the client says where that is: markers of transactions are no records."""
    offset = int(message.offset() or 0)
    error = message.error()
    if error is None:
        return offset + 1
    return offset if error.code() == KafkaError._PARTITION_EOF else 0


def read_through(bootstrap: str, place: Place) -> None:
    """Read a partition from its start to its present end, whoever leads it meanwhile. Raises Disorder if that takes long."""
    settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, "group.id": "chaos", "enable.auto.commit": False}
    consumer = Consumer({**settings, "isolation.level": "read_uncommitted", "enable.partition.eof": True})
    deadline = time.monotonic() + READ_TIMEOUT_S
    position, end = 0, -1
    try:
        consumer.assign([TopicPartition(place.topic, place.partition, OFFSET_BEGINNING)])
        while not 0 <= end <= position:
            if time.monotonic() > deadline:
                raise Disorder(f"{place.key} cannot be read to its end within {READ_TIMEOUT_S:g} s: at {position} of {end}")
            if end < 0:
                end = _end_of(consumer, place)
            position = max([position, *map(_read_to, consumer.consume(1000, 0.2))])
    finally:
        consumer.close()


def _end_of(consumer: Consumer, place: Place) -> int:
    """The high watermark; -1 if nobody says it just now."""
    try:
        answer = consumer.get_watermark_offsets(TopicPartition(place.topic, place.partition), timeout=3.0)
    except KafkaException:
        return -1
    return -1 if answer is None else int(answer[1])


def fresh_lines(before: str, after: str) -> str:
    """What the end of a log says that it did not say before."""
    last = before.splitlines()[-1:]
    return after.rsplit(last[0], 1)[-1] if last else after


def harm(path: Path, position: int, *, cut: bool) -> None:
    """Flip one bit, or drop everything from the position on."""
    with path.open("r+b") as file:
        if cut:
            file.truncate(position)
            return
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << position % 8]))
