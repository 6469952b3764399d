"""A client's way to the coordinator of its group, or of its transactions: looked for when needed, and again when it has moved."""

from collections.abc import Callable
from typing import Any, NamedTuple

from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode
from tests.sim.invariants.sight import Violation

from .client import Client
from .connection import FIND_COORDINATOR, OFFSET_FETCH, Connection

GROUP, TRANSACTION = 0, 1
EXTRA_S = 3.0  # a node may have to create the offsets' topic first
MOVED = (ErrorCode.not_coordinator, ErrorCode.coordinator_not_available)


class Unanswered(ConnectionError):
    """No answer that says anything; asking again may help. `may_be_done`: whether the request was carried out is not known."""

    def __init__(self, message: str, *, may_be_done: bool) -> None:
        super().__init__(message)
        self.may_be_done = may_be_done


class Answer(NamedTuple):
    node_id: int
    asked_at: float
    code: int
    body: Struct


class Coordinator:
    """Owned by a member of the group, or by somebody who looks at it."""

    def __init__(self, client: Client, group: str, *, key_type: int = GROUP) -> None:
        self.client = client
        self.group = group
        self._key_type = key_type
        self._node_id: int | None = None

    async def ask(
        self,
        api_key: int,
        body: dict[str, Any],
        *,
        extra_s: float = 0.0,
        version: int | None = None,
        code_of: Callable[[Struct], int] = lambda answer: int(answer.error_code),
    ) -> Answer:
        """Once. Raises Unanswered."""
        connection = await self._reach()
        asked_at = self.client.now()
        try:
            answer = await connection.ask(api_key, body, extra_s=extra_s, version=version)
        except ConnectionError as error:
            self._node_id = None
            raise Unanswered(str(error), may_be_done=True) from None
        code = code_of(answer)
        if code in MOVED:
            self._node_id = None
        if code in (*MOVED, ErrorCode.coordinator_load_in_progress, ErrorCode.request_timed_out):
            # A coordinator that lost its partition while a record was on its way says so, too: it may be committed yet.
            raise Unanswered(f"error {code}", may_be_done=code != ErrorCode.coordinator_load_in_progress)
        return Answer(connection.node_id, asked_at, code, answer)

    async def _reach(self) -> Connection:
        try:
            if self._node_id is None:
                self._node_id = await self._find()
            return await self.client.reach(self._node_id)
        except Unanswered:
            raise
        except ConnectionError as error:
            self._node_id = None
            raise Unanswered(str(error), may_be_done=False) from None

    async def _find(self) -> int:
        body = {"key_type": self._key_type, "coordinator_keys": [self.group]}
        answer = await (await self.client.reach_any()).ask(FIND_COORDINATOR, body, extra_s=EXTRA_S)
        (found,) = answer.coordinators
        if found.error_code in (ErrorCode.coordinator_not_available, ErrorCode.coordinator_load_in_progress):
            raise Unanswered(f"no coordinator: error {found.error_code}", may_be_done=False)
        if found.error_code != ErrorCode.none:
            raise Violation("client: find coordinator", f"group {self.group}: error {found.error_code}: {found.error_message}")
        return int(found.node_id)

    async def fetch_offsets(
        self, topics: dict[str, list[int]], *, member_id: str | None = None, member_epoch: int = -1
    ) -> Answer:
        """What is committed for these partitions. Raises Unanswered."""
        group = {
            "group_id": self.group,
            "member_id": member_id,
            "member_epoch": member_epoch,
            "topics": [{"name": topic, "partition_indexes": numbers} for topic, numbers in topics.items()],
        }
        body = {"groups": [group], "require_stable": self.client.rng.random() < 0.5}
        return await self.ask(OFFSET_FETCH, body, code_of=lambda answer: int(answer.groups[0].error_code))
