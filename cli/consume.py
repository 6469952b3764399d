"""`quorumlog consume`: print the records of a topic, outside any consumer group or as a member of one."""

import base64
import datetime
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from quorumlog.cli import kafka
from quorumlog.cli.group_reading import GroupReading
from quorumlog.cli.options import bootstrap_option
from quorumlog.cli.output import output_option

POLL_S = 0.2
BATCH_MAX = 500
RESETS: dict[Any, str] = {OFFSET_BEGINNING: "earliest", OFFSET_END: "latest"}


@dataclass(frozen=True, slots=True)
class StartTime:
    """Begin with the first record at or after this Unix time in milliseconds."""

    timestamp_ms: int


def start_point(text: str) -> int | StartTime:
    """`beginning`, `end`, an offset, or a time in ISO 8601 (local time unless it names a zone), for `type=`."""
    if text in ("beginning", "end"):
        return OFFSET_BEGINNING if text == "beginning" else OFFSET_END
    if text.isdecimal():
        return int(text)
    try:
        return StartTime(round(datetime.datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is neither 'beginning', 'end', an offset, nor a time like 2025-01-31T12:00:00Z"
        ) from error


@click.command()
@click.argument("topic")
@click.option("--from", "start", type=start_point, metavar="beginning|end|OFFSET|TIME", default="beginning", show_default=True)
@click.option("--max", "count_max", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option("--partition", type=click.IntRange(min=0), help="Only this partition. [default: all]")
@click.option("--group", help="Read as a member of this consumer group, from where it stopped.")
@click.option("--timeout", "timeout_s", type=float, help="Stop when no record has come for so many seconds.")
@click.option("--until-end", is_flag=True, help="Stop at what is the end when the command begins.")
@bootstrap_option
@output_option
def consume(
    topic: str,
    start: int | StartTime,
    count_max: int | None,
    partition: int | None,
    group: str | None,
    timeout_s: float | None,
    until_end: bool,
    bootstrap_servers: str,
    output: str,
) -> None:
    """Print the records of TOPIC until Ctrl-C, or until one of the limits.

    As a table: partition:offset, time, key and value, separated by tabs. As JSON: an object a line; keys and values that are
    not UTF-8 come as key_base64 and value_base64. Fewer records than --max within --timeout is a failure.

    With --group, --from says where a group begins that has committed nothing: at the beginning or the end.
    """
    if group is not None and (partition is not None or until_end or start not in RESETS):
        raise click.UsageError("a group has no --partition, no --until-end, and --from beginning or end only")
    with kafka.errors_in_one_line(bootstrap_servers):
        consumer = kafka.consumer(bootstrap_servers, _settings(group, start, until_end))
        try:
            reading: Reading | GroupReading
            if group is not None:
                kafka.topic_metadata(consumer, topic)
                reading = GroupReading(consumer, topic, count_max, timeout_s)
            else:
                starts = start_positions(consumer, topic, partition, start)
                reading = Reading(consumer, starts, count_max=count_max, timeout_s=timeout_s, until_end=until_end)
            for message in reading.messages():
                click.echo(json_line(message) if output == "json" else table_line(message))
        except KeyboardInterrupt:
            return
        finally:
            consumer.close()
    if reading.is_short:
        raise click.ClickException(f"{reading.count} of {count_max} records within {timeout_s:g} s")


def _settings(group: str | None, start: int | StartTime, until_end: bool) -> dict[str, Any]:
    if group is None:
        return {"enable.partition.eof": until_end}
    assert isinstance(start, int), start
    return {"group.id": group, "enable.auto.commit": True, "auto.offset.reset": RESETS[start]}


def start_positions(consumer: Consumer, topic: str, partition: int | None, start: int | StartTime) -> list[TopicPartition]:
    """Where to begin in each partition. Raises ClickException for an unknown topic or partition."""
    known = sorted(kafka.topic_metadata(consumer, topic).partitions)
    if partition is not None and partition not in known:
        raise click.ClickException(f"topic {topic!r} has partitions 0 to {len(known) - 1}, not {partition}")
    chosen = known if partition is None else [partition]
    if isinstance(start, int):
        return [TopicPartition(topic, number, start) for number in chosen]
    asked = [TopicPartition(topic, number, start.timestamp_ms) for number in chosen]
    found: list[TopicPartition] = kafka.patiently(lambda: consumer.offsets_for_times(asked, timeout=kafka.REQUEST_TIMEOUT_S))
    return found


@dataclass(slots=True)
class Reading:
    """One pass over some partitions, with its limits."""

    consumer: Consumer
    starts: Sequence[TopicPartition]
    count_max: int | None
    timeout_s: float | None
    until_end: bool
    count: int = 0
    _ends: dict[int, int] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)

    @property
    def is_short(self) -> bool:
        """True if it stopped with fewer records than were asked for, by its time-out."""
        return self.count_max is not None and self.count < self.count_max and not self.until_end

    def messages(self) -> Iterator[Message]:
        """Records as they come, those of one partition in order. Raises KafkaException."""
        self._open = {start.partition for start in self.starts}
        if self.until_end:
            self._ends = {start.partition: self._end_of(start) for start in self.starts}
        self.consumer.assign(list(self.starts))
        last_record_s = time.monotonic()
        while self._open and not self._is_idle_since(last_record_s):
            for message in self.consumer.consume(BATCH_MAX, POLL_S):
                if not self._is_wanted(message):
                    continue
                last_record_s = time.monotonic()
                yield message
                self.count += 1
                if self.count == self.count_max:
                    return

    def _end_of(self, start: TopicPartition) -> int:
        low, high = kafka.watermarks(self.consumer, start)
        if low == high or start.offset == OFFSET_END or start.offset >= high:
            self._open.discard(start.partition)
        return high

    def _is_idle_since(self, last_record_s: float) -> bool:
        return self.timeout_s is not None and time.monotonic() - last_record_s > self.timeout_s

    def _is_wanted(self, message: Message) -> bool:
        """True for a record before the end; the end of a partition is noted."""
        error, partition, offset = message.error(), message.partition(), message.offset()
        assert partition is not None and offset is not None, "a consumed message without its place"
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            self._open.discard(partition)
            return False
        end = self._ends.get(partition)
        if end is not None and offset + 1 >= end:
            self._open.discard(partition)
        return end is None or offset < end


def json_line(message: Message) -> str:
    """One record as a JSON object on one line."""
    place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    content = _text_field("key", message.key()) | _text_field("value", message.value())
    return json.dumps(place | {"timestamp_ms": message.timestamp()[1]} | content, ensure_ascii=False)


def _text_field(name: str, content: Any) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def table_line(message: Message) -> str:
    """One record for people; bytes that are no text are shown escaped."""
    moment = datetime.datetime.fromtimestamp(message.timestamp()[1] / 1000, datetime.UTC).isoformat(timespec="milliseconds")
    return f"{message.partition()}:{message.offset()}\t{moment}\t{_shown(message.key())}\t{_shown(message.value())}"


def _shown(content: Any) -> str:
    return "-" if content is None else content.decode(errors="backslashreplace")
