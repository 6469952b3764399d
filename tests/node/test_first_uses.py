"""Topics that are created because somebody asked for them."""

import asyncio
from types import SimpleNamespace
from typing import Any

from quorumlog.metadata.requests import CreateTopics, CreateTopicsReply, NewTopic
from quorumlog.node.first_uses import FirstUses
from quorumlog.node.tasks import Tasks
from quorumlog.wire.errors import ClusterError, ErrorCode
from tests.node.virtual import run


class Controller:
    """Answers when it is let, or refuses."""

    def __init__(self, refusal: ErrorCode | None = None) -> None:
        self.asked: list[list[str]] = []
        self.answers = asyncio.Event()
        self._refusal = refusal

    async def request(self, request: CreateTopics, *, timeout_s: float) -> CreateTopicsReply:
        self.asked.append([topic.name for topic in request.topics])
        await self.answers.wait()
        if self._refusal is not None:
            raise ClusterError(self._refusal, "no")
        return CreateTopicsReply(())


def first_uses(controller: Controller, fatal: list[BaseException], under_way_max: int = 10) -> FirstUses:
    link: Any = SimpleNamespace(request=controller.request)
    return FirstUses(link, Tasks(fatal.append), under_way_max=under_way_max)


async def ask(uses: FirstUses, *names: str) -> None:
    """Returns when the question has gone to the controller, and its answer has come if it has one."""
    uses.create(NewTopic(name) for name in names)
    for _ in range(3):
        await asyncio.sleep(0)


def test_each_topic_is_asked_for_once_at_a_time() -> None:
    """Many clients ask for the same topic until it is there; when it is gone again, its next use creates it again."""

    async def main() -> None:
        controller = Controller()
        uses = first_uses(controller, [])
        await ask(uses, "a", "b")
        await ask(uses, "b", "c")
        await ask(uses, "a")
        assert controller.asked == [["a", "b"], ["c"]]
        controller.answers.set()
        await ask(uses)
        await ask(uses, "a")
        assert controller.asked == [["a", "b"], ["c"], ["a"]]

    run(main())


def test_no_more_are_under_way_than_there_is_room_for() -> None:
    """Those that were too many are asked for again by their clients."""

    async def main() -> None:
        controller = Controller()
        uses = first_uses(controller, [], under_way_max=3)
        await ask(uses, "a", "b")
        await ask(uses, "c", "d")
        await ask(uses, "e")
        assert controller.asked == [["a", "b"], ["c"]]

    run(main())


def test_a_refusal_harms_nobody() -> None:
    """The topic may be asked for again; a node goes on."""

    async def main() -> None:
        controller, fatal = Controller(ErrorCode.invalid_replication_factor), list[BaseException]()
        controller.answers.set()
        uses = first_uses(controller, fatal)
        await ask(uses, "a")
        await ask(uses, "a")
        assert (controller.asked, fatal) == ([["a"], ["a"]], [])

    run(main())
