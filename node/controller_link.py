"""How any node talks to the active controller, wherever that is, and how the active controller hears them.

One framing for both ways in: single calls (topic creation, in-sync sets, producer ids) and the session stream on which a broker
registers and then shows that it lives.

    answer: byte 0  status   0 answered, 1 refused, 2 not the controller
                 1  number   int64: metadata index (0), error code (1), node id of the controller as known here or -1 (2)
                 9  reply (0) or message in UTF-8 (1)
"""

import asyncio
import logging
import struct

from quorumlog.host.ports import PeerGone, Peers, PeerStream
from quorumlog.metadata.codec import CorruptRecord, decode_reply, decode_request, encode_reply, encode_request
from quorumlog.metadata.requests import Reply, Request
from quorumlog.wire.errors import ClusterError, ErrorCode

from .active_controller import ActiveController, Answer
from .cluster import ClusterView
from .retry import until_answered
from .suspects import Suspects

logger = logging.getLogger(__name__)

METHOD = "controller"
SESSION = "session"
ANSWER = struct.Struct(">Bq")
ANSWERED, REFUSED, NOT_CONTROLLER = 0, 1, 2
RETRY_PAUSE_S = 0.05
CALL_TIMEOUT_S = 5.0


class ControllerServer:
    """On every voter: answers requests while this node is the active controller, and points to it otherwise."""

    def __init__(self, controller: ActiveController, cluster: ClusterView, peers: Peers, suspects: Suspects) -> None:
        self._controller = controller
        self._cluster = cluster
        self._peers = peers
        self._suspects = suspects
        self._sessions: dict[int, PeerStream] = {}

    def start(self) -> None:
        self._peers.serve_call(METHOD, self._on_call)
        self._peers.serve_stream(SESSION, self._on_session)

    async def probe_silent_brokers(self) -> None:
        """A new controller has no sessions yet: find the brokers whose process is gone without waiting for the timeout."""
        image = self._cluster.image
        silent = [node for node, broker in sorted(image.brokers.items()) if not broker.fenced and node not in self._sessions]
        await asyncio.gather(*(self._fence_if_gone(node) for node in silent))

    async def _fence_if_gone(self, node_id: int) -> None:
        if await self._suspects.is_gone(node_id) and node_id not in self._sessions:
            logger.warning("broker %d is gone: its port refuses connections", node_id)
            await self._controller.on_process_gone(node_id)

    async def _on_call(self, _source: int, request: bytes) -> bytes:
        return await self._answer(request)

    async def _on_session(self, stream: PeerStream) -> None:
        node_id = stream.node_id
        self._sessions[node_id] = stream
        try:
            while True:
                await stream.send([await self._answer(await stream.receive())])
        except PeerGone:
            pass
        finally:
            if self._sessions.get(node_id) is stream:
                del self._sessions[node_id]
        if self._controller.is_active and node_id not in self._sessions:
            await self._fence_if_gone(node_id)

    async def _answer(self, data: bytes) -> bytes:
        try:
            answer = await self._controller.submit(decode_request(data))
        except CorruptRecord as error:
            return ANSWER.pack(REFUSED, ErrorCode.invalid_request) + str(error).encode()
        except ClusterError as error:
            if error.code is ErrorCode.not_controller:
                return ANSWER.pack(NOT_CONTROLLER, -1 if self._cluster.leader is None else self._cluster.leader)
            return ANSWER.pack(REFUSED, error.code) + error.message.encode()
        return ANSWER.pack(ANSWERED, answer.index) + encode_reply(answer.reply)


class NotController(Exception):
    """The asked node is not the active controller; `hint` is who may be, or -1."""

    def __init__(self, hint: int) -> None:
        super().__init__(f"not the active controller, which may be node {hint}")
        self.hint = hint


def read_answer(data: bytes) -> Answer:
    """Raises ClusterError or NotController, and PeerGone for bytes that are no answer: their sender is of no use to us."""
    try:
        return _read_answer(data)
    except (struct.error, ValueError, CorruptRecord) as error:
        raise PeerGone(f"{len(data)} bytes that are no answer: {error}") from error


def _read_answer(data: bytes) -> Answer:
    status, number = ANSWER.unpack_from(data)
    body = data[ANSWER.size :]
    if status == NOT_CONTROLLER:
        raise NotController(number)
    if status == REFUSED:
        raise ClusterError(ErrorCode(number), body.decode(errors="replace"))
    if status != ANSWERED:
        raise ValueError(f"status {status}")
    return Answer(decode_reply(body), number)


class ControllerClient:
    """On every node: sends a request to the active controller, and looks for that as long as the timeout allows."""

    def __init__(
        self, node_id: int, voters: list[int], cluster: ClusterView, peers: Peers, local: ActiveController | None
    ) -> None:
        self._node_id = node_id
        self._voters = voters
        self._cluster = cluster
        self._peers = peers
        self._local = local
        self._hint = -1
        self._turn = 0

    def target(self) -> int:
        """The node that most probably is the active controller."""
        for candidate in (self._cluster.leader, self._hint):
            if candidate is not None and candidate in self._voters:
                return candidate
        self._turn += 1
        return self._voters[self._turn % len(self._voters)]

    def on_wrong_target(self, hint: int) -> None:
        """The target was not the controller, or did not answer (-1)."""
        self._hint = hint

    async def request(self, request: Request, *, timeout_s: float) -> Reply:
        """The committed reply, once its effects show in this node's own image too.

        Raises ClusterError: what the controller refused with, or REQUEST_TIMED_OUT if none was found in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._ask(request)
        except TimeoutError:
            raise ClusterError(ErrorCode.request_timed_out, f"no active controller answered within {timeout_s:.1f} s") from None
        await self._cluster.wait_until(lambda image: image.index >= answer.index, min(timeout_s, 2.0))
        return answer.reply

    async def _ask(self, request: Request) -> Answer:
        retry = until_answered((NotController, PeerGone), pause_s=RETRY_PAUSE_S, sleep=self._cluster.wait_for_change)
        answer: Answer = await retry(self._ask_target, request, encode_request(request))
        return answer

    async def _ask_target(self, request: Request, data: bytes) -> Answer:
        target = self.target()
        try:
            if target == self._node_id:
                return await self.ask_local(request)
            return read_answer(await self._peers.call(target, METHOD, data, CALL_TIMEOUT_S))
        except NotController as error:
            self.on_wrong_target(error.hint)
            raise
        except PeerGone:
            self.on_wrong_target(-1)
            raise

    async def ask_local(self, request: Request) -> Answer:
        """The answer of the controller on this very node. Raises ClusterError, or NotController."""
        if self._local is None:
            raise NotController(-1)
        try:
            return await self._local.submit(request)
        except ClusterError as error:
            if error.code is ErrorCode.not_controller:
                raise NotController(-1) from error
            raise
