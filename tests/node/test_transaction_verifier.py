"""What leaders ask coordinators: each question once, in order, and answered as the producer's version understands it."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from immutables import Map

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.host.ports import PeerGone
from quorumlog.metadata.image import Image, PartitionState, Topic
from quorumlog.metadata.internal_topics import TRANSACTIONS_TOPIC
from quorumlog.node.tasks import Tasks
from quorumlog.node.transaction_messages import (
    MarkerOrder,
    Question,
    Target,
    decode_codes,
    decode_orders,
    decode_question,
    encode_codes,
    encode_orders,
    encode_question,
)
from quorumlog.node.transaction_verifier import Verifier, refusal
from quorumlog.partitions.verification import Guard
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.markers import Marker
from tests.node.virtual import run, turns

TP, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)
PRODUCER = Producer(7, 3)
OK, BUSY = ErrorCode.none, ErrorCode.concurrent_transactions


class Stage:
    """Node 1 asks node 2, which answers each question with the next of `answers`."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[Question] = []
        self.answers = list(answers)
        self.gate = asyncio.Event()
        self.gate.set()
        state = PartitionState(UUID(int=1), 0, (2,), (2,), (), 2, 0, 0)
        image = Image("c", topics=Map({TRANSACTIONS_TOPIC: Topic(TRANSACTIONS_TOPIC, UUID(int=1), Map({0: state}))}))
        peers = SimpleNamespace(call=self._call, serve_call=lambda *_: None)
        cluster = SimpleNamespace(image=image)
        self.fatal: list[BaseException] = []
        tasks = Tasks(self.fatal.append)
        self.verifier = Verifier(1, cast(Any, None), cast(Any, cluster), cast(Any, peers), tasks, self.fatal.append)

    async def _call(self, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        assert node_id == 2
        self.asked.append(decode_question(request))
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return encode_codes(answer)

    def ask(self, tp: TopicPartition, guard: Guard, *, is_adding: bool = False) -> "asyncio.Future[ErrorCode]":
        return self.verifier.ask(tp, guard, "x", PRODUCER, is_adding=is_adding)


def test_what_comes_meanwhile_waits_for_the_same_answer() -> None:
    """One question for a turn of the loop; another guard is another question, for what was said before proves nothing of it."""

    async def story() -> None:
        stage, guard, later = Stage([OK, ErrorCode.transaction_abortable], [OK]), Guard(), Guard()
        stage.gate.clear()
        order: list[str] = []
        verdicts = [stage.ask(TP, guard), stage.ask(OTHER, guard)]
        await turns()
        verdicts += [stage.ask(TP, guard), stage.ask(TP, later)]
        await turns()
        for name, verdict in zip("abcd", verdicts, strict=True):
            verdict.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]
        stage.gate.set()
        assert [await verdict for verdict in verdicts] == [OK, ErrorCode.transaction_abortable, OK, OK]
        await turns()
        assert [question.partitions for question in stage.asked] == [(TP, OTHER), (TP,)]
        assert order.index("a") < order.index("c")

    run(story())


def test_the_end_of_the_last_transaction_is_waited_for_where_the_next_begins() -> None:
    """Not where only the truth is asked for; and not for ever."""

    async def story() -> None:
        stage = Stage([BUSY], [BUSY], [OK])
        assert await stage.ask(TP, Guard(), is_adding=True) is OK
        assert await Stage([BUSY]).ask(TP, Guard()) is BUSY
        assert await Stage(*[[BUSY]] * 100).ask(TP, Guard(), is_adding=True) is BUSY

    run(story())


def test_a_coordinator_that_cannot_be_asked_is_tried_again_later() -> None:
    async def story() -> None:
        stage = Stage(PeerGone("gone"), [OK])
        guard = Guard()
        assert await stage.ask(TP, guard) is ErrorCode.network_exception
        assert await stage.ask(TP, guard) is OK
        assert stage.fatal == []

    run(story())


@pytest.mark.parametrize(
    ("code", "version", "told"),
    [
        (ErrorCode.none, 10, None),
        (ErrorCode.transaction_abortable, 10, ErrorCode.invalid_txn_state),
        (ErrorCode.transaction_abortable, 11, ErrorCode.transaction_abortable),
        (ErrorCode.producer_fenced, 12, ErrorCode.invalid_producer_epoch),
        (BUSY, 11, ErrorCode.not_enough_replicas),
        (BUSY, 12, BUSY),
        (ErrorCode.not_coordinator, 12, ErrorCode.not_enough_replicas),
        (ErrorCode.invalid_producer_id_mapping, 12, ErrorCode.invalid_producer_id_mapping),
    ],
)
def test_a_producer_is_told_what_it_knows(code: ErrorCode, version: int, told: ErrorCode | None) -> None:
    """By the version of Produce, as Kafka does."""
    error = refusal(code, TP, knows_abortable=version >= 11, knows_concurrent=version >= 12)
    assert (None if error is None else error.code) is told


def test_messages_read_as_written_and_garbage_is_refused() -> None:
    question = Question("x", PRODUCER, True, (TP, OTHER))
    assert decode_question(encode_question(question)) == question
    orders = [
        MarkerOrder(PRODUCER, Marker(is_commit, 4), not is_commit, 99, (Target(UUID(int=5), 2, 6), Target(UUID(int=5), 3, 7)))
        for is_commit in (True, False)
    ]
    assert decode_orders(encode_orders(orders)) == orders
    assert decode_codes(encode_codes([OK, BUSY]), 2) == [OK, BUSY]
    for garbage in (b"", encode_question(question)[:-1], encode_question(question) + b"x"):
        with pytest.raises(DecodeError):
            decode_question(garbage)
    with pytest.raises(DecodeError):
        decode_orders(encode_orders(orders)[:-1])
    with pytest.raises(PeerGone):
        decode_codes(encode_codes([OK]), 2)
