"""How far the replicas on this node are compacted: told as a setting of their topic, to whoever asks for it by name.

Kafka's protocol has no place for it. A setting that is read-only, and shown by name alone, is heard by every client there is and
bothers none.
"""

import json

from quorumlog.metadata.settings import ConfigDescription, SettingSource, SettingType

from ..services import Services

NAME = "quorumlog.compaction.state"


def compaction_state(services: Services, topic: str) -> ConfigDescription:
    """A JSON list with an object for each replica of the topic here."""
    wall_ms = services.clock.wall_ms()
    rows = [
        {
            "partition": tp.partition,
            "dirty_ratio": round(partition.dirt(wall_ms).ratio, 4),
            "last_run_ms": partition.compaction.last_run_ms,
            "request_met": partition.compaction.request_met,
        }
        for tp, partition in sorted(services.replicas.partitions.items())
        if tp.topic == topic
    ]
    return ConfigDescription(
        name=NAME,
        value=json.dumps(rows),
        source=SettingSource.DEFAULT,
        is_default=True,
        read_only=True,
        sensitive=False,
        synonyms=(),
        type=SettingType.STRING,
        documentation="How far the replicas on this node are compacted: told when it is asked for by name.",
    )
