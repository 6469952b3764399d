"""Where the partitions of a topic begin and end."""

from confluent_kafka import Consumer, TopicPartition

TIMEOUT_S = 30.0


def starts(bootstrap: str, topic: str, partitions: int) -> tuple[int, ...]:
    return tuple(low for low, _ in _bounds(bootstrap, topic, partitions))


def ends(bootstrap: str, topic: str, partitions: int) -> tuple[int, ...]:
    return tuple(high for _, high in _bounds(bootstrap, topic, partitions))


def _bounds(bootstrap: str, topic: str, partitions: int) -> list[tuple[int, int]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "log_level": 3})
    try:
        return [consumer.get_watermark_offsets(TopicPartition(topic, index), TIMEOUT_S) for index in range(partitions)]
    finally:
        consumer.close()
