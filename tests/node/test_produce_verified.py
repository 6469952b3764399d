"""A batch that waits for the word of its transaction's coordinator."""

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from quorumlog.host.ports import StorageError
from quorumlog.node.dispatch import Call
from quorumlog.node.handlers.produce import handle_produce
from quorumlog.partitions.verification import Guard
from quorumlog.wire.batches import read_header
from quorumlog.wire.errors import ErrorCode
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
