"""The segment files of real nodes, judged by others' readers: Kafka's format to the byte, the same on every replica."""

import itertools
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import cramjam
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from crc32c import crc32c
from kafka.record import MemoryRecords
from kio.records.readers import read_batch

from quorumlog.testing import LocalCluster
from tests.cluster.leaders import in_sync_of, wait_in_sync
from tests.cluster.production import Client, ConfluentClient, KafkaPythonClient, produce_through
from tests.cluster.segments import batches, log_bytes, segment_files, wait_equal
from tests.events import Found, create_topic, made_up, numbered, produce_all, read_all

pytestmark = [pytest.mark.process, pytest.mark.slow]

TOPIC = "events"
PARTITIONS = 2
COUNT = 10_000
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
SETTINGS = {"segment_bytes": 16 << 10, "retention_check_interval_ms": 200, "index_interval_bytes": 1024}
COMPRESSION_BITS = 0x07
RECOVERED = "recovered after a crash"


def fill(cluster: LocalCluster, topic: str, **config: str) -> list[Found]:
    """A topic with events in every compression, batches of many sizes; what a consumer reads of it."""
    create_topic(cluster.bootstrap_servers, topic, partitions=PARTITIONS, config={"min.insync.replicas": "2", **config})
    events = numbered(made_up(COUNT, size=60))
    for number, compression in enumerate(COMPRESSIONS):
        client = client_for(cluster, topic, compression, batch_size=3_000 * (number + 1))
        part = itertools.islice(events, COUNT // len(COMPRESSIONS))
        assert produce_through(client, part, COUNT // len(COMPRESSIONS), []).failed == {}
    return read(cluster, topic)


def client_for(cluster: LocalCluster, topic: str, compression: str, *, batch_size: int) -> Client:
    """librdkafka, but for lz4: that it uses only with brokers that know FindCoordinator, and else sends plain batches."""
    if compression == "lz4":
        return KafkaPythonClient(cluster.bootstrap_servers, topic, compression_type=compression, batch_size=batch_size)
    return ConfluentClient(cluster.bootstrap_servers, topic, compression_type=compression, batch_size=batch_size)


def read(cluster: LocalCluster, topic: str) -> list[Found]:
    return sorted(read_all(cluster.bootstrap_servers, topic), key=lambda one: (one.partition, one.offset))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Found]]:
    """The directory of a cluster that was stopped cleanly, and what was in its topic. Tests may start it, and leave it so."""
    directory = tmp_path_factory.mktemp("segments")
    with LocalCluster(nodes=3, directory=directory, settings=SETTINGS) as cluster:
        found = fill(cluster, TOPIC)
        wait_equal(cluster, TOPIC, range(PARTITIONS))
    assert len(found) == COUNT
    return directory, found


def replicas(directory: Path, partition: int) -> list[bytes]:
    return [log_bytes(directory / f"node-{node}", TOPIC, partition) for node in (1, 2, 3)]


Place = tuple[int, bytes, bytes]
"""Offset, key and value of a record."""


def by_kafka_python(log: bytes) -> Iterator[Place]:
    """Every record, with kafka-python's reader; it checks the CRC of each batch and undoes all five compressions."""
    reader = MemoryRecords(log)
    assert reader.valid_bytes() == len(log)
    while (batch := reader.next_batch()) is not None:
        assert batch.validate_crc()
        for record in batch:
            yield record.offset, record.key, record.value


def by_kio(log: bytes) -> Iterator[Place]:
    """Every record, with kio's reader. It knows no compression, so compressed batches are given to it unpacked."""
    for _, batch in batches(log):
        plain = unpacked(batch)
        parsed, size = read_batch(plain, 0)
        assert size == len(plain)
        for record in parsed.records:
            yield record.offset, record.key, record.value


def unpacked(batch: bytes) -> bytes:
    """The same batch without compression, by the letter of Kafka's protocol guide."""
    attributes = int.from_bytes(batch[21:23], "big")
    undo: dict[int, Callable[[bytes], bytes]] = {
        0: lambda data: data,
        1: lambda data: bytes(cramjam.gzip.decompress(data)),
        2: unpacked_snappy,
        3: lambda data: bytes(cramjam.lz4.decompress(data)),
        4: lambda data: bytes(cramjam.zstd.decompress(data)),
    }
    records = undo[attributes & COMPRESSION_BITS](batch[61:])
    body = (attributes & ~COMPRESSION_BITS).to_bytes(2, "big") + batch[23:61] + records
    length = (len(body) + 9).to_bytes(4, "big")
    return batch[:8] + length + batch[12:17] + crc32c(body).to_bytes(4, "big") + body


