"""Command-line tools at work while a leader is killed: one produces, one consumes, and everything comes through once."""

import contextlib
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from tests.clients.stage import eventually
from tests.clients.tools import TIMEOUT_S, TOOLS, Bench

COUNT = 600
PAUSE_S = 0.01
NUMBERS = [str(number) for number in range(COUNT)]


def kcat(at: Bench, victim: int) -> Iterator[None]:
    topic = _topic(at, "kcat-leader-killed", victim)
    read = ("-C", "-t", topic, "-o", "beginning", "-c", str(COUNT), "-q", "-u", "-f", "%s\n")
    sent = ("-P", "-t", topic, "-X", "enable.idempotence=true", "-X", "linger.ms=1")
    yield
    with Aside(*at.kcat_command, *read) as consumer, Aside(*at.kcat_command, *sent) as producer:
        threading.Thread(target=producer.type, args=[NUMBERS], daemon=True).start()
        _arriving(at, topic)
        yield
        producer.finish()
        assert sorted(consumer.finish().split(), key=int) == NUMBERS


def kafka_tools(at: Bench, victim: int) -> Iterator[None]:
    topic = _topic(at, "tool-leader-killed", victim)
    where = ("--bootstrap-server", at.peer.bootstrap_servers, "--topic", topic)
    read = (TOOLS + "consumer.ConsoleConsumer", *where, "--from-beginning", "--max-messages", str(COUNT), "--timeout-ms", "60000")
    rate = str(round(1 / PAUSE_S))
    sent = (TOOLS + "VerifiableProducer", *where, "--max-messages", str(COUNT), "--throughput", rate, "--acks", "-1")
    with Aside(*at.java, *read) as consumer, Aside(*at.java, *sent) as producer:
        _arriving(at, topic)
        yield  # a JVM takes its time to start: the others wait for it before they begin
        yield
        said = producer.finish()
        assert f'"acked":{COUNT}' in said, said[-800:]
        assert sorted(re.findall(r"^\d+$", consumer.finish(), re.MULTILINE), key=int) == NUMBERS


class Aside(contextlib.AbstractContextManager["Aside"]):
    """A program that runs beside others, and not longer than its `with` block."""

    def __init__(self, *command: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the block; a pipe would fill up
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._said, stderr=self._said, text=True)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._said.close()

    def type(self, lines: list[str]) -> None:
        """Slowly, then the end of the input."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as typed:
            for line in lines:
                print(line, file=typed, flush=True)
                time.sleep(PAUSE_S)

    def finish(self) -> str:
        """What it said. AssertionError if it failed."""
        status = self._process.wait(TIMEOUT_S)
        self._said.seek(0)
        said = self._said.read()
        assert status == 0, f"ended with {status}: {said[-800:]}"
        return said


def _topic(at: Bench, name: str, victim: int) -> str:
    """A topic of which the victim leads a partition."""
    topic = at.topic(name, 3)
    places = at.peer.admin.list_topics(topic, timeout=30).topics[topic].partitions.values()
    assert victim in [place.leader for place in places], f"node {victim} leads no partition of {topic}"
    return topic


def _arriving(at: Bench, topic: str) -> None:
    eventually(lambda: sum(at.reference.ends(topic, partition)[1] for partition in range(3)) >= COUNT // 10, "records arrive")


# by the name of the tools
WORKS: dict[str, Callable[[Bench, int], Iterator[None]]] = {"kafka-tools": kafka_tools, "kcat": kcat}
