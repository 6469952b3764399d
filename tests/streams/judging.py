"""What a batch computation over the lines says, and whether the records that an engine wrote agree with it.

Engines tell of each line by its number, so that a line that is lost, or counted twice, has a name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.streams.lines import Line, Work

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Told:
    """A record that an engine wrote."""

    partition: int
    offset: int
    key: str
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Total:
    lines: int
    quantity: int


def totals_of(lines: Iterable[Line]) -> dict[str, Total]:
    """The batch computation of the count: product -> its lines, and the sum of their quantities."""
    found: dict[str, Total] = {}
    for line in lines:
        before = found.get(line.product, Total(0, 0))
        found[line.product] = Total(before.lines + 1, before.quantity + line.quantity)
    return found


def judge_totals(lines: Sequence[Line], told: Iterable[Told]) -> list[str]:
    """The records of each product count 1, 2, 3 ... n, add one line of it each time, and end at what the batch says."""
    ordered = _in_order(told)
    wrong = _each_once(lines, ordered) + _in_one_partition(ordered)
    totals: dict[str, Total] = {}
    for record in ordered:
        before = totals.get(record.key, Total(0, 0))
        line = lines[number] if (number := record.value["number"]) < len(lines) else None
        if line is None or line.product != record.key:
            wrong.append(f"{_place(record)} counts line {number} for product {record.key}, which is not its own")
            continue
        due = Total(before.lines + 1, before.quantity + line.quantity)
        total = Total(record.value["lines"], record.value["quantity"])
        if total != due:
            wrong.append(f"{_place(record)} says {total} of product {record.key} after line {number}; due was {due}")
        totals[record.key] = total
    return _few(wrong) + judge_last(lines, totals)


def judge_last(lines: Sequence[Line], last: Mapping[str, Total]) -> list[str]:
    """Each product's last record, in the output or in a changelog, is what the batch says."""
    expected = totals_of(lines)
    differing = sorted(product for product in expected.keys() | last.keys() if expected.get(product) != last.get(product))
    return _few(
        [f"product {product} ends at {last.get(product)}; the batch says {expected.get(product)}" for product in differing]
    )


def judge_joined(work: Work, told: Iterable[Told]) -> list[str]:
    """Each line once, under its customer, with that customer's country, each customer's in the order of the lines."""
    lines, countries, ordered = work.lines, work.countries, _in_order(told)
    wrong = _each_once(lines, ordered) + _in_one_partition(ordered)
    last: dict[str, int] = {}
    for record in ordered:
        number, country = record.value["number"], record.value["country"]
        if number < len(lines) and (lines[number].customer, countries[lines[number].customer]) != (record.key, country):
            wrong.append(f"{_place(record)} joins line {number} of customer {lines[number].customer} to {record.key}, {country}")
        if number < last.get(record.key, -1):
            wrong.append(f"{_place(record)} has line {number} of customer {record.key} after its line {last[record.key]}")
        last[record.key] = number
    return _few(wrong)


def _each_once(lines: Sequence[Line], told: Iterable[Told]) -> list[str]:
    wrong: list[str] = []
    places: dict[int, Told] = {}
    for record in told:
        number = record.value["number"]
        if number in places:
            wrong.append(f"TWICE: line {number} is at {_place(places[number])} and again at {_place(record)}")
        elif number >= len(lines):
            wrong.append(f"{_place(record)} tells of line {number}, and there are only {len(lines)}")
        places.setdefault(number, record)
    lost = [line.number for line in lines if line.number not in places]
    return wrong + ([f"LOST: {len(lost)} of {len(lines)} lines, the first are {lost[:SHOWN]}"] if lost else [])


def _in_one_partition(told: Iterable[Told]) -> list[str]:
    """Two that count one product, not knowing of each other, would be seen here."""
    places: dict[str, set[int]] = {}
    for record in told:
        places.setdefault(record.key, set()).add(record.partition)
    return [f"key {key} is in partitions {sorted(found)}" for key, found in sorted(places.items()) if len(found) > 1]


def _in_order(told: Iterable[Told]) -> list[Told]:
    return sorted(told, key=lambda record: (record.partition, record.offset))


def _place(record: Told) -> str:
    return f"partition {record.partition} offset {record.offset}"


def _few(wrong: list[str]) -> list[str]:
    return wrong if len(wrong) <= SHOWN else [*wrong[:SHOWN], f"and {len(wrong) - SHOWN} more of the kind"]
