"""The orders that the demo streams: made up, or the rows of a file."""

import csv
import gzip
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

KEY_COLUMN = "CustomerID"
CUSTOMER_COUNT = 2000
PRODUCTS = (
    ("White hanging heart T-light holder", 2.95),
    ("Regency cakestand, 3 tier", 12.75),
    ("Jumbo bag, red retrospot", 1.95),
    ("Party bunting", 4.95),
    ("Lunch bag, black skull", 1.65),
    ("Assorted colour bird ornament", 1.69),
    ("Set of 3 cake tins, pantry design", 4.95),
    ("Pack of 72 retrospot cake cases", 0.55),
    ("Natural slate heart chalkboard", 2.95),
    ("Hot water bottle, tea and sympathy", 3.95),
    ("Spotty bunting", 4.95),
    ("Alarm clock bakelike, green", 3.75),
)
COUNTRIES = ("United Kingdom", "Germany", "France", "Ireland", "Spain", "Netherlands", "Belgium", "Portugal")
COUNTRY_WEIGHTS = (60, 10, 9, 8, 4, 4, 3, 2)
EVENT_PREFIX = b'{"event": '


class OrdersError(ValueError):
    """A file that holds no orders keyed by customer."""


@dataclass(frozen=True, slots=True)
class Order:
    """One event: `number` is its place in the stream and makes it unlike all others."""

    number: int
    customer: str
    fields: Mapping[str, object]

    @property
    def value(self) -> bytes:
        """The record's value, JSON with the event's number first (where `event_number` finds it without parsing the rest)."""
        return json.dumps({"event": self.number, **self.fields}, ensure_ascii=False).encode()


def event_number(value: bytes) -> int:
    """The number in a record's value. Raises ValueError for a value that is no order."""
    if not value.startswith(EVENT_PREFIX):
        raise ValueError(f"not an order: {value[:40]!r}")
    return int(value[len(EVENT_PREFIX) : value.index(b",")])


def made_up_orders(count: int, seed: int = 1) -> Iterator[Order]:
    """Orders as a shop for gifts gets them: a few customers order much, most order little. The same seed gives the same ones."""
    rng = random.Random(seed)
    for number in range(count):
        # The square makes the first tenth of the customers place about a third of the orders.
        customer = 12_000 + int(CUSTOMER_COUNT * rng.random() ** 2)
        product, price = rng.choice(PRODUCTS)
        quantity = rng.choice((1, 1, 2, 3, 4, 6, 6, 12, 24, 48))
        country = rng.choices(COUNTRIES, COUNTRY_WEIGHTS)[0]
        order = {"customer": customer, "product": product, "quantity": quantity, "total": round(quantity * price, 2)}
        yield Order(number, str(customer), order | {"country": country})


def orders_in(path: Path, count_max: int | None = None) -> Iterator[Order]:
    """Every row of a CSV file (gzip-compressed if its name says so), keyed by its CustomerID, which may be empty."""
    with _opened(path) as file:
        for number, row in enumerate(itertools.islice(_reader(file, path), count_max)):
            yield Order(number, row[KEY_COLUMN] or "", dict(row))


def count_orders_in(path: Path) -> int:
    """Lines below the header: as many as rows, or a few more where a field holds line breaks. Raises OrdersError."""
    try:
        with _opened(path) as file:
            _reader(file, path)
            return sum(1 for _ in file)
    except (OSError, EOFError, UnicodeDecodeError) as error:  # not there, cut short, not a text
        raise OrdersError(f"{path} cannot be read: {error}") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open(encoding="utf-8", newline="")


def _reader(file: IO[str], path: Path) -> "csv.DictReader[str]":
    reader = csv.DictReader(file)
    columns = reader.fieldnames or []
    if KEY_COLUMN not in columns:
        raise OrdersError(f"{path} has no column {KEY_COLUMN}, only {', '.join(columns) or 'none at all'}")
    return reader
