"""Kafka's command-line tools and kcat: each does its work, and says what it should."""

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.clients import cache
from tests.clients.catalogue import JVM, QUIET
from tests.clients.peers import Peer
from tests.clients.stage import eventually
from tests.cluster.libraries import Confluent, Message

TIMEOUT_S = 150
NOW_MS = int(time.time() * 1000)
TOOLS = "org.apache.kafka.tools."


@dataclass(frozen=True, slots=True)
class Bench:
    """What a tool is run on. `java` is empty for kcat."""

    peer: Peer
    java: tuple[str, ...] = ()

    def tool(self, name: str, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """What a tool of Kafka's prints."""
        full = name if name.startswith("kafka.") else TOOLS + name
        return _run([*self.java, full, *arguments], stdin, status)

    def ask(self, name: str, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """The same, with the cluster's address."""
        return self.tool(name, "--bootstrap-server", self.peer.bootstrap_servers, *arguments, stdin=stdin, status=status)

    def kcat(self, *arguments: str, stdin: str = "") -> str:
        return _run([*self.kcat_command, *arguments], stdin, 0)

    @property
    def kcat_command(self) -> tuple[str, ...]:
        return ("kcat", "-b", self.peer.bootstrap_servers)

    @property
    def reference(self) -> Confluent:
        return Confluent(self.peer.bootstrap_servers)

    def topic(self, name: str, partitions: int = 1, replicas: int = 3, **configs: str) -> str:
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        self.reference.create_topic(name, partitions, replicas, settings)
        eventually(lambda: self.reference.topics().get(name) == partitions, f"{name} is there")
        return name


def _run(command: list[str], stdin: str, status: int) -> str:
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command[-8:]} did not end within {TIMEOUT_S} s: {error.stdout!r}") from None
    said = done.stdout + done.stderr
    assert done.returncode == status, f"{command[-8:]} ended with {done.returncode}: {said[-800:]}"
    return said


def holds(text: str, *patterns: str) -> None:
    for pattern in patterns:
        assert re.search(pattern, text), f"no {pattern!r} in: {text[-800:]}"


def topics(at: Bench) -> None:
    at.ask("TopicCommand", "--create", "--topic", "tool-topics", "--partitions", "3", "--config", "retention.ms=123456")
    described = at.ask("TopicCommand", "--describe", "--topic", "tool-topics")
    holds(described, r"PartitionCount: ?3", r"ReplicationFactor: ?3", r"retention\.ms=123456", r"Partition: 2\s+Leader: [123]")
    at.ask("TopicCommand", "--alter", "--topic", "tool-topics", "--partitions", "5")
    holds(at.ask("TopicCommand", "--list"), r"tool-topics")
    holds(at.ask("TopicCommand", "--create", "--topic", "tool-topics", status=1), r"already exists")
    at.ask("TopicCommand", "--delete", "--topic", "tool-topics")
    assert "tool-topics" not in at.ask("TopicCommand", "--list")


def configs(at: Bench) -> None:
    topic = at.topic("tool-configs")
    entity = ("--entity-type", "topics", "--entity-name", topic)
    at.ask("kafka.admin.ConfigCommand", *entity, "--alter", "--add-config", "retention.ms=654321,cleanup.policy=compact")
    described = at.ask("kafka.admin.ConfigCommand", *entity, "--describe")
    holds(described, r"retention\.ms=654321", r"cleanup\.policy=compact", r"DYNAMIC_TOPIC_CONFIG")
    at.ask("kafka.admin.ConfigCommand", *entity, "--alter", "--delete-config", "retention.ms")
    everything = at.ask("kafka.admin.ConfigCommand", *entity, "--describe", "--all")
    holds(everything, r"retention\.ms=604800000", r"DEFAULT_CONFIG")
    broker = ("--entity-type", "brokers", "--entity-name", "1")
    holds(at.ask("kafka.admin.ConfigCommand", *broker, "--describe", "--all"), r"num\.partitions=2", r"STATIC_BROKER_CONFIG")


def console(at: Bench) -> None:
    topic = at.topic("tool-console")
    lines = "".join(f"key-{number}\tvalue-{number}\n" for number in range(50))
    at.ask("ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true", stdin=lines)
    how = ("--from-beginning", "--max-messages", "50", "--formatter-property", "print.key=true", "--timeout-ms", "30000")
    read = at.ask("consumer.ConsoleConsumer", "--topic", topic, *how)
    assert [line for line in read.splitlines() if line.startswith("key-")] == lines.splitlines()


def groups(at: Bench) -> None:
    """A console consumer's group: shown with its lag, reset, read again, deleted."""
    topic, group = at.topic("tool-groups"), "tool-group"
    at.reference.produce(topic, [Message(b"%d" % number) for number in range(20)])
    read = ("--topic", topic, "--group", group, "--from-beginning", "--max-messages", "20", "--timeout-ms", "30000")
    at.ask("consumer.ConsoleConsumer", *read)
    command = partial(at.ask, "consumer.group.ConsumerGroupCommand")
    holds(command("--describe", "--group", group), rf"{group}\s+{topic}\s+0\s+20\s+20\s+0")
    holds(command("--list", "--state"), rf"{group}\s+\S*\s*Empty")
    moved = command("--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "5", "--execute")
    holds(moved, rf"{topic}\s+0\s+5")
    holds(command("--describe", "--group", group), rf"{group}\s+{topic}\s+0\s+5\s+20\s+15")
    holds(command("--delete-offsets", "--group", group, "--topic", topic), r"Successful")
    holds(command("--delete", "--group", group), r"successful")


def offsets(at: Bench) -> None:
    topic = at.topic("tool-offsets", 2)
    at.reference.produce(topic, [Message(b"%d" % number, timestamp_ms=NOW_MS + number) for number in range(7)])
    holds(at.ask("GetOffsetShell", "--topic", topic, "--time", "-1"), rf"{topic}:0:7", rf"{topic}:1:0")
    holds(at.ask("GetOffsetShell", "--topic", topic, "--time", "-2"), rf"{topic}:0:0")
    holds(at.ask("GetOffsetShell", "--topic", topic, "--time", "-3"), rf"{topic}:0:6")


def reassigned(at: Bench) -> None:
    """Executed with a throttle, then verified, which takes the throttle away."""
    topic = at.topic("tool-reassign", replicas=2)
    at.reference.produce(topic, [Message(b"%d" % number) for number in range(100)])
    held = at.peer.admin.list_topics(topic, timeout=30).topics[topic].partitions[0].replicas
    target = [({1, 2, 3} - set(held)).pop(), held[0]]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "replicas": target}]}, plan)
        plan.flush()
        command = partial(at.ask, "reassign.ReassignPartitionsCommand", "--reassignment-json-file", plan.name)
        holds(command("--execute", "--throttle", "10000000"), r"Successfully started partition reassignment")
        eventually(lambda: "is completed" in command("--verify"), "the reassignment is completed", 60)
    assert at.peer.admin.list_topics(topic, timeout=30).topics[topic].partitions[0].replicas == target
    assert "throttled.replicas=" not in at.ask("kafka.admin.ConfigCommand", "--entity-type", "topics", "--describe").replace(
        "throttled.replicas=,", ""
    )


