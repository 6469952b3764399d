"""Records of `__transaction_state`: byte for byte what Apache Kafka writes and reads."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from quorumlog.coordinators.results import LogRecord
from quorumlog.coordinators.transaction_records import TransactionRecord, decode_transaction, encode_transaction
from quorumlog.coordinators.transaction_state import Transaction, TransactionState
from quorumlog.metadata.records import CorruptRecord
from quorumlog.wire.ids import TopicPartition

KEY = bytes.fromhex("0000" + "0002" + "7478")  # version 0, "tx"
ONGOING = Transaction(
    producer_id=7,
    epoch=3,
    timeout_ms=60_000,
    state=TransactionState.ONGOING,
    partitions=frozenset({TopicPartition("orders", 1), TopicPartition("orders", 0), TopicPartition("a", 5)}),
    start_ms=1000,
    update_ms=1001,
    previous_producer_id=6,
    client_version=2,
)
HEAD, TIMES = "0000000000000007" + "0003" + "0000ea60", "00000000000003e9" + "00000000000003e8"
V1 = bytes.fromhex(
    "0001" + HEAD + "01"
    + "03" + "02" + "61" + "02" + "00000005" + "00" + "07" + "6f7264657273" + "03" + "00000000" + "00000001" + "00"
    + TIMES
    + "02" + "00" + "08" + "0000000000000006" + "02" + "02" + "0002"
)  # fmt: skip
V0 = bytes.fromhex(
    "0000" + HEAD + "01"
    + "00000002" + "0001" + "61" + "00000001" + "00000005" + "0006" + "6f7264657273" + "00000002" + "00000000" + "00000001"
    + TIMES
)  # fmt: skip
EMPTY_V1 = bytes.fromhex("0001" + "0000000000000007" + "0000" + "00000064" + "00" + "00" + "0000000000000005" + "ff" * 8 + "00")


def test_an_ongoing_one_is_written_as_kafka_writes_it() -> None:
    """Partitions by topic, in order; tags only where they say something."""
    assert encode_transaction(TransactionRecord("tx", ONGOING)) == LogRecord(KEY, V1)


def test_one_without_partitions_has_a_null_in_their_place() -> None:
    record = TransactionRecord("tx", Transaction(7, 0, 100, update_ms=5))
    assert encode_transaction(record) == LogRecord(KEY, EMPTY_V1)
    assert decode_transaction(KEY, EMPTY_V1) == record


def test_brokers_of_before_wrote_fewer_fields() -> None:
    """Version 0 knows neither other producer ids nor the client's version."""
    read = decode_transaction(KEY, V0)
    assert read is not None
    assert read.transaction is not None
    assert (read.transaction.partitions, read.transaction.state) == (ONGOING.partitions, TransactionState.ONGOING)
    assert (read.transaction.previous_producer_id, read.transaction.client_version) == (-1, 0)


def test_a_tombstone_has_no_value() -> None:
    assert encode_transaction(TransactionRecord("tx", None)) == LogRecord(KEY, None)
    assert decode_transaction(KEY, None) == TransactionRecord("tx", None)


def test_tags_of_later_versions_are_skipped() -> None:
    """And keys of a kind that this version does not know."""
    later = EMPTY_V1[:-1] + bytes.fromhex("01" + "09" + "03" + "616263")
    assert decode_transaction(KEY, later) == decode_transaction(KEY, EMPTY_V1)
    assert decode_transaction(b"\0\7?", b"whatever") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", None),
        (KEY[:-1], None),
        (KEY + b"x", None),
        (KEY, b""),
        (KEY, V1[:-1]),
        (KEY, V1 + b"x"),
        (KEY, b"\0\2" + V1[2:]),
        (KEY, V1[:16] + b"\x63" + V1[17:]),
    ],
)
def test_what_is_no_record_is_told(key: bytes, value: bytes | None) -> None:
    """The shard cannot be served then; the node lives on."""
    with pytest.raises(CorruptRecord):
        decode_transaction(key, value)


TRANSACTIONS = st.builds(
    Transaction,
    producer_id=st.integers(-1, 2**63 - 1),
    epoch=st.integers(-1, 2**15 - 1),
    timeout_ms=st.integers(0, 2**31 - 1),
    state=st.sampled_from(sorted(set(TransactionState) - {TransactionState.EMPTY})),
    partitions=st.frozensets(st.builds(TopicPartition, st.text(min_size=1, max_size=5), st.integers(0, 100)), max_size=6),
    start_ms=st.integers(-1, 2**60),
    update_ms=st.integers(-1, 2**60),
    previous_producer_id=st.integers(-1, 2**40),
    next_producer_id=st.integers(-1, 2**40),
    client_version=st.integers(0, 2),
)


@given(st.text(max_size=20), TRANSACTIONS)
def test_what_is_written_is_read(name: str, transaction: Transaction) -> None:
    record = TransactionRecord(name, transaction)
    assert decode_transaction(*_pair(encode_transaction(record))) == record


def _pair(record: LogRecord) -> tuple[bytes, bytes | None]:
    return record.key, record.value