def unpacked_snappy(data: bytes) -> bytes:
    """librdkafka's snappy, without xerial's blocks."""
    return bytes(cramjam.snappy.decompress_raw(data))


@pytest.mark.parametrize("parse", [by_kafka_python, by_kio])
def test_other_readers_find_every_record(stopped: tuple[Path, list[Found]], parse: Callable[[bytes], Iterator[Place]]) -> None:
    """Every batch of every segment parses, and holds just the records that a consumer was given, at their offsets."""
    directory, found = stopped
    for partition in range(PARTITIONS):
        expected = [(one.offset, one.key, one.number) for one in found if one.partition == partition]
        places = [(offset, key, int(value[:12])) for offset, key, value in parse(replicas(directory, partition)[0])]
        assert places == expected


def test_segments_are_equal_and_without_gaps(stopped: tuple[Path, list[Found]]) -> None:
    """Byte for byte the same on all replicas; offsets go on from batch to batch; a file is named by its first offset."""
    directory, _ = stopped
    seen = set()
    for partition in range(PARTITIONS):
        logs = replicas(directory, partition)
        assert logs[0] == logs[1] == logs[2]
        for node in (1, 2, 3):
            files = segment_files(directory / f"node-{node}", TOPIC, partition)
            assert len(files) > 5
            expected = 0
            for path in files:
                assert path.name == f"{expected:020d}.log"
                headers = [header for header, _ in batches(path.read_bytes())]
                for header in headers:
                    assert header.base_offset == expected
                    seen.add(header.compression)
                    expected = header.next_offset
                assert path.stat().st_size <= SETTINGS["segment_bytes"] or len(headers) == 1
    assert seen == {0, 1, 2, 3, 4}, "the run must have stored every compression"


def new_log(directory: Path, start: dict[int, int]) -> str:
    """What the nodes have logged since `start`."""
    return "".join((directory / f"node-{node}.log").read_text()[start[node] :] for node in (1, 2, 3))


def log_sizes(directory: Path) -> dict[int, int]:
    return {node: len((directory / f"node-{node}.log").read_text()) for node in (1, 2, 3)}


def test_a_start_after_a_clean_stop_scans_nothing(stopped: tuple[Path, list[Found]]) -> None:
    """Everything was synced and checkpointed: no log is read at the start. After kill -9 it is, so the judge can see it."""
    directory, found = stopped
    before = log_sizes(directory)
    with LocalCluster(directory=directory, settings=SETTINGS) as cluster:
        assert read(cluster, TOPIC) == found
        assert RECOVERED not in new_log(directory, before)
        produce_all(cluster.bootstrap_servers, "more", numbered(made_up(1000)))
        cluster.kill(2)
        cluster.start(2)
        wait_in_sync(cluster.bootstrap_servers, "more")
        assert RECOVERED in new_log(directory, before)
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
        admin.delete_topics(["more"])["more"].result(10)


def test_rebuild_recreates_what_the_store_holds(stopped: tuple[Path, list[Found]]) -> None:
    """With all that the store knows of the segments made anew from the files, nodes serve the same, and scan nothing."""
    directory, found = stopped
    times = {partition: timestamp_in_the_middle(replicas(directory, partition)[0]) for partition in range(PARTITIONS)}
    with LocalCluster(directory=directory, settings=SETTINGS) as cluster:
        expected = offsets_by_time(cluster, times)
    for node in (1, 2, 3):
        done = subprocess.run(
            [sys.executable, "-m", "quorumlog.node", "rebuild", "--data-dir", str(directory / f"node-{node}")],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        held = len(list((directory / f"node-{node}" / "logs").iterdir()))  # those of groups are there as well
        assert f"rebuilt what the store keeps of {held} partitions" in done.stdout
    before = log_sizes(directory)
    with LocalCluster(directory=directory, settings=SETTINGS) as cluster:
        assert read(cluster, TOPIC) == found
        assert offsets_by_time(cluster, times) == expected
        wait_in_sync(cluster.bootstrap_servers, TOPIC)
        assert RECOVERED not in new_log(directory, before)
        wait_equal(cluster, TOPIC, range(PARTITIONS))


def timestamp_in_the_middle(log: bytes) -> int:
    headers = [header for header, _ in batches(log)]
    return headers[len(headers) // 2].max_timestamp


def offsets_by_time(cluster: LocalCluster, times: dict[int, int]) -> dict[int, int]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "times"})
    try:
        wanted = [TopicPartition(TOPIC, partition, time_ms) for partition, time_ms in times.items()]
        return {one.partition: one.offset for one in consumer.offsets_for_times(wanted, timeout=10)}
    finally:
        consumer.close()


