"""What one operation logs and answers, collected while it decides.

`log` replays each record at once, so that later steps of the same operation decide on what the earlier ones did, and so that the
state of a live shard is by construction that of a replayed one. If the append fails afterwards, the shell drops the whole shard
and the log is replayed anew: nothing has to be undone.
"""

from collections.abc import Callable

from .codec import Record, encode_record
from .results import Body, LogRecord, Reply, Result, Waiter


class Journal:
    """Owned by a shard, and empty between its operations."""

    def __init__(self, replay: Callable[[Record], None]) -> None:
        self._replay = replay
        self._records: list[LogRecord] = []
        self._replies: list[Reply] = []

    @property
    def is_empty(self) -> bool:
        return not self._records and not self._replies

    def log(self, record: Record) -> None:
        """Add to what will be logged, and let the state follow."""
        self._records.append(encode_record(record))
        self._replay(record)

    def reply(self, waiter: Waiter, body: Body) -> None:
        self._replies.append(Reply(waiter, body))

    def take(self) -> Result:
        result = Result(tuple(self._records), tuple(self._replies))
        self._records.clear()
        self._replies.clear()
        return result
