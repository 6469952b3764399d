"""What clients were told."""

from .model import Model
from .sight import Invariant, News


class AcknowledgedIsCommitted(Invariant):
    """When a client hears that its records are safe (acks=all), they are committed.

    Asked at the first look after the answer came. Not asked of a name whose topic was deleted, for the answer may be of that one.
    """

    name = "acknowledged-is-committed"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        for topic, partition, offset in news.acknowledged:
            ids = self._model.ids_of_topic.get(topic, [])
            if any(topic_id not in self._model.newest.topic_names for topic_id in ids):
                continue
            ledgers = [self._model.ledgers.get((topic_id, partition)) for topic_id in ids]
            if any(ledger is not None and (ledger.excuse is not None or ledger.end > offset) for ledger in ledgers):
                continue
            end = max((ledger.end for ledger in ledgers if ledger is not None), default=0)
            raise self.broken(f"{topic}-{partition}: offset {offset} was acknowledged, committed is up to {end} only")
