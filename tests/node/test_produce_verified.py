"""A batch that waits for the word of its transaction's coordinator."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from quorumlog.host.ports import StorageError
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.produce import handle_produce
from quorumlog.node.waits import OffsetWaits
from quorumlog.partitions.verification import Guard
from quorumlog.wire.batches import read_header
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition
from quorumlog.wire.produce import ProducePartition, ProduceRequest, ProduceTopic
from quorumlog.wire.records import Record, build_batch
from tests.node.virtual import run, turns


def test_a_disk_that_fails_behind_the_answer_stops_the_node() -> None:
    """Also when nobody waits for the batch any more: its connection went while the coordinator was asked."""

    async def script() -> None:
        batch = build_batch([Record(value=b"x")], producer_id=7, producer_epoch=0, base_sequence=0, is_transactional=True)
        verdict: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        fatal: list[BaseException] = []

        def fail(*_: object, **__: object) -> None:
            raise StorageError("no more disk")

        partition = SimpleNamespace(append=fail, transaction_to_verify=lambda records: (read_header(records), Guard()))
        services: Any = SimpleNamespace(
            verifier=SimpleNamespace(ask=lambda *_, **__: verdict, on_fatal=fatal.append),
            replicas=SimpleNamespace(get=lambda *_: partition),
            image=SimpleNamespace(topics={"t": None}, topic_names={}),
            clock=SimpleNamespace(now=lambda: 0.0, wall_ms=lambda: 0),
        )
        topic = ProduceTopic("t", UUID(int=0), (ProducePartition(0, memoryview(batch)),))
        answer = handle_produce(services, Call(9, ProduceRequest("writer", -1, 1000, (topic,)), "client", "localhost"))
        waiting = asyncio.ensure_future(answer)  # type: ignore[arg-type]
        await turns()
        verdict.set_result(ErrorCode.none)
        waiting.cancel()
        await turns()
        assert [str(error) for error in fatal] == ["no more disk"]

    run(script())


def test_a_batch_whose_leader_goes_before_its_answer_is_not_acknowledged() -> None:
    """Alone in its request: the word came, it was appended, and the leader went before whoever waited for the word woke up."""

    async def script() -> None:
        batch = build_batch([Record(value=b"x")], producer_id=7, producer_epoch=0, base_sequence=0, is_transactional=True)
        verdict: asyncio.Future[ErrorCode] = asyncio.get_running_loop().create_future()
        waits = OffsetWaits()

        def append(*_: object, **__: object) -> Any:
            asyncio.get_running_loop().call_soon(
                waits.fail, TopicPartition("t", 0), ClusterError(ErrorCode.not_leader_or_follower, "led by another")
            )
            return SimpleNamespace(duplicate=False, answered_offset=5, last_offset=5, log_append_time_ms=-1, log_start_offset=0)

        partition = SimpleNamespace(
            tp=TopicPartition("t", 0),
            high_watermark=0,
            append=append,
            transaction_to_verify=lambda records: (read_header(records), Guard()),
        )
        services: Any = SimpleNamespace(
            verifier=SimpleNamespace(ask=lambda *_, **__: verdict, on_fatal=None),
            replicas=SimpleNamespace(get=lambda *_: partition, on_appended=lambda *_: None, committed=waits),
            image=SimpleNamespace(topics={"t": None}, topic_names={}, partition=lambda *_: None),
            clock=SimpleNamespace(now=lambda: 0.0, wall_ms=lambda: 0),
        )
        topic = ProduceTopic("t", UUID(int=0), (ProducePartition(0, memoryview(batch)),))
        answer = handle_produce(services, Call(9, ProduceRequest("writer", -1, 1000, (topic,)), "client", "localhost"))
        waiting = asyncio.ensure_future(answer)  # type: ignore[arg-type]
        verdict.set_result(ErrorCode.none)
        answered: Any = await waiting
        assert answered.topics[0].partitions[0].error_code == ErrorCode.not_leader_or_follower

    run(script())
