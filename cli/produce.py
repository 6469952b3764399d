"""`quorumlog produce`: each line of the standard input becomes a record."""

import contextlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

import click
from confluent_kafka import KafkaError, Message, Producer

from quorumlog.cli import kafka
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option, print_json

POLL_EVERY = 1000  # lines
FULL_QUEUE_WAIT_S = 0.1
MESSAGE_TIMEOUT_S = 120.0  # librdkafka's own limit for one record, so waiting for the last ones ends
BY_KEY = -1  # librdkafka's RD_KAFKA_PARTITION_UA
Split = Callable[[bytes], tuple[bytes | None, bytes]]


class LineError(ValueError):
    """A line that has no key where one was asked for."""


def key_from_field(field: str) -> Split:
    """The key is a field of the line's JSON object: a text as it is, anything else in JSON's spelling, null as no key."""

    def split(line: bytes) -> tuple[bytes | None, bytes]:
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise LineError(f"is not JSON, so it has no field {field!r}: {error}") from error
        if not isinstance(fields, dict) or field not in fields:
            raise LineError(f"is not a JSON object with a field {field!r}")
        key = fields[field]
        if key is None:
            return None, line
        return (key if isinstance(key, str) else json.dumps(key)).encode(), line

    return split


def key_before(separator: str) -> Split:
    """The key is what stands before the first separator, the value what stands behind it."""
    mark = separator.encode()

    def split(line: bytes) -> tuple[bytes | None, bytes]:
        key, found, value = line.partition(mark)
        if not found:
            raise LineError(f"has no separator {separator!r}")
        return key, value

    return split


def no_key(line: bytes) -> tuple[bytes | None, bytes]:
    return None, line


class Delivery:
    """Sends lines through one producer and counts what becomes of them."""

    def __init__(self, producer: Producer, topic: str, partition: int | None) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = BY_KEY if partition is None else partition
        self.acknowledged = 0
        self.failed = 0
        self.first_error: KafkaError | None = None

    def send(self, key: bytes | None, value: bytes) -> None:
        """Hand over one record; waits while librdkafka's queue is full."""
        while True:
            try:
                self._producer.produce(self._topic, value, key, self._partition, on_delivery=self._on_delivery)
                return
            except BufferError:
                self._producer.poll(FULL_QUEUE_WAIT_S)

    def poll(self) -> None:
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait until every record is acknowledged or given up."""
        self.failed += self._producer.flush(MESSAGE_TIMEOUT_S + 10)

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failed += 1
            self.first_error = self.first_error or error


@click.command()
@click.argument("topic")
@click.option("--key", "key_field", metavar="FIELD", help="Lines are JSON objects, and this field is the key.")
@click.option("--key-separator", metavar="SEP", help="A line is the key, SEP and the value.")
@click.option("--partition", type=click.IntRange(min=0), help="[default: by the key]")
@click.option("--acks", type=click.Choice(["0", "1", "all"]), default="all", show_default=True)
@click.option("--compression", type=click.Choice(["none", "gzip", "snappy", "lz4", "zstd"]), default="none", show_default=True)
@bootstrap_option
@output_option
def produce(
    topic: str,
    key_field: str | None,
    key_separator: str | None,
    partition: int | None,
    acks: str,
    compression: str,
    bootstrap_servers: str,
    output: str,
) -> None:
    """Send the lines of the standard input to TOPIC. With acks=all a record is sent once, whatever happens on the way."""
    split = _split_of(key_field, key_separator)
    settings = {
        "acks": acks,
        "enable.idempotence": acks == "all",
        "compression.type": compression,
        "partitioner": "murmur2_random",  # a key goes to the same partition as with the Java client
        "linger.ms": 5,
        "message.timeout.ms": int(MESSAGE_TIMEOUT_S * 1000),
    }
    with kafka.errors_in_one_line(bootstrap_servers):
        producer = kafka.producer(bootstrap_servers, settings)
        kafka.metadata(producer)  # a cluster that nobody reaches is an error now, not a queue that fills
        delivery = Delivery(producer, topic, partition)
        try:
            _send_lines(sys.stdin.buffer, split, delivery)
        finally:
            delivery.finish()
    _report(delivery, topic, output)


def _split_of(key_field: str | None, key_separator: str | None) -> Split:
    if key_field is not None and key_separator is not None:
        raise click.UsageError("--key and --key-separator exclude each other")
    if key_separator == "":
        raise click.UsageError("--key-separator must not be empty")
    if key_field is not None:
        return key_from_field(key_field)
    return key_before(key_separator) if key_separator is not None else no_key


def _send_lines(source: BinaryIO, split: Split, delivery: Delivery) -> None:
    with _progress(source) as advance:
        for number, raw in enumerate(source, start=1):
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            try:
                delivery.send(*split(line))
            except LineError as error:
                raise click.ClickException(f"line {number} {error}; the {number - 1} lines before it were sent") from error
            advance(len(raw))
            if number % POLL_EVERY == 0:
                delivery.poll()


@contextlib.contextmanager
def _progress(source: BinaryIO) -> Iterator[Callable[[int], None]]:
    """Called with the bytes taken; shows a bar if a file is read and someone looks at it."""
    size = _size_of_file(source)
    if size is None or not sys.stderr.isatty():
        yield lambda _taken: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("produce", total=size)
        yield lambda taken: progress.advance(task, taken)


def _size_of_file(source: BinaryIO) -> int | None:
    try:
        status = os.fstat(source.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _report(delivery: Delivery, topic: str, output: str) -> None:
    if output == "json":
        print_json({"topic": topic, "acknowledged": delivery.acknowledged, "failed": delivery.failed})
    else:
        click.echo(f"{delivery.acknowledged} records sent to {topic}", err=True)
    if delivery.failed:
        reason = delivery.first_error.str() if delivery.first_error else "no answer in time"
        raise click.ClickException(f"{delivery.failed} records were not acknowledged: {reason}")
