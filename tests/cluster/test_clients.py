"""Unmodified client libraries: what they can do with Kafka they can do here, and what is refused they can tell."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cluster.leaders import busiest_leader
from tests.cluster.libraries import BEGINNING, END, LIBRARIES, Library, Message, Refused
from tests.cluster.raw import bugs_in, create, eventually, leader_of
from tests.events import create_topic

pytestmark = [pytest.mark.process, pytest.mark.slow]

COMPRESSIONS = [None, "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings={"num_partitions": 2, "leader_rebalance_interval_s": 0}) as cluster:
        yield cluster
        assert not bugs_in(cluster)


@pytest.fixture(params=LIBRARIES)
def library(cluster: LocalCluster, request: pytest.FixtureRequest) -> Library:
    return LIBRARIES[request.param](cluster.bootstrap_servers)


@pytest.fixture
def topic(cluster: LocalCluster, request: pytest.FixtureRequest) -> str:
    """A topic of two partitions, of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:200]
    create(cluster, name, partitions=2, retention_ms="-1")  # the times are of old
    return name


# --- records


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_records_come_back_as_they_were_sent(library: Library, topic: str, compression: str | None) -> None:
    """Keys, values, nulls, headers and timestamps, in every compression; read by the same library and by another."""
    sent = [
        Message(b"value", b"key", (("name", b"value"), ("name", b""), ("\u00e4", b"\x00\xff")), 1_600_000_000_123),
        Message(None, b"tombstone", (), 1_600_000_000_124),
        Message(b"no key", None, (), 1_600_000_000_122),
        Message(b"", b"", (), 1_600_000_000_125),
        *(Message(b"x" * 1000, b"%d" % index, (), 1_600_000_001_000 + index) for index in range(50)),
    ]
    places = library.produce(topic, sent, compression=compression)
    assert places == [(0, index) for index in range(54)]
    assert [message for _, message in library.consume(topic, BEGINNING, 54)] == sent


def test_one_library_reads_what_another_wrote(cluster: LocalCluster) -> None:
    """Each with its own compression, in one partition: all read the same."""
    create(cluster, "mixed", retention_ms="-1")
    libraries = {name: make(cluster.bootstrap_servers) for name, make in LIBRARIES.items()}
    sent = []
    for turn, (name, library) in enumerate(libraries.items()):
        batch = [Message(name.encode(), b"%d" % index, (("h", name.encode()),), 1000 * (turn + 1) + index) for index in range(20)]
        library.produce("mixed", batch, compression=COMPRESSIONS[1 + turn])
        sent += batch
    for library in libraries.values():
        assert [message for _, message in library.consume("mixed", BEGINNING, 60)] == sent


@pytest.mark.parametrize("acks", ["all", 1, 0])
def test_every_acks(library: Library, topic: str, acks: str | int) -> None:
    """With an answer there is an offset; without one the records are there all the same."""
    places = library.produce(topic, [Message(b"%d" % index) for index in range(10)], acks=acks)
    assert [offset for _, offset in places] == ([-1] * 10 if acks == 0 and places[0][1] < 0 else list(range(10)))
    assert [message.value for _, message in library.consume(topic, BEGINNING, 10)] == [b"%d" % index for index in range(10)]


def test_large_records(library: Library, topic: str) -> None:
    """Up to max.message.bytes they are taken; over it the cluster refuses, and the library says so."""
    fitting = Message(os.urandom(1_000_000))
    assert library.produce(topic, [fitting], record_bytes_max=20_000_000) == [(0, 0)]
    with pytest.raises(Refused) as refused:
        library.produce(topic, [Message(os.urandom(2_000_000))], record_bytes_max=20_000_000)
    assert refused.value.code == ErrorCode.message_too_large
    ((_, found),) = library.consume(topic, BEGINNING, 1)
    assert found.value == fitting.value
    assert library.ends(topic) == (0, 1)


def test_a_raised_limit_is_obeyed(library: Library, cluster: LocalCluster) -> None:
    """A topic that takes more takes it from every library, and gives it back."""
    name = f"large-{type(library).__name__}"
    create(cluster, name, max_message_bytes="9000000")
    large = Message(os.urandom(8_000_000))
    assert library.produce(name, [large], record_bytes_max=20_000_000) == [(0, 0)]
    assert library.consume(name, 0, 1)[0][1].value == large.value


