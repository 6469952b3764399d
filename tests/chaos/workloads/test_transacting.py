"""What librdkafka says of a transaction, and what the history may make of it."""

from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from quorumlog.checker.history import Outcome

from . import transacting
from .producing import Answer
from .transacting import ConfluentTransactions, Unusable

RETRIABLE = KafkaException(KafkaError(KafkaError._TIMED_OUT, "later", False, True))
ABORTABLE = KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION, "no member", False, False, True))
FENCED = KafkaException(KafkaError(KafkaError._FENCED, "another has the id", True))


class FakeProducer:
    """`ends`: what comes of each call that asks a coordinator, in turn; then all is well."""

    ends: list[BaseException | None]
    record_error: KafkaError | None = None
    refuses: BaseException | None = None

    def __init__(self, _settings: dict[str, Any]) -> None:
        self.asked = 0
        self._handed: list[Callable[[Any, Any], None]] = []

    def _ask(self, *_: object) -> None:
        self.asked += 1
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end

    init_transactions = commit_transaction = abort_transaction = send_offsets_to_transaction = _ask

    def begin_transaction(self) -> None:
        pass

    def produce(self, _topic: str, _value: bytes, *, partition: int, on_delivery: Callable[[Any, Any], None]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self._handed.append(on_delivery)

    def poll(self, _timeout_s: float) -> None:
        message = type("Message", (), {"offset": lambda _self: 7})()
        while self._handed:
            self._handed.pop()(self.record_error, message)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ConfluentTransactions:
    """In a transaction, for which the coordinator had to be asked once."""
    monkeypatch.setattr(confluent_kafka, "Producer", FakeProducer)
    monkeypatch.setattr(FakeProducer, "ends", [], raising=False)
    monkeypatch.setattr(transacting, "END_S", 5.0)
    client = ConfluentTransactions("", "orders", "writer", timeout_s=60.0)
    client.begin()
    return client


def sent(client: ConfluentTransactions) -> list[Answer]:
    answers: list[Answer] = []
    client.send(0, b"value", answers.append)
    return answers


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        pytest.param([], Outcome.OK, id="committed"),
        pytest.param([RETRIABLE, RETRIABLE], Outcome.OK, id="committed at last"),
        pytest.param([FENCED], Outcome.UNKNOWN, id="fenced: an answer before this one may have been lost"),
        pytest.param([ABORTABLE], Outcome.UNKNOWN, id="failed, after it was asked for perhaps"),
        pytest.param([SystemError("an exception was set")], Outcome.UNKNOWN, id="a fatal error while callbacks are served"),
    ],
)
def test_what_becomes_of_a_commit(
    client: ConfluentTransactions, monkeypatch: pytest.MonkeyPatch, ends: list[BaseException], outcome: Outcome
) -> None:
    monkeypatch.setattr(FakeProducer, "ends", list(ends))
    assert [answer.offset for answer in sent(client)] == [7]
    assert client.commit() is outcome


@pytest.mark.parametrize("how", ["refused", "failed"])
def test_a_commit_is_not_asked_for_where_a_record_is_missing(
    client: ConfluentTransactions, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Refused at once, the client does not know of it; failed later, it would refuse the commit itself."""
    monkeypatch.setattr(FakeProducer, "refuses", BufferError() if how == "refused" else None)
    monkeypatch.setattr(FakeProducer, "record_error", KafkaError(KafkaError._MSG_TIMED_OUT))
    assert [answer.outcome for answer in sent(client)] == [Outcome.FAIL]
    assert client.commit() is Outcome.FAIL
    assert client._producer.asked == 1  # type: ignore[attr-defined]


def test_the_next_transaction_knows_nothing_of_that(client: ConfluentTransactions, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(FakeProducer, "refuses", BufferError())
        sent(client)
    assert client.abort()
    client.begin()
    sent(client)
    assert client.commit() is Outcome.OK


def test_offsets_that_are_refused_leave_an_abort(client: ConfluentTransactions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that nobody answers for do not even leave that."""
    monkeypatch.setattr(transacting, "OFFSETS_S", 0.0)
    monkeypatch.setattr(FakeProducer, "ends", [None, ABORTABLE, RETRIABLE])
    assert client.commit_offsets([], None)
    assert not client.commit_offsets([], None)
    with pytest.raises(Unusable):
        client.commit_offsets([], None)


def test_an_instance_that_cannot_begin_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confluent_kafka, "Producer", FakeProducer)
    monkeypatch.setattr(FakeProducer, "ends", [FENCED], raising=False)
    with pytest.raises(Unusable, match="writer"):
        ConfluentTransactions("", "orders", "writer", timeout_s=60.0)
