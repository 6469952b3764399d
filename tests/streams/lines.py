"""What the engines work on: order lines keyed by customer, and a table of customers."""

import itertools
import json
import random
import sys
from dataclasses import dataclass
from typing import Self

from tests.bench.load.records import real_lines
from tests.events import Event, numbered, order_lines

COUNTRIES = ("United Kingdom", "Germany", "France", "EIRE", "Spain")


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    customer: str
    product: str
    quantity: int
    country: str

    @classmethod
    def of(cls, number: int, event: Event) -> Self:
        key, value = event
        fields = json.loads(value)
        return cls(number, key.decode(), fields["StockCode"], int(fields["Quantity"]), fields["Country"])


@dataclass(frozen=True, slots=True)
class Work:
    """The lines as they are produced and as they are judged, and each customer's country."""

    source: str
    events: list[Event]
    lines: list[Line]
    countries: dict[str, str]


def work(rows: int, chance: random.Random) -> Work:
    path = real_lines()
    if path is None:
        print("MADE-UP LINES: QUORUMLOG_REAL_EVENTS names no file of real order lines", file=sys.stderr, flush=True)
    found = list(order_lines(path, rows)) if path else made_up_lines(rows, chance)
    lines = [Line.of(number, event) for number, event in enumerate(found)]
    source = "real order lines" if path else "made-up lines"
    return Work(source, list(numbered(found)), lines, {line.customer: line.country for line in lines})


def made_up_lines(rows: int, chance: random.Random) -> list[Event]:
    """As skewed as real ones: a few products and customers have most of them."""
    return list(itertools.starmap(_made_up, ((chance.random(), chance.random(), chance.randint(-2, 20)) for _ in range(rows))))


def _made_up(who: float, what: float, quantity: int) -> Event:
    customer = int(who**3 * 500)
    fields = {"StockCode": f"P{int(what**3 * 300)}", "Quantity": str(quantity), "Country": COUNTRIES[customer % len(COUNTRIES)]}
    return b"%d" % customer, json.dumps(fields).encode()