# --- reading from somewhere


def test_seeking(library: Library, topic: str) -> None:
    """By offset, to the beginning and to the end; the ends are told."""
    library.produce(topic, [Message(b"%d" % index, timestamp_ms=1000 + index) for index in range(20)])
    assert [offset for offset, _ in library.consume(topic, 13, 7)] == list(range(13, 20))
    assert [offset for offset, _ in library.consume(topic, BEGINNING, 3)] == [0, 1, 2]
    assert library.consume(topic, END, 0) == []
    assert library.ends(topic) == (0, 20)
    assert library.ends(topic, partition=1) == (0, 0)
    assert library.consume(topic, 5, 1)[0][1].value == b"5"


def test_offsets_for_times(library: Library, topic: str) -> None:
    """The first record that is not older; none beyond the newest."""
    for start in (1000, 2000):
        library.produce(
            topic, [Message(b"%d" % index, timestamp_ms=start + 10 * index) for index in range(10)], compression="gzip"
        )
    assert library.offset_at(topic, 0) == 0
    assert library.offset_at(topic, 1031) == 4
    assert library.offset_at(topic, 1500) == 10
    assert library.offset_at(topic, 2090) == 19
    assert library.offset_at(topic, 2091) in (None, 20)


# --- administration


def test_topics_are_made_shown_grown_and_deleted(library: Library) -> None:
    """The whole life of a topic; what is wrong is refused with Kafka's code."""
    name = f"life-{type(library).__name__}"
    library.create_topic(name, 2, 3, {"retention.ms": "123456"})
    eventually(lambda: library.topics().get(name) == 2)
    with pytest.raises(Refused) as refused:
        library.create_topic(name, 2, 3, {})
    assert refused.value.code == ErrorCode.topic_already_exists
    assert library.configs(name)["retention.ms"] == "123456"
    library.grow_topic(name, 5)
    eventually(lambda: library.topics().get(name) == 5)
    with pytest.raises(Refused) as refused:
        library.grow_topic(name, 3)
    assert refused.value.code == ErrorCode.invalid_partitions
    assert library.produce(name, [Message(b"x", partition=4)]) == [(4, 0)]
    library.delete_topic(name)
    eventually(lambda: name not in library.topics())
    with pytest.raises(Refused) as refused:
        library.delete_topic(name)
    assert refused.value.code == ErrorCode.unknown_topic_or_partition


@pytest.mark.parametrize(
    ("name", "replicas", "configs", "code"),
    [
        ("not/a/name", 3, {}, ErrorCode.invalid_topic_exception),
        ("too-many", 4, {}, ErrorCode.invalid_replication_factor),
        ("wrong", 3, {"no.such": "1"}, ErrorCode.invalid_config),
    ],
)
def test_wrong_topics_are_refused(library: Library, name: str, replicas: int, configs: dict[str, str], code: ErrorCode) -> None:
    """With Kafka's code, which the library knows."""
    with pytest.raises(Refused) as refused:
        library.create_topic(name, 1, replicas, configs)
    assert refused.value.code == code


def test_settings_are_described_and_altered(library: Library, topic: str) -> None:
    """An alteration shows; a wrong one is refused and changes nothing."""
    assert library.configs(topic)["max.message.bytes"] == "1048588"
    if type(library).__name__ == "Aiokafka":
        with pytest.raises(NotImplementedError):
            library.set_config(topic, "max.message.bytes", "2000")
        return
    library.set_config(topic, "max.message.bytes", "2000")
    eventually(lambda: library.configs(topic)["max.message.bytes"] == "2000")
    with pytest.raises(Refused) as refused:
        library.set_config(topic, "max.message.bytes", "many")
    assert refused.value.code == ErrorCode.invalid_config
    assert library.configs(topic)["max.message.bytes"] == "2000"


def test_the_cluster_is_described(library: Library, cluster: LocalCluster) -> None:
    """All brokers by their addresses, and one of them as the controller."""
    _, brokers, controller = library.cluster()
    assert brokers == {node.node_id: node.kafka for node in cluster.nodes}
    assert controller in brokers


