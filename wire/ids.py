"""The types of identity and position that every floor shares."""

from typing import NamedTuple
from uuid import UUID

NO_TOPIC_ID = UUID(int=0)


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"
