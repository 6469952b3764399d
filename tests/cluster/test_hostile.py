"""What broken and hostile clients send: each is refused by Kafka's rules, and nobody else notices."""

import asyncio
import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psutil
import pytest

from quorumlog.node.api_table import API_TABLE
from quorumlog.testing import LocalCluster
from quorumlog.wire.catalogue import api_name, known_apis
from quorumlog.wire.codec import decode_response, encode_request
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.headers import RequestHeader, encode_request_header, read_response_header
from tests.cluster.bystander import Bystander
from tests.cluster.leaders import metric
from tests.cluster.odd import odd_body, odd_records, odd_requests
from tests.cluster.raw import (
    MEGABYTE,
    RawConnection,
    address_of,
    batch,
    bugs_in,
    create,
    eventually,
    fetch_body,
    framed,
    leader_of,
    other_than,
    produce,
    produce_body,
    request_frame,
    to_leader,
)
from tests.wire.mutations import HOSTILE_LENGTHS, mutate

pytestmark = [pytest.mark.process, pytest.mark.slow]

SEED = 20_260_101
MALFORMED = 10_000
ODD = 1_500
AT_ONCE = 40
REQUEST_BYTES_MAX = 8 * MEGABYTE
HELD_BYTES_MAX = 64 * MEGABYTE  # requests, and answers
CONNECTIONS_MAX = 400
# What may be held, and what malloc keeps of it: the nodes ask it to give memory back late (host/malloc.py).
GROWTH_BYTES_MAX = 2 * HELD_BYTES_MAX + 256 * MEGABYTE
SETTINGS = {
    "request_bytes_max": REQUEST_BYTES_MAX,
    "request_bytes_total_max": HELD_BYTES_MAX,
    "response_bytes_total_max": HELD_BYTES_MAX,
    "connections_max": CONNECTIONS_MAX,
    "connection_idle_max_ms": 60_000,
    "leader_rebalance_interval_s": 0,
}


