"""Producer ids, taken by the block."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from quorumlog.metadata.requests import AllocateProducerIds, AllocateProducerIdsReply, Request
from quorumlog.node.producer_ids import ProducerIds
from quorumlog.wire.errors import ClusterError, ErrorCode

BLOCK = 3


class FakeController:
    """Gives one block after the other, with gaps as if other nodes asked too."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.fails = False

    async def request(self, request: Request, *, timeout_s: float) -> AllocateProducerIdsReply:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.fails:
            raise ClusterError(ErrorCode.request_timed_out, f"nobody within {timeout_s}")
        return AllocateProducerIdsReply(first=100 * len(self.requests), count=BLOCK)


def producer_ids() -> tuple[ProducerIds, FakeController]:
    controller = FakeController()
    any_controller: Any = controller
    session: Any = SimpleNamespace(broker_epoch=7)
    return ProducerIds(any_controller, session, 2), controller


def test_a_block_is_used_up_before_the_next_is_asked_for() -> None:
    """No id is given twice, none that is not ours."""

    async def main() -> None:
        ids, controller = producer_ids()
        assert [await ids.take(1.0) for _ in range(7)] == [100, 101, 102, 200, 201, 202, 300]
        assert controller.requests == [AllocateProducerIds(node_id=2, broker_epoch=7)] * 3

    asyncio.run(main())


def test_many_at_once_share_a_block() -> None:
    """They wait for one answer, and each gets its own id."""

    async def main() -> None:
        ids, controller = producer_ids()
        taken = await asyncio.gather(*(ids.take(1.0) for _ in range(2 * BLOCK)))
        assert sorted(taken) == [100, 101, 102, 200, 201, 202]
        assert len(controller.requests) == 2

    asyncio.run(main())


def test_who_gets_no_block_is_told_and_the_next_one_asks_again() -> None:
    """A failure uses nothing up."""

    async def main() -> None:
        ids, controller = producer_ids()
        controller.fails = True
        with pytest.raises(ClusterError):
            await ids.take(1.0)
        controller.fails = False
        assert await ids.take(1.0) == 200

    asyncio.run(main())
