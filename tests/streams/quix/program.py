"""The count by Quix Streams, run by an interpreter of its own: `python program.py NAME=VALUE...`.

Quix Streams is no dependency of this project, nor this file a part of it: it imports nothing from it.
"""

import json
import sys

from quixstreams import Application, State

DIGITS = 12


def parsed(value: bytes) -> dict:
    return json.loads(value[DIGITS + 1 :]) | {"number": int(value[:DIGITS])}


def added(line: dict, state: State) -> dict:
    lines, quantity = state.get("lines", 0) + 1, state.get("quantity", 0) + int(line["Quantity"])
    state.set("lines", lines)
    state.set("quantity", quantity)
    return {"lines": lines, "quantity": quantity, "number": line["number"]}


def main() -> None:
    asked = dict(word.split("=", 1) for word in sys.argv[1:])
    application = Application(
        broker_address=asked["bootstrap"],
        consumer_group=asked["group"],
        state_dir=asked["state"],
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        commit_interval=0.5,
        consumer_extra_config={"session.timeout.ms": 6000},
        # Of one name, so that an instance that is started again ends what the killed one has left open.
        producer_extra_config={"transactional.id": f"{asked['group']}-1", "transaction.timeout.ms": 10_000},
        loglevel="INFO",
    )
    lines = application.topic(asked["lines"], value_deserializer="bytes", key_deserializer="bytes")
    totals = application.topic(asked["totals"], value_serializer="json", key_serializer="str")
    frame = application.dataframe(lines).apply(parsed)
    frame = frame.group_by("StockCode", name="products", key_serializer="str", key_deserializer="str")
    frame.apply(added, stateful=True).to_topic(totals)
    application.run()


if __name__ == "__main__":
    main()
