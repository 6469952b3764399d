"""One client's connection to one node: requests are pipelined, answers come in their order, silence ends it."""

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from quorumlog.wire.catalogue import API_VERSIONS, FETCH, PRODUCE
from quorumlog.wire.codec import Struct, decode_response, encode_request
from quorumlog.wire.encoding import Body
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.headers import RequestHeader, encode_request_header, read_response_header
from tests.sim.invariants.sight import Violation
from tests.sim.wire import ClientStream, SimWire

LIST_OFFSETS, METADATA, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID, EPOCH_END, CREATE_PARTITIONS = 2, 3, 19, 20, 22, 23, 37
INCREMENTAL_ALTER_CONFIGS, ALTER_PARTITION_REASSIGNMENTS = 44, 45
VERSIONS = {  # what librdkafka 2.16 picks, as far as it uses the API
    PRODUCE: 10,
    FETCH: 16,
    LIST_OFFSETS: 7,
    METADATA: 12,
    API_VERSIONS: 3,
    CREATE_TOPICS: 7,
    DELETE_TOPICS: 6,
    INIT_PRODUCER_ID: 4,
    EPOCH_END: 4,
    CREATE_PARTITIONS: 3,
}
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = range(8, 15)
CONSUMER_GROUP_HEARTBEAT = 68
ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 24, 25, 26, 28
VERSIONS_OF_FEW = {  # of the Java client 4.0; who asks for them finds out whether they are offered
    INCREMENTAL_ALTER_CONFIGS: 1,
    ALTER_PARTITION_REASSIGNMENTS: 0,
    OFFSET_COMMIT: 9,
    OFFSET_FETCH: 9,
    FIND_COORDINATOR: 6,
    JOIN_GROUP: 9,
    HEARTBEAT: 4,
    LEAVE_GROUP: 5,
    SYNC_GROUP: 5,
    CONSUMER_GROUP_HEARTBEAT: 1,
    ADD_PARTITIONS_TO_TXN: 3,
    ADD_OFFSETS_TO_TXN: 4,
    END_TXN: 5,
    TXN_OFFSET_COMMIT: 5,
}
SPOKEN = VERSIONS | VERSIONS_OF_FEW
SIZE = struct.Struct(">i")
ANSWER_BYTES_MAX = 64 << 20
UNANSWERED_MAX = 100  # requests on one connection
CONNECT_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 2.0

OnAnswer = Callable[[Struct | None], None]
"""Called once, with None if there will be no answer: whether the request was carried out is not known then."""


class Pending(NamedTuple):
    """A request that has no answer yet."""

    correlation_id: int
    api_key: int
    version: int
    deadline: float
    on_answer: OnAnswer


