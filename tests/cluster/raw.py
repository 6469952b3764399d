"""Kafka's protocol by hand, for tests that look at single requests and answers: one socket, any API, any version.

with RawConnection(cluster.nodes[0].kafka) as node:
    answer = node.ask("metadata", 12, topics=[{"name": "orders"}])
"""

import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from quorumlog.testing import LocalCluster
from quorumlog.wire.batches import read_header
from quorumlog.wire.catalogue import api_name, known_apis
from quorumlog.wire.codec import Struct, decode_response, encode_request
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.headers import RequestHeader, encode_request_header, read_response_header
from quorumlog.wire.ids import NO_TOPIC_ID
from quorumlog.wire.records import Record, build_batch, iterate_records

KEYS = {api_name(key): key for key in known_apis()}
SIZE = struct.Struct(">i")
TIMEOUT_S = 20.0
ALL, LEADER, NONE = -1, 1, 0
MEGABYTE = 1 << 20
T = TypeVar("T")


class RawConnection:
    """A client's socket to one node. `ask` sends and waits; `send` and `receive` pipeline, answers coming in order."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S, receive_buffer_bytes: int | None = None) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.socket()
        if receive_buffer_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(timeout_s)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_ids = itertools.count(1)
        self._expected: list[tuple[int, int, int]] = []  # API key, version, correlation id

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(self, api: str, version: int, **body: Any) -> Struct:
        """The answer to one request, which must be the next that comes."""
        self.send(api, version, **body)
        return self.receive()

    def send(self, api: str, version: int, *, answered: bool = True, **body: Any) -> None:
        correlation_id = next(self._correlation_ids)
        self.socket.sendall(framed(request_frame(api, version, body, correlation_id)))
        if answered:
            self._expected.append((KEYS[api], version, correlation_id))

    def receive(self) -> Struct:
        """The answer to the oldest request that has none yet. Raises ConnectionError if the node closes instead."""
        key, version, correlation_id = self._expected.pop(0)
        frame = self.receive_frame()
        if frame is None:
            raise ConnectionError(f"closed instead of answering {api_name(key)} v{version}")
        seen, position = read_response_header(frame, key, version)
        assert seen == correlation_id, f"answer {seen} came where {correlation_id} was due"
        return decode_response(key, version, frame, position)

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive_frame(self) -> bytes | None:
        """The next frame without its size, or None if the node has closed the connection."""
        head = self._receive_exactly(SIZE.size)
        return None if head is None else self._receive_exactly(SIZE.unpack(head)[0])

    def is_closed(self) -> bool:
        """Whether the node has closed, or does within the timeout; anything that it says instead is read and dropped."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65536):
                pass
        return True

    def _receive_exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.socket.recv(min(MEGABYTE, size - len(data)))
            except ConnectionError:
                return None
            if not piece:
                return None
            data += piece
        return bytes(data)


def request_frame(api: str, version: int, body: dict[str, Any], correlation_id: int = 1) -> bytes:
    """A request, without the size in front."""
    key = KEYS[api]
    return encode_request_header(RequestHeader(key, version, correlation_id, "raw")) + encode_request(key, version, body)


def framed(frame: bytes) -> bytes:
    return SIZE.pack(len(frame)) + frame


# --- the cluster, seen by raw requests


def create(cluster: LocalCluster, name: str, *, partitions: int = 1, replicas: int = 3, **configs: str) -> Any:
    """Create a topic (settings with _ for .) and wait until each of its partitions has a leader that every node serves by."""
    given = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
    topic = {"name": name, "num_partitions": partitions, "replication_factor": replicas, "configs": given}
    with RawConnection(cluster.nodes[0].kafka) as node:
        answer = node.ask("create_topics", 7, topics=[topic], timeout_ms=20_000)
    assert answer.topics[0].error_code == ErrorCode.none, answer.topics[0].error_message
    for one in cluster.nodes:
        address = one.kafka
        eventually(lambda address=address: describe(address, name).error_code == ErrorCode.none)  # type: ignore[misc]
    return answer.topics[0]


def describe(address: str, topic: str) -> Any:
    """What one node's metadata says of one topic."""
    with RawConnection(address) as node:
        return node.ask("metadata", 12, topics=[{"name": topic}], allow_auto_topic_creation=False).topics[0]


def address_of(cluster: LocalCluster, node_id: int) -> str:
    return next(node.kafka for node in cluster.nodes if node.node_id == node_id)