def dump_log(at: Bench) -> None:
    """Kafka reads our segment files: every batch valid, every record printed."""
    topic = at.topic("tool-dump")
    for compression in ("none", "gzip", "zstd"):
        messages = [Message(b"value-%d" % number, b"key") for number in range(10)]
        at.reference.produce(topic, messages, compression=None if compression == "none" else compression)
    eventually(lambda: _dumped(at, topic) == 30, "30 records are in the segment files of a replica")


def _dumped(at: Bench, topic: str) -> int:
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for segment in at.peer.segments(topic, 0):
            files.append(str(shutil.copy(segment, Path(directory) / f"{int(re.sub(r'[^0-9]', '', segment.stem)):020}.log")))
        said = at.tool("DumpLogSegments", "--deep-iteration", "--print-data-log", "--files", ",".join(files))
    assert "isvalid: false" not in said, said[-800:]
    return len(re.findall(r"payload: value-\d", said))


def verifiable(at: Bench) -> None:
    topic = at.topic("tool-verifiable", 3)
    said = at.ask("VerifiableProducer", "--topic", topic, "--max-messages", "300", "--acks", "-1")
    holds(said, r'"acked":300')
    how = ("--topic", topic, "--group-id", "tool-verifiable", "--max-messages", "300", "--reset-policy", "earliest")
    said = at.ask("VerifiableConsumer", *how)
    counts = [
        int(count)
        for count in re.findall(r'"name":"records_consumed".*?"count":(\d+)|"count":(\d+),"partitions"', said)
        for count in count
        if count
    ]
    assert sum(counts) == 300, said[-800:]
    holds(said, r'"name":"offsets_committed".*"success":true|"success":true.*"name":"offsets_committed"')


