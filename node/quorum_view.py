"""The metadata quorum as its leader sees it, told on any node: who leads, what is committed, how far each voter is.

answer: empty, if the asked voter is not the active leader; else
        byte 0  leader int32, term int64, commit index int64
            20  for each voter, by id: node id int32, last index int64 (0: not known yet)
"""

import asyncio
import struct
from dataclasses import dataclass

from quorumlog.host.ports import PeerGone, Peers
from quorumlog.raft.driver import QuorumDriver
from quorumlog.wire.errors import ClusterError, ErrorCode

from .cluster import ClusterView
from .controller_link import ControllerClient
from .retry import until_answered

METHOD = "quorum"
HEAD = struct.Struct(">iqq")
VOTER = struct.Struct(">iq")
CALL_TIMEOUT_S = 2.0
RETRY_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class VoterState:
    node_id: int
    last_index: int  # 0: not known yet


@dataclass(frozen=True, slots=True)
class QuorumState:
    leader: int
    term: int
    commit_index: int
    voters: tuple[VoterState, ...]


class NotLeader(Exception):
    """The asked voter does not lead; another may."""


class QuorumView:
    """On every node; `driver` is the quorum's on a voter."""

    def __init__(
        self, node_id: int, driver: QuorumDriver | None, cluster: ClusterView, controller: ControllerClient, peers: Peers
    ) -> None:
        self._node_id = node_id
        self._driver = driver
        self._cluster = cluster
        self._controller = controller
        self._peers = peers

    def start(self) -> None:
        if self._driver is not None:
            self._peers.serve_call(METHOD, self._on_call)

    async def state(self, *, timeout_s: float) -> QuorumState:
        """As the leader says. Raises REQUEST_TIMED_OUT if none was found in time."""
        retry = until_answered((NotLeader, PeerGone), pause_s=RETRY_PAUSE_S, sleep=self._cluster.wait_for_change)
        try:
            async with asyncio.timeout(timeout_s):
                state: QuorumState = await retry(self._ask)
        except TimeoutError:
            raise ClusterError(
                ErrorCode.request_timed_out, f"no leader of the quorum answered within {timeout_s:.1f} s"
            ) from None
        return state

    async def _ask(self) -> QuorumState:
        target = self._controller.target()
        if target == self._node_id:
            return read_state(self._own())
        try:
            return read_state(await self._peers.call(target, METHOD, b"", CALL_TIMEOUT_S))
        except (NotLeader, PeerGone):
            self._controller.on_wrong_target(-1)
            raise

    async def _on_call(self, _source: int, _request: bytes) -> bytes:
        return self._own()

    def _own(self) -> bytes:
        status = self._driver.status() if self._driver is not None else None
        if status is None or not status.active:
            return b""
        voters = sorted([(self._node_id, status.last_log_index), *status.matched])
        return HEAD.pack(self._node_id, status.term, status.commit_index) + b"".join(VOTER.pack(*voter) for voter in voters)


def read_state(data: bytes) -> QuorumState:
    """Raises NotLeader, and PeerGone for bytes that are no answer."""
    if not data:
        raise NotLeader
    try:
        leader, term, commit_index = HEAD.unpack_from(data)
        voters = tuple(VoterState(*voter) for voter in VOTER.iter_unpack(data[HEAD.size :]))
    except struct.error as error:
        raise PeerGone(f"{len(data)} bytes that are no answer: {error}") from error
    return QuorumState(leader, term, commit_index, voters)
