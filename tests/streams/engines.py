"""The stream engines: how an instance of each is started, ended, and started again where it has ended by itself."""

import os
import re
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from quorumlog.host.processes import Process, spawn
from tests.clients import cache
from tests.streams.judging import Told

HERE = Path(__file__).parent
JVM = ("-Xmx160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOGGING = ("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
STOP_TIMEOUT_S = 40.0
LINES, CUSTOMERS = "lines", "customers"

# What a test cannot wait for, and `every line has its record`: without a cache, each change of a table is told.
STREAMS_SETTINGS = {
    "processing.guarantee": "exactly_once_v2",
    "num.stream.threads": "1",
    "num.standby.replicas": "0",
    "statestore.cache.max.bytes": "0",
    "consumer.session.timeout.ms": "6000",
    "consumer.heartbeat.interval.ms": "1000",
    "topic.segment.ms": "10000",
    "topic.min.cleanable.dirty.ratio": "0.1",
    "topic.delete.retention.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine works: the cluster, and a directory for its state and what it says."""

    bootstrap: str
    directory: Path

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def state(self, name: str) -> Path:
        return self.directory / f"state-{name}"


class Instance:
    """A process of an engine. Who kills it holds it, so that nobody else starts it again meanwhile."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.died = 0  # how often it has ended by itself
        self.log = log
        self.held = threading.Lock()
        self._command = command
        self._process: Process | None = None

    def start(self) -> None:
        self._process = spawn(self._command, self.log, os.environ, die_with_parent=True)

    def kill(self) -> None:
        self._end(signal.SIGKILL, STOP_TIMEOUT_S)

    def stop(self) -> bool:
        """SIGTERM; whether it ended in time by itself, without a complaint."""
        return self._end(signal.SIGTERM, STOP_TIMEOUT_S)

    def kill_for(self, seconds: float) -> None:
        """kill -9, and start again after so long."""
        with self.held:
            self.kill()
            time.sleep(seconds)
            self.start()

    def revive(self) -> None:
        """Start it again if it has ended by itself, as whatever runs a service does."""
        if not self.held.acquire(blocking=False):
            return
        try:
            if self._process is not None and self._process.poll() is not None:
                self.died += 1
                self.start()
        finally:
            self.held.release()

    def _end(self, how: signal.Signals, timeout_s: float) -> bool:
        process, self._process = self._process, None
        if process is None:
            return True
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True


class Engine(ABC):
    """One application, of some instances. `outputs` maps what is judged to topics; `prefix` begins its transactional ids."""

    name: str
    version: str
    prefix: str
    outputs: ClassVar[dict[str, str]]
    replaced = re.compile(r"^THREAD REPLACED: (\S+?):", re.MULTILINE)

    def __init__(self, place: Place) -> None:
        place.directory.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.seen: dict[str, list[Told]] = {}  # by topic, what was read of it while it was written
        self.instances = self.made()

    @abstractmethod
    def made(self) -> list[Instance]:
        """Its instances, not started yet. Raises LackingError."""

    def start(self) -> None:
        for instance in self.instances:
            instance.start()

    def revive(self) -> None:
        for instance in self.instances:
            instance.revive()

    def stop(self) -> list[str]:
        """What was wrong with the end."""
        return [f"{one.name} did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM" for one in self.instances if not one.stop()]

    def close(self) -> None:
        for instance in self.instances:
            instance.kill()

    @property
    def died(self) -> int:
        return sum(instance.died for instance in self.instances)

    @property
    def complaints(self) -> list[str]:
        """What ended a thread of it, which then began anew."""
        logs = [instance.log.read_text(errors="replace") for instance in self.instances if instance.log.exists()]
        return [name.rpartition(".")[2] for log in logs for name in self.replaced.findall(log)]


class KafkaStreams(Engine):
    name = "kafka-streams"
    prefix = "streams-app"
    outputs: ClassVar = {"totals": "streams-totals", "joined": "streams-joined"}
    changelog = "streams-app-totals-changelog"

    def made(self) -> list[Instance]:
        self.version = cache.kafka_version()
        source = HERE / "java"
        command = [cache.java(), *JVM, *LOGGING, "-cp", f"{cache.java_classes(source)}:{cache.classpath(source)}", "Streams"]
        return [Instance(name, [*command, *self._settings(name)], self.place.log(name)) for name in ("streams-1", "streams-2")]

    def _settings(self, name: str) -> list[str]:
        own = {
            "bootstrap.servers": self.place.bootstrap,
            "application.id": self.prefix,
            "client.id": name,
            "state.dir": str(self.place.state(name)),
            "name.lines": LINES,
            "name.customers": CUSTOMERS,
            **{f"name.{what}": topic for what, topic in self.outputs.items()},
        }
        return [f"{key}={value}" for key, value in (own | STREAMS_SETTINGS).items()]


class Quix(Engine):
    name = "quix"
    prefix = "quix-app"
    outputs: ClassVar = {"totals": "quix-totals"}

    def made(self) -> list[Instance]:
        requirements = HERE / "quix" / "requirements.txt"
        self.version = re.findall(r"^quixstreams==(.+)$", requirements.read_text(), re.MULTILINE)[0]
        own = {
            "bootstrap": self.place.bootstrap,
            "group": self.prefix,
            "state": str(self.place.state("quix-1")),
            "lines": LINES,
            "totals": self.outputs["totals"],
        }
        command = [cache.python(requirements), "-I", str(HERE / "quix" / "program.py")]
        return [Instance("quix-1", [*command, *(f"{key}={value}" for key, value in own.items())], self.place.log("quix-1"))]


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (KafkaStreams, Quix)}