# --- deleting


def log_starts(cluster: LocalCluster, topic: str) -> list[dict[int, int]]:
    """Of each node: partition -> the first offset of its replica, as its metrics say."""
    return [_log_starts(node.http, topic) for node in cluster.nodes]


def _log_starts(http: str, topic: str) -> dict[int, int]:
    starts = {}
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=2) as response:
        for line in response.read().decode().splitlines():
            if line.startswith("quorumlog_partition_log_start_offset{") and f'topic="{topic}"' in line:
                labels = dict(label.split("=") for label in line[line.index("{") + 1 : line.index("}")].split(","))
                starts[int(labels["partition"].strip('"'))] = int(float(line.rpartition(" ")[2]))
    return starts


def wait_until(holds: Callable[[], bool], what: Callable[[], object], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what()}"
        time.sleep(0.05)


def all_files(cluster: LocalCluster, topic: str) -> list[list[Path]]:
    return [segment_files(node.data_dir, topic, partition) for node in cluster.nodes for partition in range(PARTITIONS)]


def test_deleting_from_the_beginning() -> None:
    """retention.bytes and retention.ms delete whole segment files on every replica; DeleteRecords moves the start on all of them,
    deletes the files below, and holds over crashes."""
    with LocalCluster(nodes=3, settings=SETTINGS) as cluster:
        by_size = fill(cluster, "by-size", **{"retention.bytes": "60000"})
        wait_until(
            lambda: all(sum(path.stat().st_size for path in files) < 100_000 for files in all_files(cluster, "by-size")),
            lambda: [sum(path.stat().st_size for path in files) for files in all_files(cluster, "by-size")],
        )
        check_tail(cluster, "by-size", by_size)

        fill(cluster, "by-time", **{"retention.ms": "1000"})
        wait_until(
            lambda: all(sum(path.stat().st_size for path in files) == 0 for files in all_files(cluster, "by-time")),
            lambda: [[(path.name, path.stat().st_size) for path in files] for files in all_files(cluster, "by-time")],
        )
        assert read(cluster, "by-time") == []

        asked = fill(cluster, "on-demand")
        delete_records(cluster, "on-demand", {0: 3001, 1: 50})
        wait_until(
            lambda: all(starts == {0: 3001, 1: 50} for starts in log_starts(cluster, "on-demand")),
            lambda: log_starts(cluster, "on-demand"),
        )
        for files in all_files(cluster, "on-demand")[::PARTITIONS]:
            assert 0 < int(files[0].stem) <= 3001 < int(files[1].stem)
        remaining = [one for one in asked if one.offset >= {0: 3001, 1: 50}[one.partition]]
        assert read(cluster, "on-demand") == remaining
        for node in (1, 2, 3):
            cluster.kill(node)
        for node in (1, 2, 3):
            cluster.start(node, wait=False)
        cluster.wait_ready()
        wait_in_sync(cluster.bootstrap_servers, "on-demand")
        assert all(starts == {0: 3001, 1: 50} for starts in log_starts(cluster, "on-demand"))
        assert read(cluster, "on-demand") == remaining
        check_tail(cluster, "by-size", by_size)
        assert set(in_sync_of(cluster.bootstrap_servers, "by-time")) == {0, 1}


def check_tail(cluster: LocalCluster, topic: str, once_there: list[Found]) -> None:
    """What is left of each partition is an end of what was there, on every replica from the same offset on."""
    starts = log_starts(cluster, topic)
    assert starts[0] == starts[1] == starts[2]
    assert all(start > 0 for start in starts[0].values())
    left = read(cluster, topic)
    assert left == [one for one in once_there if one.offset >= starts[0][one.partition]]


def delete_records(cluster: LocalCluster, topic: str, before: dict[int, int]) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap_servers})
    answers = admin.delete_records([TopicPartition(topic, partition, offset) for partition, offset in before.items()])
    for place, answer in answers.items():
        assert answer.result(10).low_watermark == before[place.partition]
