"""An administrator: creates and deletes topics, and asks again until the answer is clear."""

import asyncio
from dataclasses import dataclass
from typing import Any

from quorumlog.metadata.topic_config import COMPACTION_REQUEST
from quorumlog.wire.codec import Struct
from quorumlog.wire.errors import ErrorCode

from .client import NO_LEADER, Client
from .connection import CREATE_PARTITIONS, CREATE_TOPICS, DELETE_TOPICS, INCREMENTAL_ALTER_CONFIGS
from .plan import TopicPlan

SERVER_TIMEOUT_MS = 4_000
SERVER_EXTRA_S = 4.0
TOPIC, SET = 2, 0
GIVE_UP_AFTER_S = 30.0
ANY_TIME = {"message.timestamp.after.max.ms": str((1 << 63) - 1)}  # wall clocks of nodes are days behind the clients'


@dataclass(frozen=True, slots=True)
class Answer:
    """`is_done`: the cluster has said so. If not, it may happen yet; `last` is the last that was heard."""

    is_done: bool
    last: str


class Admin:
    """Owned by a workload."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def create_topic(self, topic: TopicPlan) -> Answer:
        wanted = {
            "name": topic.name,
            "num_partitions": topic.partitions,
            "replication_factor": topic.replication_factor,
            "configs": [{"name": name, "value": value} for name, value in (ANY_TIME | topic.configs).items()],
        }
        body = {"topics": [wanted], "timeout_ms": SERVER_TIMEOUT_MS}
        return await self._until_clear(CREATE_TOPICS, body, lambda answer: answer.topics[0], ErrorCode.topic_already_exists)

    async def delete_topic(self, name: str) -> Answer:
        """Done also if there is none: it may have been deleted by an attempt whose answer was lost."""
        body = {"topics": [{"name": name}], "timeout_ms": SERVER_TIMEOUT_MS}
        return await self._until_clear(
            DELETE_TOPICS, body, lambda answer: answer.responses[0], ErrorCode.unknown_topic_or_partition
        )

    async def create_partitions(self, name: str, count: int) -> Answer:
        body = {"topics": [{"name": name, "count": count, "assignments": None}], "timeout_ms": SERVER_TIMEOUT_MS}
        return await self._until_clear(CREATE_PARTITIONS, body, lambda answer: answer.results[0], ErrorCode.invalid_partitions)

    async def compact_topic(self, name: str, number: int) -> Answer:
        """Done also if there is no such topic (yet): the next request may find it."""
        change = {"name": COMPACTION_REQUEST, "config_operation": SET, "value": str(number)}
        resource = {"resource_type": TOPIC, "resource_name": name, "configs": [change]}
        body = {"resources": [resource], "validate_only": False}
        return await self._until_clear(
            INCREMENTAL_ALTER_CONFIGS, body, lambda answer: answer.responses[0], ErrorCode.unknown_topic_or_partition
        )

    async def close(self) -> None:
        await self.client.close()

    async def _until_clear(self, api_key: int, body: dict[str, Any], result_of: Any, done_before: ErrorCode) -> Answer:
        """`done_before`: the error that says that an earlier attempt has done it."""
        last = "nothing was heard"
        deadline = self.client.now() + GIVE_UP_AFTER_S
        while self.client.now() < deadline:
            try:
                result = result_of(await self._ask(api_key, body))
            except ConnectionError as error:
                last = str(error)
            else:
                if result.error_code in (ErrorCode.none, done_before):
                    return Answer(True, "done")
                last = f"error {result.error_code}: {result.error_message}"
            await asyncio.sleep(self.client.backoff_s())
        return Answer(False, last)

    async def _ask(self, api_key: int, body: dict[str, Any]) -> Struct:
        """Of the controller, as far as it is known: it saves a step. Raises ConnectionError."""
        client = self.client
        knows = client.controller_id != NO_LEADER and client.rng.random() < 0.5
        connection = await (client.reach(client.controller_id) if knows else client.reach_any())
        return await connection.ask(api_key, body, extra_s=SERVER_EXTRA_S)
