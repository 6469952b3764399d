"""Where the partitions of a topic end."""

from confluent_kafka import Consumer, TopicPartition


def ends(bootstrap: str, topic: str, partitions: int) -> tuple[int, ...]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    try:
        return tuple(consumer.get_watermark_offsets(TopicPartition(topic, index), 30)[1] for index in range(partitions))
    finally:
        consumer.close()
