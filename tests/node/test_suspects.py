"""Nodes whose connection broke: are they dead, and is that known to all?"""

import asyncio
from typing import Any

import pytest

from quorumlog.metadata.image import Image
from quorumlog.node.cluster import ClusterView
from quorumlog.node.suspects import NEWS_TIMEOUT_S, PROBES, Suspects
from tests.metadata.given import broker_record, image_of
from tests.node.virtual import run


class FakePeers:
    """A port that refuses from the nth question on."""

    def __init__(self, refuses_at: int | None) -> None:
        self.asked = 0
        self._refuses_at = refuses_at

    async def is_refused(self, _node_id: int) -> bool:
        self.asked += 1
        return self._refuses_at is not None and self.asked >= self._refuses_at


def suspects_of(refuses_at: int | None) -> tuple[Suspects, ClusterView, FakePeers]:
    cluster, peers = ClusterView("test"), FakePeers(refuses_at)
    cluster.publish(image_of(), None)
    port: Any = peers
    return Suspects(cluster, port), cluster, peers


def without(node_id: int) -> Image:
    """The image in which that broker is fenced."""
    return image_of([node if node != node_id else broker_record(node, node, fenced=True) for node in (1, 2, 3)])


@pytest.mark.parametrize("refuses_at", range(1, PROBES + 1))
def test_a_dying_process_is_found_out(refuses_at: int) -> None:
    """Its sockets close one by one, so the port may answer for some milliseconds more."""

    async def main() -> None:
        suspects, _, peers = suspects_of(refuses_at)
        assert await suspects.is_gone(2)
        assert peers.asked == refuses_at
        assert suspects.any

    run(main())


def test_a_process_that_answers_is_no_suspect() -> None:
    """After some looks it counts as alive, and nobody waits for news of it."""

    async def main() -> None:
        suspects, _, peers = suspects_of(None)
        assert not await suspects.is_gone(2)
        assert (peers.asked, suspects.any) == (PROBES, False)
        await suspects.news()

    run(main())


def test_news_come_when_the_suspect_is_fenced() -> None:
    """Whoever asks who leads what waits for that, and no longer."""

    async def main() -> None:
        suspects, cluster, _ = suspects_of(1)
        loop = asyncio.get_running_loop()
        await suspects.is_gone(2)
        loop.call_later(0.1, cluster.publish, image_of(), ())
        loop.call_later(0.2, cluster.publish, without(2), ())
        started = loop.time()
        await suspects.news()
        assert loop.time() - started == pytest.approx(0.2)
        assert not suspects.any

    run(main())


def test_a_suspicion_does_not_last() -> None:
    """Where nobody fences the node, the wait ends by itself; two suspects are waited for until the later one."""

    async def main() -> None:
        suspects, _, _ = suspects_of(1)
        loop = asyncio.get_running_loop()
        await suspects.is_gone(2)
        await asyncio.sleep(0.2)
        await suspects.is_gone(3)
        started = loop.time()
        await suspects.news()
        assert loop.time() - started == pytest.approx(NEWS_TIMEOUT_S)

    run(main())
