"""Conversations whose answers Apache Kafka 4.3.1 gave, but where a script says otherwise. It was started with

    group.consumer.assignment.interval.ms=0  group.consumer.max.size=4

A heartbeat is a member, its epoch, `v0` if not v1, and what it says (`patience`: the rebalance timeout, ms); `-` is empty. The
line below it is the answer.
"""

from pathlib import Path
from typing import Any

import pytest

from quorumlog.metadata.group_config import GroupConfig

from .consumer_stage import Stage

SCRIPTS = sorted((Path(__file__).parent / "consumer_scripts").glob("*.txt"))
FIELDS = {
    "group": "group",
    "instance": "instance_id",
    "rack": "rack_id",
    "patience": "rebalance_timeout_ms",
    "names": "subscribed_topic_names",
    "regex": "subscribed_topic_regex",
    "assignor": "server_assignor",
    "owned": "owned",
}


def parsed(name: str, text: str) -> Any:
    match name:
        case "patience":
            return int(text)
        case "names":
            return [part for part in text.split(",") if part]
        case "owned":
            parts = [part.partition(":") for part in text.split(";") if part != "-"]
            return {topic: [int(index) for index in indexes.split(",")] for topic, _, indexes in parts}
        case _:
            return text.replace("_", " ")


def say(stage: Stage, line: str) -> str:
    member, epoch, *words = line.split()
    fields = [word.partition("=") for word in words if word != "v0"]
    told = {FIELDS[name]: parsed(name, text) for name, _, text in fields}
    stage.beat("" if member == "-" else member, int(epoch), 0 if "v0" in words else 1, **told)
    return stage.read_trace().splitlines()[-1]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_conversation(path: Path) -> None:
    head, _, body = path.read_text().partition("\n\n")
    topics = [part.partition(":") for part in head.splitlines()[-1].split()[1:]]
    stage = Stage({name: int(count) for name, _, count in topics}, GroupConfig(group_consumer_max_size=4))
    played = []
    for line in [line for line in body.splitlines() if not line.startswith("    ")]:
        answer = say(stage, line)
        stage.check_log()
        played += [line, f"    {answer}"]
    assert "\n".join(played) + "\n" == body