class Memory:
    """Watches how large the nodes become."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._nodes = {node.node_id: psutil.Process(cluster.pid(node.node_id)) for node in cluster.nodes}
        self.pids = {node_id: process.pid for node_id, process in self._nodes.items()}
        self._start = {node_id: process.memory_info().rss for node_id, process in self._nodes.items()}
        self._growth = dict.fromkeys(self._nodes, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def growth(self) -> int:
        """Bytes that the node that grew most had at its worst, more than at the beginning."""
        return max(self._growth.values())

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for node_id, process in self._nodes.items():
                with contextlib.suppress(psutil.Error):
                    grown = process.memory_info().rss - self._start[node_id]
                    self._growth[node_id] = max(self._growth[node_id], grown)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def bystander(cluster: LocalCluster) -> Iterator[Bystander]:
    with Bystander(cluster.bootstrap_servers) as bystander:
        yield bystander


@pytest.fixture(scope="module")
def memory(cluster: LocalCluster, bystander: Bystander) -> Iterator[Memory]:
    bystander.wait_round_trips(20)
    memory = Memory(cluster)
    yield memory
    memory.close()


@pytest.fixture(autouse=True)
def nobody_notices(cluster: LocalCluster, bystander: Bystander, memory: Memory) -> Iterator[None]:
    """After each test: the same processes, ready, not much larger, no bug in their logs, and a bystander without complaints."""
    before = len(bystander.round_trips_s)
    yield
    bystander.wait_round_trips(10)
    assert {node.node_id: cluster.pid(node.node_id) for node in cluster.nodes} == memory.pids
    assert [status.state for status in cluster.status()] == ["ready"] * 3
    assert not bugs_in(cluster)
    bystander.judge(since=before)
    assert memory.growth() < GROWTH_BYTES_MAX, f"{memory.growth() >> 20} MiB more"


@pytest.fixture(scope="module")
def topics(cluster: LocalCluster) -> dict[str, UUID]:
    """What nonsense may be about; some of it deletes them."""
    return {name: create(cluster, name, partitions=3).topic_id for name in ("odd", "odd-too")}


@pytest.fixture(scope="module")
def topic(cluster: LocalCluster) -> str:
    """What other tests produce to."""
    create(cluster, "target", partitions=1)
    return "target"


# --- ten thousand


async def exchange(host: str, port: int, data: bytes, *, closes: bool) -> str | bytes:
    """The first frame that comes back for some bytes, or "closed", or "silent". With `closes` we end our side after sending."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        if closes:
            writer.write_eof()
        async with asyncio.timeout(2.0):
            size = struct.unpack(">i", await reader.readexactly(4))[0]
            return await reader.readexactly(size)
    except TimeoutError:
        return "silent"
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def malformed(chance: random.Random, topics: dict[str, UUID]) -> tuple[str, bytes]:
    """(its kind, the bytes to send)"""
    key = chance.choice(sorted(API_TABLE))
    version = chance.choice(API_TABLE[key].versions)
    header = encode_request_header(RequestHeader(key, version, 7, chance.choice((None, "c", "ä"))))
    frame = header + encode_request(key, version, odd_body(chance, key, version, topics))
    match chance.randrange(9):
        case 0:
            return "random bytes", chance.randbytes(chance.randrange(1, 200))
        case 1:
            return "random frame", framed(chance.randbytes(chance.randrange(200)))
        case 2:
            return "truncated", framed(frame)[: chance.randrange(1, len(frame) + 4)]
        case 3:
            return "frame size", chance.choice(HOSTILE_LENGTHS)[:4] + frame
        case 4:
            return "wrong version", framed(struct.pack(">hh", key, chance.choice((-1, 99, 2**15 - 1, -(2**15)))) + frame[4:])
        case 5:
            unknown = chance.choice([one for one in (*known_apis(), 900, -1, 2**15 - 1) if one not in API_TABLE])
            return "unknown API", framed(struct.pack(">h", unknown) + frame[2:])
        case 6:
            return "broken records", framed(request_frame("produce", 9, produce_body("odd", odd_records(chance)), 7))
        case 7:
            return "cut short inside", framed(frame[: chance.randrange(len(header), len(frame) + 1)])
        case _:
            return "mutated", framed(mutate(chance, frame))


def answered_rightly(sent: bytes, answer: bytes) -> bool:
    """The answer is one of the API and version that was asked for, to the last byte; raises if it is not."""
    key, version, correlation_id = struct.unpack_from(">hhi", sent, 4)
    if key == 18 and version not in API_TABLE[18].versions:
        version = 0  # Kafka's rule for clients that are newer than the broker
    seen, position = read_response_header(answer, key, version)
    decoded = decode_response(key, version, answer, position)
    return seen == correlation_id and decoded is not None


