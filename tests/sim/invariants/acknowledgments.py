"""What clients were told."""

from .model import Model
from .sight import Invariant, News


class AcknowledgedIsCommitted(Invariant):
    """When a client hears that its records are safe (acks=all), they are committed.

    Asked at the first look after the answer came. Not asked of a name whose topic was deleted, for the answer may be of that one;
    nor while a replica's log cannot be read to its end, for a rotten leader's commits are not seen then.
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
            held = [copy for topic_id in ids for copy in self._model.copies.get((topic_id, partition), {}).values()]
            if any(self._model.is_doubtful(copy) for copy in held):
                continue
            end = max((ledger.end for ledger in ledgers if ledger is not None), default=0)
            raise self.broken(f"{topic}-{partition}: offset {offset} was acknowledged, committed is up to {end} only")
