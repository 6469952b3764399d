"""Histories in a notation that fits on a line.

    "1 send ok x:a@0 x:b"          process 1 sent a to key x and was told offset 0, and b without being told an offset
    "2 poll ok x:[0a,1b] y:[]"     process 2 polled a at offset 0 and b at 1 of x, and nothing of y
    "2 txn fail x:c x:[1b] ~x"     a failed transaction of both, while x was rebalanced
    "2 assign ok x y"              keys (of subscribe: topics)
    "1 send unknown x:a @3..9"     invoked at 3 s, completed at 9 s; "@3.." never completed
    "1 txn ok x:a @3..9 !8"        asked to commit at 8 s

Without times an operation begins at its place in the history, in seconds, and lasts half a second.
"""

import re
from itertools import count

from quorumlog.checker.history import Operation, Outcome, Poll, Send

RECORD = re.compile(r"(\d+)(\w+)")


def given(text: str) -> list[Operation]:
    lines = [line.strip() for line in text.strip().splitlines()]
    return [_operation(line, place) for place, line in zip(count(), lines, strict=False)]


def _operation(line: str, place: int) -> Operation:
    process, kind, outcome, *words = line.split()
    times = next((word for word in words if word.startswith("@")), f"@{place}..{place + 0.5}")
    invoked, _, completed = times[1:].partition("..")
    rest = [word for word in words if word[0] not in "@~!"]
    ending = next((float(word[1:]) for word in words if word.startswith("!")), None)
    is_moving = kind in ("send", "poll", "txn")
    return Operation(
        process=int(process),
        kind=kind,
        invoked=float(invoked),
        completed=float(completed) if completed else None,
        outcome=Outcome(outcome),
        steps=tuple(map(_step, rest)) if is_moving else (),
        keys=() if is_moving else tuple(rest),
        rebalanced=tuple(word[1:] for word in words if word.startswith("~")),
        ending=ending,
    )


def _step(word: str) -> Send | Poll:
    key, _, what = word.partition(":")
    if what.startswith("["):
        return Poll(key, tuple((int(offset), value) for offset, value in RECORD.findall(what)))
    value, _, offset = what.partition("@")
    return Send(key, value, int(offset) if offset else None)