def leader_of(cluster: LocalCluster, topic: str, partition: int = 0) -> int:
    """The node that leads a partition; waits until there is one, and it knows."""

    def leader() -> int | None:
        for one in cluster.nodes:
            told = _told_leader(one.kafka, topic, partition)
            if told is not None and _told_leader(address_of(cluster, told), topic, partition) == told:
                return told
        return None

    return eventually(leader)


def _told_leader(address: str, topic: str, partition: int) -> int | None:
    """The leader that one node tells of, if it runs and there is one."""
    with contextlib.suppress(OSError):
        for state in describe(address, topic).partitions:
            if state.partition_index == partition and state.leader_id >= 0:
                return int(state.leader_id)
    return None


def other_than(cluster: LocalCluster, *node_ids: int) -> int:
    return next(node.node_id for node in cluster.nodes if node.node_id not in node_ids)


@contextlib.contextmanager
def to_leader(cluster: LocalCluster, topic: str, partition: int = 0) -> Iterator[RawConnection]:
    with RawConnection(address_of(cluster, leader_of(cluster, topic, partition))) as node:
        yield node


def eventually(look: Callable[[], T | None], timeout_s: float = 20.0) -> T:
    """What `look` returns as soon as that is true."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


# --- records


def batch(*values: bytes, **how: Any) -> bytes:
    """One batch of records with these values; `how` as build_batch takes it."""
    now_ms = int(time.time() * 1000)
    return build_batch([Record(offset=index, timestamp=now_ms, value=value) for index, value in enumerate(values)], **how)


def produce_body(
    topic: str, records: bytes | None, *, partition: int = 0, acks: int = ALL, timeout_ms: int = 10_000
) -> dict[str, Any]:
    topics = [{"name": topic, "partition_data": [{"index": partition, "records": records}]}]
    return {"acks": acks, "timeout_ms": timeout_ms, "topic_data": topics}


def produce(node: RawConnection, topic: str, records: bytes, *, version: int = 9, **how: Any) -> Any:
    """The answer for the one partition."""
    return node.ask("produce", version, **produce_body(topic, records, **how)).responses[0].partition_responses[0]


def produce_values(node: RawConnection, topic: str, *values: bytes, partition: int = 0) -> int:
    """The offset that the first value got."""
    answer = produce(node, topic, batch(*values), partition=partition)
    assert answer.error_code == ErrorCode.none, answer.error_message
    return int(answer.base_offset)


def fetch_body(topic: str, offset: int, *, partition: int = 0, topic_id: Any = NO_TOPIC_ID, **how: Any) -> dict[str, Any]:
    """A fetch of one partition. `how` holds fields of the request and of the partition alike."""
    of_partition = ("current_leader_epoch", "last_fetched_epoch", "partition_max_bytes", "log_start_offset")
    wanted = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": MEGABYTE, "current_leader_epoch": -1}
    wanted |= {"last_fetched_epoch": -1, "log_start_offset": -1} | {name: how.pop(name) for name in of_partition if name in how}
    request = {"replica_id": -1, "max_wait_ms": 0, "min_bytes": 1, "max_bytes": 50 * MEGABYTE, "isolation_level": 0}
    topics = [{"topic": topic, "topic_id": topic_id, "partitions": [wanted]}]
    return request | {"session_id": 0, "session_epoch": -1, "rack_id": "", "topics": topics} | how


def fetch(node: RawConnection, topic: str, offset: int, *, version: int = 12, **how: Any) -> Any:
    """The answer for the one partition."""
    return node.ask("fetch", version, **fetch_body(topic, offset, **how)).responses[0].partitions[0]


def values_of(records: bytes | None) -> list[tuple[int, bytes | None]]:
    """(offset, value) of each record in whole batches."""
    found: list[tuple[int, bytes | None]] = []
    position = 0
    while records and position < len(records):
        header = read_header(records, position)
        one = records[position : position + header.size]
        found += [(record.offset, record.value) for record in iterate_records(one, header, decompressed_bytes_max=64 * MEGABYTE)]
        position += header.size
    return found


def bugs_in(cluster: LocalCluster) -> Sequence[str]:
    """What the nodes have logged that only a mistake of ours explains."""
    signs = ("a bug", "Traceback", "cannot go on", "never retrieved", "was never awaited", "Unhandled", "failed on a")
    return [
        f"node {node.node_id}: {line}"
        for node in cluster.nodes
        for line in cluster.log(node.node_id).splitlines()
        if any(sign in line for sign in signs)
    ]
