"""Which clients there are, and how the program of each is started."""

import sys
from collections.abc import Callable, Sequence

from tests.clients import cache

Command = Sequence[str]
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx512m")
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"


def _python(module: str) -> Callable[[str], Command]:
    return lambda bootstrap: [sys.executable, "-m", f"tests.clients.programs.{module}", bootstrap]


def _java(bootstrap: str) -> Command:
    return [cache.java(), *JVM, QUIET, "-cp", f"{cache.java_classes()}:{cache.classpath()}", "Client", bootstrap]


def _kafkajs(bootstrap: str) -> Command:
    return [cache.node(), str(cache.HERE / "kafkajs" / "client.js"), str(cache.node_modules()), bootstrap]


# name -> the command for a bootstrap address; it raises LackingError where the machine lacks what it needs
CLIENTS: dict[str, Callable[[str], Command]] = {
    "confluent-kafka": _python("python_confluent"),
    "kafka-python": _python("python_kafka"),
    "aiokafka": _python("python_aiokafka"),
    "java": _java,
    "kafkajs": _kafkajs,
}
