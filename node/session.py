"""This broker's session with the active controller: it registers, then shows that it lives, and asks leave before it stops.

The stream itself is a sign too: when it breaks and our port refuses, the controller knows that the process is gone. `is_fresh`
tells whether the controller can still believe that we live; where it cannot, another leader may exist already.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from quorumlog.host.ports import Clock, PeerGone, Peers, PeerStream
from quorumlog.metadata.codec import encode_request
from quorumlog.metadata.image import Endpoint
from quorumlog.metadata.requests import BrokerHeartbeat, BrokerHeartbeatReply, RegisterBroker, RegisterBrokerReply, Request
from quorumlog.wire.errors import ClusterError, ErrorCode

from .active_controller import Answer
from .cluster import ClusterView
from .controller_link import SESSION, ControllerClient, NotController, read_answer
from .retry import until_answered
from .tasks import Tasks, cancelled, wait_at_most

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
RETRY_PAUSE_S = 0.05

Ask = Callable[[Request], Awaitable[Answer]]


class BrokerSession:
    """Owned by the node; runs from the node's start until it has leave to stop."""

    def __init__(
        self,
        registration: RegisterBroker,
        cluster: ClusterView,
        peers: Peers,
        controller: ControllerClient,
        clock: Clock,
        tasks: Tasks,
        *,
        heartbeat_interval_s: float,
        session_timeout_s: float,
        on_in_service: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._on_in_service = on_in_service
        self._registration = registration
        self._cluster = cluster
        self._peers = peers
        self._controller = controller
        self._clock = clock
        self._interval_s = heartbeat_interval_s
        self._timeout_s = session_timeout_s
        self._confirmed_at = float("-inf")
        self._was_held = False  # a controller has answered since the last session ended
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.broker_epoch = -1
        self.fenced = True
        self.want_shutdown = False
        self.may_shut_down = asyncio.Event()

    def start(self) -> None:
        self._task = self._tasks.spawn(self._run(), "broker session")

    async def close(self) -> None:
        await cancelled(self._task)

    @property
    def is_fresh(self) -> bool:
        """False once the controller may have given our partitions to others without our knowing."""
        return not self.fenced and self._clock.now() - self._confirmed_at < self._timeout_s

    async def ask_to_stop(self, timeout_s: float) -> bool:
        """Hand over all leadership; True if the controller gave leave within the timeout."""
        self.want_shutdown = True
        self._wake.set()
        return await wait_at_most(self.may_shut_down, timeout_s)

    async def _run(self) -> None:
        errors = (NotController, PeerGone, ClusterError)
        await until_answered(errors, pause_s=RETRY_PAUSE_S, sleep=self._cluster.wait_for_change)(self._hold_session)

    async def _hold_session(self) -> None:
        """Register and show that we live, for as long as the target is the controller. Ends by raising why it is over."""
        target = self._controller.target()
        try:
            await self._hold_session_with(target)
        except NotController as error:
            self._controller.on_wrong_target(error.hint)
            raise
        except PeerGone as error:
            # While nobody leads, each of many tries would be a line.
            logger.log(logging.INFO if self._was_held else logging.DEBUG, "session with controller %d ended: %s", target, error)
            self._was_held = False
            self._controller.on_wrong_target(-1)
            raise
        except ClusterError as error:
            logger.warning("the controller refused this broker: %s", error)
            await asyncio.sleep(self._interval_s)
            raise

    async def _hold_session_with(self, target: int) -> None:
        if target == self._registration.node_id:
            await self._serve(self._controller.ask_local)
            return
        stream = await self._peers.connect(target, SESSION, CONNECT_TIMEOUT_S)
        try:
            await self._serve(partial(self._ask, stream))
        finally:
            await stream.close()

    async def _serve(self, ask: Ask) -> None:
        while True:
            if self.broker_epoch < 0:
                await self._register(ask)
            await self._heartbeat(ask)
            await self._pause()

    async def _register(self, ask: Ask) -> None:
        answer = await ask(self._registration)
        assert isinstance(answer.reply, RegisterBrokerReply)
        self.broker_epoch = answer.reply.broker_epoch
        logger.info("registered, broker epoch %d", self.broker_epoch)

    async def _heartbeat(self, ask: Ask) -> None:
        sent_at = self._clock.now()
        heartbeat = BrokerHeartbeat(
            node_id=self._registration.node_id,
            broker_epoch=self.broker_epoch,
            caught_up=self._sees_itself(),
            want_shutdown=self.want_shutdown,
        )
        try:
            answer = await ask(heartbeat)
        except ClusterError as error:
            if error.code in (ErrorCode.stale_broker_epoch, ErrorCode.broker_id_not_registered):
                logger.warning("%s; registering anew", error)
                self.broker_epoch = -1
                return
            raise
        await self._take(answer, sent_at)

    async def _take(self, answer: Answer, sent_at: float) -> None:
        assert isinstance(answer.reply, BrokerHeartbeatReply)
        self._was_held = True
        if answer.reply.fenced:
            self._on_fenced(True)
        # We may have been fenced and let in again: until our image shows who leads what since, nothing is confirmed.
        if not await self._cluster.wait_until(lambda image: image.index >= answer.index, self._timeout_s):
            return
        self._confirmed_at = sent_at
        self._on_fenced(answer.reply.fenced)
        if answer.reply.may_shut_down and self.want_shutdown:
            self.may_shut_down.set()

    def _on_fenced(self, fenced: bool) -> None:
        if fenced and not self.fenced:
            logger.warning("this broker was fenced by the controller")
        elif self.fenced and not fenced:
            logger.info("this broker is in service")
            self._on_in_service()
        self.fenced = fenced

    async def _ask(self, stream: PeerStream, request: Request) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                await stream.send([encode_request(request)])
                return read_answer(await stream.receive())
        except TimeoutError:
            raise PeerGone(f"no answer within {self._timeout_s:.1f} s") from None

    async def _pause(self) -> None:
        """Until the next heartbeat is due; quicker while we wait to be let in or out, and when the controller moved."""
        waiting = self.fenced or self.want_shutdown
        await wait_at_most(self._wake, RETRY_PAUSE_S if waiting else self._interval_s)
        self._wake.clear()

    def _sees_itself(self) -> bool:
        """Our own registration shows in our image: everything decided before it, which concerns us, has been applied."""
        broker = self._cluster.image.broker(self._registration.node_id)
        return broker is not None and broker.broker_epoch == self.broker_epoch


def registration_of(
    *, node_id: int, incarnation_id: UUID, storage_id: UUID, kafka: Endpoint, peer: Endpoint, rack: str | None
) -> RegisterBroker:
    return RegisterBroker(
        node_id=node_id, incarnation_id=incarnation_id, storage_id=storage_id, kafka=kafka, peer=peer, rack=rack
    )