class Connection:
    """Owned by its client, which closes it. `on_lost` is called once, also then, after everybody who waits was told."""

    def __init__(self, stream: ClientStream, client_id: str, node_id: int, on_lost: Callable[["Connection"], None]) -> None:
        self.node_id = node_id
        self._stream = stream
        self._client_id = client_id
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._correlation_ids = itertools.count(1)
        self._pending: deque[Pending] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._is_lost = False
        self._offered: dict[int, range] = {}
        self._reading = self._loop.create_task(self._read(), name=f"{client_id} reads from node {node_id}")

    @classmethod
    async def open(cls, wire: SimWire, client_id: str, node_id: int, on_lost: Callable[["Connection"], None]) -> "Connection":
        """Connect, and ask what the node speaks, as every client does. Raises OSError."""
        connection = cls(await wire.connect(client_id, node_id, CONNECT_TIMEOUT_S), client_id, node_id, on_lost)
        try:
            answer = await connection.ask(API_VERSIONS, {"client_software_name": "sim", "client_software_version": "1"})
        except BaseException:
            connection.close()
            raise
        connection._offered = {api.api_key: range(api.min_version, api.max_version + 1) for api in answer.api_keys}
        for api_key in VERSIONS:
            connection._check_offered(api_key)
        return connection

    def _check_offered(self, api_key: int) -> None:
        version = SPOKEN[api_key]
        if version not in self._offered.get(api_key, ()):
            raise Violation("client: API versions", f"node {self.node_id} does not offer version {version} of API {api_key}")

    @property
    def unanswered(self) -> int:
        return len(self._pending)

    @property
    def is_lost(self) -> bool:
        return self._is_lost

    def send(self, api_key: int, body: Body, on_answer: OnAnswer, *, extra_s: float = 0.0, version: int | None = None) -> None:
        """Ask; the node has `extra_s` more than the usual time. Nothing is sent, and nobody told, of a lost connection."""
        assert not self._is_lost, "the connection is lost"
        assert len(self._pending) < UNANSWERED_MAX, f"{len(self._pending)} requests are unanswered"
        if api_key in VERSIONS_OF_FEW:
            self._check_offered(api_key)
        version, correlation_id = SPOKEN[api_key] if version is None else version, next(self._correlation_ids)
        header = encode_request_header(RequestHeader(api_key, version, correlation_id, self._client_id))
        request = encode_request(api_key, version, body)
        deadline = self._loop.time() + REQUEST_TIMEOUT_S + extra_s
        self._pending.append(Pending(correlation_id, api_key, version, deadline, on_answer))
        if self._watch is None:
            self._watch = self._loop.call_at(deadline, self._look)
        if not self._stream.is_over:  # else the reader is about to find out
            self._stream.write(b"".join((SIZE.pack(len(header) + len(request)), header, request)))

    async def ask(self, api_key: int, body: Body, *, extra_s: float = 0.0, version: int | None = None) -> Struct:
        """Raises ConnectionError if there is no answer."""
        if self._is_lost:
            raise ConnectionError("the connection is lost")
        answered: asyncio.Future[Struct | None] = self._loop.create_future()

        def on_answer(answer: Struct | None) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.send(api_key, body, on_answer, extra_s=extra_s, version=version)
        answer = await answered
        if answer is None:
            raise ConnectionError(f"no answer from node {self.node_id}")
        return answer

    def close(self) -> None:
        """Give up what is unanswered."""
        if not self._is_lost:
            self._is_lost = True
            self._stream.close()
            self._reading.cancel()
            if self._watch is not None:
                self._watch.cancel()
            while self._pending:
                self._pending.popleft().on_answer(None)
            self._on_lost(self)

    async def _read(self) -> None:
        stream = self._stream
        try:
            while True:
                size = SIZE.unpack(await stream.read_exactly(SIZE.size))[0]
                if not SIZE.size <= size <= ANSWER_BYTES_MAX:
                    raise Violation("client: frames", f"node {self.node_id} announced an answer of {size} bytes")
                self._on_frame(await stream.read_exactly(size))
        except ConnectionError:
            self.close()
        except Exception as error:
            message = f"{self._client_id} cannot read an answer of node {self.node_id}"
            self._loop.call_exception_handler({"message": message, "exception": error})
            self.close()

    def _on_frame(self, frame: bytes) -> None:
        if not self._pending:
            raise Violation("client: answers", f"node {self.node_id} answered what nobody asked")
        pending = self._pending.popleft()
        seen, position = read_response_header(frame, pending.api_key, pending.version)
        if seen != pending.correlation_id:
            raise Violation("client: answers", f"node {self.node_id} gave answer {seen} where {pending.correlation_id} was due")
        pending.on_answer(decode_response(pending.api_key, pending.version, frame, position))

    def _look(self) -> None:
        """Has the oldest request waited for too long? Then the connection is no good, as for librdkafka."""
        self._watch = None
        if self._pending:
            deadline = self._pending[0].deadline
            if deadline <= self._loop.time():
                self.close()
            else:
                self._watch = self._loop.call_at(deadline, self._look)


def is_retriable(code: int) -> bool:
    """By Kafka's table of errors: of what clients of this kind meet."""
    return code in RETRIABLE


RETRIABLE = {
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.fenced_leader_epoch,
    ErrorCode.kafka_storage_error,
    ErrorCode.leader_not_available,
    ErrorCode.network_exception,
    ErrorCode.not_controller,
    ErrorCode.not_enough_replicas,
    ErrorCode.not_enough_replicas_after_append,
    ErrorCode.not_leader_or_follower,
    ErrorCode.offset_not_available,
    ErrorCode.replica_not_available,
    ErrorCode.request_timed_out,
    ErrorCode.unknown_leader_epoch,
    ErrorCode.unknown_topic_id,
    ErrorCode.unknown_topic_or_partition,
    ErrorCode.inconsistent_topic_id,
}
