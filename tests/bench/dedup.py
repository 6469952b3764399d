"""What it costs a leader to look for events that come again (`quorumlog.dedup.window.ms`): in one process, without disk."""

import time

import click

from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.partitions.partition import Partition
from quorumlog.wire.records import Record, build_batch
from tests.partitions.stage import Host

VALUE = b"x" * 100
HOUR_MS = 3_600_000


@click.command("dedup")
@click.option("--batches", default=300)
@click.option("--batch-records", default=500)
def command(batches: int, batch_records: int) -> None:
    """The time to append a record of 100 bytes: with the setting off; with it on, for new events and for repeated ones."""

    def built(number: int) -> bytes:
        ids = (b"event-%d" % (number * batch_records + place) for place in range(batch_records))
        return build_batch([Record(place, 1000, b"key", VALUE, (("event-id", one),)) for place, one in enumerate(ids)])

    sent = [built(number) for number in range(batches)]
    off = Host(config=TopicConfig()).leader()
    on = Host(config=TopicConfig(quorumlog_dedup_window_ms=HOUR_MS)).leader()
    for name, partition in (("off", off), ("on, new events", on), ("on, events that came before", on)):
        click.echo(f"{name}: {_append(partition, sent) / (batches * batch_records) * 1e6:.2f} us a record")
    assert on.log_end_offset == off.log_end_offset


def _append(partition: Partition, sent: list[bytes]) -> float:
    """Seconds of processor time."""
    started = time.process_time()
    for batch in sent:
        partition.append(batch, acks=1, now=0.0, wall_ms=1000)
    return time.process_time() - started
