"""Topics that drop events which come again."""

from quorumlog.partitions.event_ids import hashed

from .copies import Copy
from .model import Model
from .sight import Invariant, News


class EventsOnce(Invariant):
    """Of what is committed no event is there twice; one that was acknowledged is there, where its producer was told. And each
    replica remembers the events of its own log: all, and no other.

    The last is looked at when a replica begins another role, and at the end.
    """

    name = "events-once"

    def __init__(self, model: Model) -> None:
        self._model = model
        self._acknowledged: list[tuple[str, int, bytes, int | None]] = []

    def acknowledged(self, topic: str, partition: int, event: bytes, offset: int | None) -> None:
        self._acknowledged.append((topic, partition, event, offset))

    def look(self, news: News) -> None:
        for key in news.keys:
            if repeated := self._model.ledgers[key].repeated:
                event, first, second = repeated[0]
                raise self.broken(f"{self._name(key[0])}-{key[1]}: {event!r} is committed at offsets {first} and {second}")
        for copy in news.copies:
            if copy.is_anew:
                self._check_remembered(copy)

    def finish(self) -> None:
        for topic, partition, event, offset in self._acknowledged:
            for topic_id in self._model.ids_of_topic.get(topic, []):
                ledger = self._model.ledgers[topic_id, partition]
                found = ledger.events.get(event)
                if ledger.excuse is None and (found is None or found != (found if offset is None else offset)):
                    raise self.broken(f"{topic}-{partition}: {event!r} was acknowledged at offset {offset}, and is at {found}")
        for copies in self._model.copies.values():
            for copy in copies.values():
                if not copy.is_frozen:
                    self._check_remembered(copy)

    def _check_remembered(self, copy: Copy) -> None:
        dedup = copy.partition.dedup
        if dedup is None or copy.fault is not None or copy.stand.damage is not None:
            return
        if self._model.is_rotten(copy.node_id, copy.key):  # what it remembers may be what was there before
            return
        start = copy.stand.log_start
        held = {one: offset for one, offset in dedup.ids.since(0)[1] if offset >= start}
        there = {
            hashed(value): record.offset
            for number in range(len(copy.headers))
            for record in copy.records_of(number)
            for name, value in record.headers
            if name == "event-id" and value and record.offset >= start
        }
        if held != there:
            offsets = sorted({offset for _, offset in held.items() ^ there.items()})
            raise self.broken(f"{copy}: what it remembers of offsets {offsets[:10]} is not what its log has there")

    def _name(self, topic_id: object) -> str:
        return next((name for name, ids in self._model.ids_of_topic.items() if topic_id in ids), str(topic_id))
