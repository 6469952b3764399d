"""One shard of the transaction coordinator: all transactional ids that hash to one partition of `__transaction_state`.

    load:    replay(key, value) for each record of the partition -> on_loaded
    serve:   operation -> Transactions -> Result(records, replies, effects)
    time:    next_deadline -> tick

Pure: the shell (node/transaction_coordinator.py) appends the records, holds replies and effects back until they are committed,
sends markers to the partitions of a transaction whose end is decided, and drops the shard when its partition moves or an append
fails.
"""

from collections.abc import Callable, Collection

from quorumlog.metadata.image import Image
from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.ids import TopicPartition

from .results import Body, Result
from .transaction_records import decode_transaction
from .transaction_state import Transaction
from .transactions import Asked, TransactionConfig, Transactions


class TransactionShard:
    """`now` is monotonic time in seconds, `wall_ms` is ms since 1970. Lives as long as this node leads the partition."""

    def __init__(self, config: Callable[[], TransactionConfig]) -> None:
        self._transactions = Transactions(config)

    # --- loading

    def replay(self, key: bytes, value: bytes | None) -> None:
        """One record of the partition, in order. Raises CorruptRecord; the shard cannot be served then."""
        record = decode_transaction(key, value)
        if record is not None:
            self._transactions.replay(record)

    def replay_for(self, producer_id: int, key: bytes, value: bytes | None) -> None:
        raise CorruptRecord(f"the state of transactions is not written in one, and producer {producer_id} did")

    def replay_end(self, producer_id: int, *, is_commit: bool) -> None:
        raise CorruptRecord(f"the state of transactions is not written in one, and one of producer {producer_id} ended there")

    def on_loaded(self, _image: Image, now: float, wall_ms: int) -> Result:
        """All was replayed."""
        self._transactions.on_loaded(now, wall_ms)
        return self._take()

    def limit_records(self, bytes_max: int) -> None:
        """Of key and value of one record together, from here on."""
        self._transactions.record_bytes_max = bytes_max

    @property
    def is_settled(self) -> bool:
        """Nothing was decided that no result has told of: true between operations."""
        return self._transactions.journal.is_empty

    # --- producers

    def needs_producer_id_to_begin(self, asked: Asked) -> bool:
        """Will `init_producer` give out a producer id? One has to be at hand then, which may take a while to get."""
        return self._transactions.needs_producer_id_to_begin(asked)

    def needs_producer_id_to_end(self, asked: Asked, client_version: int) -> bool:
        return self._transactions.needs_producer_id_to_end(asked, client_version)

    def init_producer(self, asked: Asked, *, timeout_ms: int, spare_id: int | None, wall_ms: int) -> Result:
        """InitProducerId."""
        self._transactions.init_producer(asked, timeout_ms=timeout_ms, spare_id=spare_id, wall_ms=wall_ms)
        return self._take()

    def add_partitions(self, asked: Asked, partitions: Collection[TopicPartition], now: float, wall_ms: int) -> Result:
        """AddPartitionsToTxn and AddOffsetsToTxn."""
        self._transactions.add_partitions(asked, partitions, now, wall_ms)
        return self._take()

    def verify_partitions(self, asked: Asked, partitions: Collection[TopicPartition]) -> Result:
        """AddPartitionsToTxn of who only wants to know."""
        self._transactions.verify_partitions(asked, partitions)
        return self._take()

    def end(self, asked: Asked, *, is_commit: bool, client_version: int, spare_id: int | None, wall_ms: int) -> Result:
        """EndTxn."""
        self._transactions.end(asked, is_commit=is_commit, client_version=client_version, spare_id=spare_id, wall_ms=wall_ms)
        return self._take()

    def complete(self, asked: Asked, wall_ms: int) -> Result:
        """Each partition has the marker that the last `EndDecided` asked for."""
        self._transactions.complete(asked, wall_ms)
        return self._take()

    # --- telling

    def describe(self, transactional_id: str) -> Body:
        """Of DescribeTransactions. Raises TRANSACTIONAL_ID_NOT_FOUND."""
        return self._transactions.describe(transactional_id)

    def known(self) -> list[tuple[str, Transaction]]:
        """All, by transactional id."""
        return self._transactions.known()

    # --- time and the cluster

    def on_image(self, _image: Image, _now: float, *, deleted: Collection[str]) -> Result:
        """Nothing: a partition that was deleted is left out when the markers are sent."""
        return Result()

    def next_deadline(self) -> float:
        """When `tick` has something to do, unless a request comes first."""
        return self._transactions.timers.next_deadline()

    def tick(self, now: float, wall_ms: int) -> Result:
        """What time alone decides: transactions that take too long, ids that nobody uses."""
        while (key := self._transactions.timers.due(now)) is not None:
            self._transactions.on_timer(key, now, wall_ms)
        return self._take()

    def _take(self) -> Result:
        return self._transactions.journal.take()
