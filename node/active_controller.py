"""The active controller's shell: takes requests, lets `metadata.Controller` decide, has the records agreed on, then answers.

Lives on the node that leads the quorum, from the quorum's own no-op of the term until the leadership is lost. Decisions are
made one after the other on a speculative image and proposed without waiting; a reply leaves when everything that it saw is
committed ("a reply waits for what it saw"). A proposal that fails leaves the speculation in doubt: every waiting request is
told NOT_CONTROLLER, and the controller is built anew from the committed image ("in doubt, drop and reload").
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from quorumlog.host.ports import Clock
from quorumlog.metadata.codec import encode_records
from quorumlog.metadata.controller import Controller, ControllerConfig, Decision
from quorumlog.metadata.requests import Reply, Request
from quorumlog.raft.driver import QuorumDriver
from quorumlog.raft.ports import ProposeOutcome
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView

logger = logging.getLogger(__name__)

IN_FLIGHT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A committed reply, and the metadata index up to which its effects are visible."""

    reply: Reply
    index: int


class ActiveController:
    """Owned by the node. `submit` works only while this node is the active controller."""

    def __init__(
        self,
        cluster: ClusterView,
        quorum: QuorumDriver,
        clock: Clock,
        config: ControllerConfig,
        *,
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._cluster = cluster
        self._quorum = quorum
        self._clock = clock
        self._config = config
        self._new_uuid = new_uuid
        self._term: int | None = None
        self._controller: Controller | None = None
        self._in_flight: dict[asyncio.Future[int], None] = {}
        self._last: asyncio.Future[int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_active(self) -> bool:
        return self._controller is not None

    def activate(self, term: int) -> None:
        """The quorum leads in `term` and the published image holds everything that is committed."""
        logger.info("this node is the active controller, term %d", term)
        self._term = term
        self._reload()

    def deactivate(self) -> None:
        if self._term is not None:
            logger.info("this node is no longer the active controller")
        self._term = None
        self._drop()

    async def submit(self, request: Request) -> Answer:
        """Decide, have it committed, answer. Raises ClusterError, NOT_CONTROLLER among them."""
        controller = self._ready()
        return await self._commit(controller.decide(request, self._clock.now()))

    async def on_process_gone(self, node_id: int) -> None:
        if self._controller is not None:
            await self._commit_quietly(self._controller.on_process_gone(node_id, self._clock.now()))

    # --- committing

    def _ready(self) -> Controller:
        if self._controller is None:
            raise ClusterError(ErrorCode.not_controller, "this node is not the active controller")
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            raise ClusterError(ErrorCode.throttling_quota_exceeded, f"{IN_FLIGHT_MAX} metadata changes are in flight")
        return self._controller

    async def _commit(self, decision: Decision) -> Answer:
        if decision.records:
            self._last = self._propose(encode_records(decision.records))
        last = self._last
        if not decision.records:
            # No commit will prove that we still lead. Having slept, we would confirm sessions that another has ended.
            await self._confirm_leadership()
        index = await asyncio.shield(last) if last is not None else self._cluster.image.index
        return Answer(decision.reply, index)

    async def _confirm_leadership(self) -> None:
        """Return once a majority has said, after this call, that we lead. Raises NOT_CONTROLLER."""
        confirmed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._quorum.read_barrier(lambda leads: None if confirmed.done() else confirmed.set_result(leads))
        if not await confirmed:
            raise ClusterError(ErrorCode.not_controller, "the quorum did not confirm that this node still leads it")

    def _propose(self, command: bytes) -> asyncio.Future[int]:
        assert self._term is not None
        committed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._in_flight[committed] = None

        def done(outcome: ProposeOutcome, index: int) -> None:
            self._in_flight.pop(committed, None)
            if outcome is not ProposeOutcome.COMMITTED:
                logger.warning("a metadata change was not committed: %s", outcome.name)
                self._drop()
                _fail(committed)
            elif not committed.done():
                committed.set_result(index)
            if self._last is committed:
                self._last = None
            if self._controller is None and not self._in_flight:
                self._reload()

        self._quorum.propose(command, done, term=self._term)
        return committed

    def _drop(self) -> None:
        """Nobody may decide on the speculative image any more, and nobody is answered from it."""
        self._controller = None
        self._last = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for committed in self._in_flight:
            _fail(committed)

    def _reload(self) -> None:
        if self._term is None:
            return
        self._controller = Controller(self._cluster.image, now=self._clock.now(), config=self._config, new_uuid=self._new_uuid)
        self._arm()

    # --- time

    def _arm(self) -> None:
        assert self._controller is not None
        delay = max(0.01, min(1.0, self._controller.next_deadline() - self._clock.now()))
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        if self._controller is None:
            return
        decision = self._controller.tick(self._clock.now())
        if decision.records:
            # At once, not in a task: by its first step another term, or none, could have begun.
            self._last = self._propose(encode_records(decision.records))
        if self._controller is not None:
            self._arm()

    async def _commit_quietly(self, decision: Decision) -> None:
        """For decisions of our own, which nobody waits for."""
        try:
            await self._commit(decision)
        except ClusterError as error:
            logger.info("left to the next controller: %s", error)


def _fail(committed: asyncio.Future[int]) -> None:
    if not committed.done():
        committed.set_exception(ClusterError(ErrorCode.not_controller, "the controller changed before the request was committed"))
        committed.exception()  # looked at, for whoever asked may have gone