def test_ten_thousand_malformed_requests(cluster: LocalCluster, topics: dict[str, UUID]) -> None:
    """Each is answered in the form of its API, or its connection is closed; whoever keeps us waiting just waits."""
    outcomes: Counter[tuple[str, str]] = Counter()

    async def worker(number: int) -> None:
        chance = random.Random(f"{SEED}-{number}")
        for turn in range(MALFORMED // AT_ONCE):
            node = cluster.nodes[turn % 3]
            host, _, port = node.kafka.rpartition(":")
            kind, data = malformed(chance, topics)
            closes = kind in ("random bytes", "truncated", "frame size")
            outcome = await exchange(host, int(port), data, closes=closes)
            if isinstance(outcome, bytes):
                assert answered_rightly(data, outcome), (kind, data, outcome)
            outcomes[kind, outcome if isinstance(outcome, str) else "answered"] += 1

    async def all_workers() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(worker(number))

    asyncio.run(all_workers())
    assert sum(outcomes.values()) == MALFORMED
    for kind in ("random bytes", "truncated", "frame size", "random frame", "unknown API"):
        assert outcomes[kind, "answered"] <= outcomes[kind, "closed"] // 50, (kind, outcomes)
    assert outcomes["wrong version", "closed"] > 10 * outcomes["wrong version", "answered"] > 0  # ApiVersions answers
    # Silent may be who sent less than it said, wants no answer (acks=0 by mutation), or waits for records.
    assert sum(count for (_, outcome), count in outcomes.items() if outcome == "silent") < MALFORMED // 50, outcomes


def test_well_formed_nonsense_is_answered(cluster: LocalCluster, topics: dict[str, UUID]) -> None:
    """Every API and version with values from the edges: always an answer, never a closed connection."""
    chance = random.Random(SEED)
    nodes = [RawConnection(node.kafka) for node in cluster.nodes]
    codes: Counter[str] = Counter()
    for index, (key, version, body) in enumerate(odd_requests(chance, ODD, topics)):
        node = nodes[index % 3]
        try:
            answer = node.ask(api_name(key), version, **body)
        except ConnectionError as error:
            raise AssertionError(f"{api_name(key)} v{version} was not answered: {body}") from error
        codes.update(name_of_codes(answer.as_dict()))
    for node in nodes:
        node.close()
    assert len(codes) > 15, codes


def name_of_codes(answer: Any) -> Iterator[str]:
    """All error codes in an answer."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            if name == "error_code":
                yield ErrorCode(value).name
            else:
                yield from name_of_codes(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from name_of_codes(value)


# --- records


@pytest.mark.parametrize("acks", [-1, 1, 0])
def test_broken_records_are_refused(cluster: LocalCluster, topic: str, acks: int) -> None:
    """Each fault has its code; with acks=0, where no code can be told, the connection is closed. Nothing is stored."""
    good = bytearray(batch(b"one", b"two"))
    cases = {
        "checksum": (flip(good, len(good) - 1), ErrorCode.corrupt_message),
        "magic 0": (put(good, 16, b"\x00"), ErrorCode.unsupported_for_message_format),
        "magic 1": (put(good, 16, b"\x01"), ErrorCode.unsupported_for_message_format),
        "magic 3": (put(good, 16, b"\x03"), ErrorCode.corrupt_message),
        "length": (put(good, 8, b"\x7f\xff\xff\xff"), ErrorCode.invalid_record),
        "negative length": (put(good, 8, b"\xff\xff\xff\xff"), ErrorCode.corrupt_message),
        "cut short": (bytes(good[:-1]), ErrorCode.invalid_record),
        "half a header": (bytes(good[:30]), ErrorCode.invalid_record),
        "two batches": (bytes(good * 2), ErrorCode.invalid_record),
        "nothing": (b"", ErrorCode.invalid_record),
        "null": (None, ErrorCode.invalid_record),
    }
    for name, (records, code) in cases.items():
        with to_leader(cluster, topic) as node:
            if acks == 0:
                node.send("produce", 9, answered=False, **produce_body(topic, records, acks=0))
                assert node.is_closed(), name
            else:
                answer = node.ask("produce", 9, **produce_body(topic, records, acks=acks)).responses[0].partition_responses[0]
                assert (answer.error_code, answer.base_offset) == (code, -1), (name, answer)
                assert answer.error_message, name


def flip(data: bytearray, position: int) -> bytes:
    return bytes(data[:position]) + bytes([data[position] ^ 0x40]) + bytes(data[position + 1 :])


def put(data: bytearray, position: int, piece: bytes) -> bytes:
    return bytes(data[:position]) + piece + bytes(data[position + len(piece) :])


# --- sizes and counts


def test_a_request_over_the_bound_is_refused_before_it_is_there(cluster: LocalCluster) -> None:
    """The size alone closes the connection; just under the bound a produce is read."""
    with RawConnection(cluster.nodes[0].kafka) as node:
        node.send_bytes(struct.pack(">i", REQUEST_BYTES_MAX + 1))
        assert node.is_closed()
    with RawConnection(cluster.nodes[0].kafka) as node:
        answer = node.ask("produce", 9, **produce_body("nowhere", bytes(REQUEST_BYTES_MAX - 1000)))
        assert answer.responses[0].partition_responses[0].error_code == ErrorCode.unknown_topic_or_partition
    with RawConnection(cluster.nodes[0].kafka) as node:
        node.send_bytes(framed(request_frame("metadata", 12, {"topics": []}) + bytes(2 * MEGABYTE)))
        assert node.is_closed()


MANY = 18_000  # items that a request may have, nearly
HUGE: dict[str, tuple[int, dict[str, Any]]] = {
    "metadata": (12, {"topics": [{"name": f"n{index}"} for index in range(MANY)], "allow_auto_topic_creation": False}),
    "metadata again": (8, {"topics": [{"name": "target"}] * MANY}),
    "metadata to create": (8, {"topics": [{"name": f"/{index}"} for index in range(MANY)]}),
    "create_topics": (7, {"topics": [{"name": f"n{index}", "num_partitions": 0} for index in range(MANY)]}),
    "create_topics of one": (7, {"topics": [{"name": "many", "num_partitions": 2**31 - 1, "replication_factor": 3}]}),
    "create_partitions": (3, {"topics": [{"name": f"n{index}", "count": 3, "assignments": None} for index in range(MANY)]}),
    "delete_topics": (6, {"topics": [{"name": f"n{index}"} for index in range(MANY)]}),
    "describe_configs": (4, {"resources": [{"resource_type": 2, "resource_name": "target"}] * MANY}),
    "describe_configs of none": (4, {"resources": [{"resource_type": 2, "resource_name": f"n{i}"} for i in range(MANY)]}),
    "incremental_alter_configs": (1, {"resources": [{"resource_type": 2, "resource_name": f"n{i}"} for i in range(MANY)]}),
    "list_offsets": (7, {"topics": [{"name": "target", "partitions": [{"partition_index": 0, "timestamp": 5}] * MANY}]}),
    "offset_for_leader_epoch": (4, {"topics": [{"topic": "target", "partitions": [{"partition": 0}] * MANY}]}),
    "delete_records": (2, {"topics": [{"name": "target", "partitions": [{"partition_index": 0, "offset": 0}] * MANY}]}),
    "fetch": (12, {"max_bytes": MEGABYTE, "topics": [{"topic": "target", "partitions": [{"partition": 0}] * MANY}]}),
    "produce": (9, {"acks": 1, "topic_data": [{"name": "target", "partition_data": [{"index": 0, "records": b""}] * MANY}]}),
}


@pytest.mark.parametrize("case", HUGE)
def test_enormous_arrays(cluster: LocalCluster, topic: str, case: str) -> None:
    """As many items as a request may have: an answer soon, and others are served meanwhile; ten times as many: refused."""
    version, body = HUGE[case]
    api = case.partition(" ")[0]
    frame = framed(request_frame(api, version, body))
    for node in cluster.nodes:
        with RawConnection(node.kafka) as connection:
            connection.send_bytes(frame)
            started = time.monotonic()
            assert connection.receive_frame() is not None
            assert time.monotonic() - started < 10
    (array,) = (name for name, value in body.items() if isinstance(value, list))
    if len(body[array]) == MANY and len(frame) < MEGABYTE // 2:
        with RawConnection(cluster.nodes[0].kafka) as connection:
            connection.send_bytes(framed(request_frame(api, version, body | {array: body[array] * 2})))
            assert connection.is_closed()


def test_claims_of_enormous_arrays(cluster: LocalCluster) -> None:
    """A count that the bytes cannot hold reserves nothing: the connection is closed."""
    counts = {
        "metadata": (8, b"\x7f\xff\xff\xff"),
        "create_topics": (7, b"\xff\xff\xff\xff\x0f"),
        "fetch": (4, b"\x7f\xff\xff\xff"),
    }
    for api, (version, count) in counts.items():
        fixed = struct.pack(">iiiib", -1, 0, 0, 0, 0) if api == "fetch" else b""
        header = request_frame(api, version, {})[
            : len(request_frame(api, version, {})) - len(encode_request(key_of(api), version, {}))
        ]
        with RawConnection(cluster.nodes[0].kafka) as connection:
            connection.send_bytes(framed(header + fixed + count + b"\x00" * 50))
            assert connection.is_closed()


def key_of(api: str) -> int:
    return next(key for key in API_TABLE if api_name(key) == api)


def test_more_connections_than_are_allowed(cluster: LocalCluster) -> None:
    """Those that are there go on; one more is closed, and finds room when another goes."""
    address = cluster.nodes[1].kafka
    open_ones: list[RawConnection] = []
    try:
        for _ in range(CONNECTIONS_MAX + 20):
            open_ones.append(RawConnection(address, timeout_s=5))
        assert open_ones[-1].is_closed()
        assert open_ones[0].ask("api_versions", 0).error_code == ErrorCode.none
    finally:
        for connection in open_ones:
            connection.close()

    def finds_room() -> bool:
        with contextlib.suppress(OSError), RawConnection(address, timeout_s=5) as connection:
            return bool(connection.ask("api_versions", 0).api_keys)
        return False

    assert eventually(finds_room)


# --- memory


def test_many_half_frames(cluster: LocalCluster) -> None:
    """Frames that never come to their end, small ones and large ones, dripping in: past the bound the oldest go."""
    address = cluster.nodes[0].kafka
    large = [RawConnection(address) for _ in range(12)]
    small = [RawConnection(address) for _ in range(150)]
    for connection in small:
        connection.send_bytes(struct.pack(">i", 100_000) + b"\x00")
    for connection in large:
        with contextlib.suppress(OSError):
            connection.send_bytes(struct.pack(">i", REQUEST_BYTES_MAX) + bytes(REQUEST_BYTES_MAX - 1))
    for _ in range(5):
        for connection in (*small, *large):
            with contextlib.suppress(OSError):
                connection.socket.send(b"")
        time.sleep(0.05)
    closed = sum(is_closed_now(connection) for connection in large)
    assert closed >= len(large) - HELD_BYTES_MAX // REQUEST_BYTES_MAX
    for connection in (*small, *large):
        connection.close()


def is_closed_now(connection: RawConnection) -> bool:
    connection.socket.settimeout(0.5)
    try:
        return connection.socket.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.fixture(scope="module")
def big(cluster: LocalCluster) -> str:
    """A topic of 60 MB in large batches."""
    create(cluster, "big")
    with to_leader(cluster, "big") as node:
        large = batch(random.Random(1).randbytes(1_000_000))
        for _ in range(60):
            assert produce(node, "big", large).error_code == ErrorCode.none
    return "big"


def test_clients_that_never_read(cluster: LocalCluster, big: str) -> None:
    """Many ask for all they can get and leave it where it is: what is held for them is bounded, a reader gets its records."""
    leader = leader_of(cluster, big)
    address = address_of(cluster, leader)
    stuck = [RawConnection(address, receive_buffer_bytes=4096) for _ in range(60)]
    frame = framed(request_frame("fetch", 12, fetch_body(big, 0, partition_max_bytes=60_000_000, max_bytes=60_000_000)))
    for connection in stuck:
        with contextlib.suppress(OSError):
            connection.send_bytes(frame * 3)
    with RawConnection(address) as reader:
        for _ in range(3):
            answer = reader.ask("fetch", 12, **fetch_body(big, 0, max_bytes=5_000_000, partition_max_bytes=5_000_000))
            assert len(answer.responses[0].partitions[0].records) >= 1_000_000
    http_address = next(node.http for node in cluster.nodes if node.node_id == leader)
    assert HELD_BYTES_MAX // 2 < metric(http_address, "quorumlog_answers_held_bytes") <= HELD_BYTES_MAX
    for connection in stuck:
        connection.close()


def test_produce_behind_a_produce_that_waits(cluster: LocalCluster, topic: str) -> None:
    """Large requests that are answered late do not stay in memory meanwhile."""
    paused = other_than(cluster, leader_of(cluster, topic))
    body = produce_body(topic, batch(b"waits"), timeout_ms=3000)
    body["topic_data"].append({"name": "nowhere", "partition_data": [{"index": 0, "records": bytes(6 * MEGABYTE)}]})
    with to_leader(cluster, topic) as node:
        frame = framed(request_frame("produce", 9, body))
        cluster.pause(paused)
        try:
            for _ in range(60):
                node.send_bytes(frame)
            time.sleep(0.2)
        finally:
            cluster.resume(paused)
        for _ in range(60):
            assert node.receive_frame() is not None
    cluster.wait_ready()


# --- floods


def test_pipelined_floods(cluster: LocalCluster) -> None:
    """Thousands of requests on each of many connections, sent without reading an answer."""
    small = framed(request_frame("api_versions", 0, {}))
    listing = framed(request_frame("metadata", 1, {"topics": None}))
    connections = [RawConnection(node.kafka) for node in cluster.nodes for _ in range(6)]
    for connection in connections:
        connection.socket.setblocking(False)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for index, connection in enumerate(connections):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                connection.socket.send((small if index % 2 else listing) * 2000)
        time.sleep(0.01)
    for connection in connections:
        connection.close()


def test_connections_that_come_and_go(cluster: LocalCluster, topic: str) -> None:
    """A thousand connections, each closed in the middle of something."""
    chance = random.Random(SEED)
    frame = framed(request_frame("fetch", 12, fetch_body(topic, 0, max_wait_ms=5000)))
    for turn in range(1000):
        host, _, port = cluster.nodes[turn % 3].kafka.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            if chance.random() < 0.3:  # a reset in place of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(frame[: chance.randrange(len(frame) + 1)])


# --- the other ports


def test_noise_at_the_port_of_the_peers(cluster: LocalCluster) -> None:
    """Random bytes, HTTP, Kafka, and half of a TLS hello, on connections that stay and on such that go."""
    chance = random.Random(SEED)
    noises = [
        b"GET / HTTP/1.1\r\n\r\n",
        framed(request_frame("api_versions", 0, {})),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chance.randbytes(200),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\xff\xff\xff\x01\x05\x00\x00\x00\x01",
    ]
    staying = []
    for turn in range(300):
        host, _, port = cluster.nodes[turn % 3].peer.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=5)
        with contextlib.suppress(OSError):
            connection.sendall(noises[turn % 5] if turn % 2 else chance.randbytes(chance.randrange(1, 2000)))
        staying.append(connection)
        if turn % 3:
            connection.close()
    for connection in staying:
        connection.close()


def test_noise_at_the_http_port(cluster: LocalCluster) -> None:
    """Neither noise nor connections that never finish their request keep the health checks from their answers."""
    chance = random.Random(SEED)
    host, _, port = cluster.nodes[0].http.rpartition(":")
    staying = []
    for turn in range(90):
        connection = socket.create_connection((host, int(port)), timeout=5)
        noise = (b"GET /healthz HTTP/1.1\r\nX: ", chance.randbytes(500), b"GET /" + b"x" * 100_000)[turn % 3]
        with contextlib.suppress(OSError):
            connection.sendall(noise)
        staying.append(connection)
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)):
        asker = http.client.HTTPConnection(host, int(port), timeout=5)
        asker.request("GET", path)
        assert asker.getresponse().status == status
        asker.close()
    for connection in staying:
        connection.close()


def test_acks_none_floods_are_not_answered(cluster: LocalCluster, topic: str) -> None:
    """Ten thousand small produces with acks=0: no answer, no trouble, and they are stored."""
    with to_leader(cluster, topic) as node:
        frame = framed(request_frame("produce", 9, produce_body(topic, batch(b"x"), acks=0)))
        for _ in range(100):
            node.send_bytes(frame * 100)
        assert node.ask("api_versions", 0).error_code == ErrorCode.none