def performance(at: Bench) -> None:
    topic = at.topic("tool-perf", 3)
    properties = ("--producer-props", f"bootstrap.servers={at.peer.bootstrap_servers}", "acks=all")
    records = ("--num-records", "20000", "--record-size", "100", "--throughput", "-1")
    holds(at.tool("ProducerPerformance", "--topic", topic, *records, *properties), r"20000 records sent")
    said = at.ask("ConsumerPerformance", "--topic", topic, "--messages", "20000", "--timeout", "30000")
    holds(said, r", 20000, ")


def other_admin(at: Bench) -> None:
    """Versions, quorum, log directories, leaders, deletion of records."""
    holds(at.ask("BrokerApiVersionsCommand"), r"\(id: 3 .*ConsumerGroupHeartbeat|ConsumerGroupHeartbeat\(68\)")
    holds(at.ask("MetadataQuorumCommand", "describe", "--status"), r"LeaderId:\s+[123]")
    topic = at.topic("tool-admin")
    at.reference.produce(topic, [Message(b"%d" % number) for number in range(10)])
    holds(at.ask("LogDirsCommand", "--describe", "--topic-list", topic), rf'"partition":"{topic}-0"')
    holds(
        at.ask("LeaderElectionCommand", "--election-type", "preferred", "--topic", topic, "--partition", "0"),
        r"(?i)valid replica already elected",
    )
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 4}]}, file)
        file.flush()
        holds(at.ask("DeleteRecordsCommand", "--offset-json-file", file.name), r"low_watermark: 4")


def kcat_lists(at: Bench) -> None:
    topic = at.topic("kcat-list", 2)
    at.kcat("-P", "-t", topic, "-p", "1", stdin="one\ntwo\n")
    holds(at.kcat("-L"), r"3 brokers", rf'topic "{topic}" with 2 partitions')
    holds(at.kcat("-Q", "-t", f"{topic}:1:1000"), rf"{topic} \[1\] offset 0")


def kcat_records(at: Bench) -> None:
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = at.topic(f"kcat-{codec}")
        lines = "".join(f"key-{number}:value-{number}\n" for number in range(50))
        at.kcat("-P", "-t", topic, "-K:", "-z", codec, "-H", "name=value", stdin=lines)
        read = at.kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o %k:%s %h\n")
        assert read.splitlines() == [f"{number} key-{number}:value-{number} name=value" for number in range(50)]
        assert at.kcat("-C", "-t", topic, "-o", "-2", "-e", "-q", "-f", "%s\n").split() == ["value-48", "value-49"]


def kcat_groups(at: Bench) -> None:
    """As a group's only member; what it committed is not read again."""
    topic = at.topic("kcat-group")
    at.kcat("-P", "-t", topic, stdin="one\ntwo\nthree\n")
    how = ("-G", "kcat-group", "-q", "-e", "-f", "%s\n", "-X", "auto.offset.reset=earliest", topic)
    assert at.kcat(*how).split() == ["one", "two", "three"]
    at.kcat("-P", "-t", topic, stdin="four\n")
    assert at.kcat(*how).split() == ["four"]


Work = Callable[[Bench], None]
KAFKA_TOOLS: dict[str, Work] = {
    "kafka-topics": topics,
    "kafka-configs": configs,
    "kafka-console-producer, -consumer": console,
    "kafka-consumer-groups": groups,
    "kafka-get-offsets": offsets,
    "kafka-reassign-partitions": reassigned,
    "kafka-dump-log on segment files": dump_log,
    "kafka-verifiable-producer, -consumer": verifiable,
    "kafka-producer-perf-test, -consumer-": performance,
    "kafka-broker-api-versions, -metadata-quorum, -log-dirs, -leader-election, -delete-records": other_admin,
}
KCAT: dict[str, Work] = {"lists and asks": kcat_lists, "produces and consumes": kcat_records, "consumes by group": kcat_groups}


def java_command() -> tuple[str, ...]:
    """Raises LackingError."""
    return (cache.java(), *JVM, QUIET, "-cp", cache.classpath())


def kcat_version() -> str:
    """Raises LackingError."""
    path = shutil.which("kcat")
    if path is None:
        raise cache.LackingError("there is no kcat (apt-get install kcat)")
    said = subprocess.run([path, "-V"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Version (\S+)", said)
    return found.group(1) if found else "?"
