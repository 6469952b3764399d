"""The types of identity and position that every floor shares."""

from typing import NamedTuple, NewType
from uuid import UUID

NodeId = NewType("NodeId", int)
Offset = NewType("Offset", int)
LeaderEpoch = NewType("LeaderEpoch", int)

NO_NODE = NodeId(-1)
NO_EPOCH = LeaderEpoch(-1)
NO_TOPIC_ID = UUID(int=0)


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"