def test_records_are_deleted(library: Library, topic: str) -> None:
    """From the beginning up to an offset; the rest is still there."""
    library.produce(topic, [Message(b"%d" % index) for index in range(10)])
    assert library.delete_records(topic, 6) == 6
    assert library.ends(topic) == (6, 10)
    assert [offset for offset, _ in library.consume(topic, BEGINNING, 4)] == [6, 7, 8, 9]


def test_a_topic_is_born_when_it_is_needed(library: Library) -> None:
    """Producing to an unknown topic creates it, with the cluster's number of partitions."""
    name = f"born-{type(library).__name__}"
    assert library.produce(name, [Message(b"first")]) == [(0, 0)]
    assert eventually(lambda: library.topics().get(name)) == 2
    assert library.consume(name, BEGINNING, 1)[0][1].value == b"first"


# --- a leader dies


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_leader_dies_under_a_producer_and_a_consumer(cluster: LocalCluster, name: str) -> None:
    """Both go on with the new leaders: everything is acknowledged, and everything acknowledged is read, once and in order."""
    topic = f"survives-{name}"
    create_topic(cluster.bootstrap_servers, topic, partitions=3)
    library = LIBRARIES[name](cluster.bootstrap_servers)
    stop = threading.Event()
    found: list[tuple[int, int, bytes | None]] = []
    reader = threading.Thread(
        target=lambda: found.extend((*place, one.value) for place, one in library.stream(topic, range(3), stop)), daemon=True
    )
    reader.start()
    victim = busiest_leader(cluster.bootstrap_servers, topic)
    killer = threading.Timer(0.3, cluster.kill, [victim])
    killer.start()
    sent: dict[tuple[int, int], bytes | None] = {}
    number = 0
    started = time.monotonic()
    while time.monotonic() - started < 1.5:
        messages = [Message(b"%d" % (number + index), b"k", partition=index % 3) for index in range(30)]
        places = library.produce(topic, messages)
        sent |= dict(zip(places, (message.value for message in messages), strict=True))
        number += len(messages)
    killer.join()
    cluster.start(victim)
    eventually(lambda: len({(partition, offset) for partition, offset, _ in found}) >= len(sent))
    stop.set()
    reader.join(30)
    assert not reader.is_alive()
    assert sent == {(partition, offset): value for partition, offset, value in found}
    assert len(found) == len(sent)
    assert leader_of(cluster, topic) > 0


# --- kcat


def kcat(*arguments: str, stdin: bytes = b"") -> bytes:
    """What kcat prints. Where it must not be missing (CI=true) its absence is a failure."""
    path = shutil.which("kcat") or shutil.which("kafkacat")
    if path is None:
        reason = "kcat is not installed (apt-get install kcat)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(f"NOT JUDGED WITH KCAT: {reason}")
    done = subprocess.run([path, *arguments], input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_kcat_produces_and_consumes(cluster: LocalCluster, topic: str, compression: str) -> None:
    """Debian's librdkafka, an old one: keys, headers, every compression it has."""
    bootstrap = ("-b", cluster.bootstrap_servers)
    lines = b"".join(b"key-%d:value-%d\n" % (index, index) for index in range(100))
    kcat(*bootstrap, "-P", "-t", topic, "-p", "0", "-K:", "-z", compression, "-H", "name=value", "-X", "acks=all", stdin=lines)
    read = kcat(*bootstrap, "-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%o %k:%s %h\n")
    assert read.decode().splitlines() == [f"{index} key-{index}:value-{index} name=value" for index in range(100)]
    last = kcat(*bootstrap, "-C", "-t", topic, "-p", "0", "-o", "-3", "-e", "-q", "-f", "%s\n")
    assert last.decode().split() == ["value-97", "value-98", "value-99"]


def test_kcat_lists_and_searches(cluster: LocalCluster, topic: str) -> None:
    """The metadata, and an offset by time."""
    bootstrap = ("-b", cluster.bootstrap_servers)
    kcat(*bootstrap, "-P", "-t", topic, "-p", "1", stdin=b"one\ntwo\n")
    listed = kcat(*bootstrap, "-L").decode()
    assert all(f"broker {node.node_id} at {node.kafka}" in listed for node in cluster.nodes)
    assert f'topic "{topic}" with 2 partitions' in listed
    assert f"{topic} [1] offset 0" in kcat(*bootstrap, "-Q", "-t", f"{topic}:1:1000").decode()
