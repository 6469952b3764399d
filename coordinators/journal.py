"""What one operation logs, answers and brings about, collected while it decides.

`log` replays each record at once, so that later steps of the same operation decide on what the earlier ones did, and so that the
state of a live shard is by construction that of a replayed one. If the append fails afterwards, the shell drops the whole shard
and the log is replayed anew: nothing has to be undone.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .results import Body, LogRecord, Reply, Result, Waiter, Writer

RecordT = TypeVar("RecordT")


class Journal(Generic[RecordT]):
    """Owned by a shard, and empty between its operations."""

    def __init__(
        self,
        encode: Callable[[RecordT], LogRecord],
        replay: Callable[[RecordT], None],
        replay_for: Callable[[int, RecordT], None] | None = None,
    ) -> None:
        self._encode = encode
        self._replay = replay
        self._replay_for = replay_for
        self._records: list[LogRecord] = []
        self._replies: list[Reply] = []
        self._effects: list[Any] = []
        self._writer: Writer | None = None

    @property
    def is_empty(self) -> bool:
        return not self._records and not self._replies and not self._effects

    def log(self, record: RecordT) -> None:
        """Add to what will be logged, and let the state follow."""
        assert self._writer is None, "what is logged in a transaction is logged alone"
        self._records.append(self._encode(record))
        self._replay(record)

    def log_for(self, writer: Writer, record: RecordT) -> None:
        """The same, in a producer's transaction."""
        assert self._replay_for is not None
        assert self._writer is writer or not self._records, "what is logged in a transaction is logged alone"
        self._writer = writer
        self._records.append(self._encode(record))
        self._replay_for(writer.producer_id, record)

    def reply(self, waiter: Waiter, body: Body) -> None:
        self._replies.append(Reply(waiter, body))

    def effect(self, effect: Any) -> None:
        self._effects.append(effect)

    def take(self) -> Result:
        result = Result(tuple(self._records), tuple(self._replies), tuple(self._effects), self._writer)
        self._records.clear()
        self._replies.clear()
        self._effects.clear()
        self._writer = None
        return result
