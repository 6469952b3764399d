"""The judge finds each kind of mistake an engine, or the log below it, could make; and finds none where there is none."""

import re
from dataclasses import replace

import pytest

from tests.streams.judging import Told, Total, judge_joined, judge_last, judge_totals, totals_of
from tests.streams.lines import Line, Work

LINES = [
    Line(0, "anna", "cup", 6, "France"),
    Line(1, "ben", "cup", -2, "Spain"),
    Line(2, "anna", "pot", 1, "France"),
    Line(3, "anna", "cup", 3, "France"),
]
WORK = Work("of a test", [], LINES, {"anna": "France", "ben": "Spain"})


def total(offset: int, product: str, lines: int, quantity: int, number: int, partition: int = 0) -> Told:
    return Told(partition, offset, product, {"lines": lines, "quantity": quantity, "number": number})


def join(offset: int, customer: str, number: int, country: str) -> Told:
    return Told(0, offset, customer, {"number": number, "country": country})


TOTALS = [total(0, "cup", 1, -2, 1), total(1, "cup", 2, 4, 0), total(2, "pot", 1, 1, 2), total(4, "cup", 3, 7, 3)]
ABROAD = join(0, "anna", 0, "Spain")
JOINED = [join(0, "anna", 0, "France"), join(1, "ben", 1, "Spain"), join(2, "anna", 2, "France"), join(4, "anna", 3, "France")]


def test_what_is_right_is_found_right_in_whatever_order_partitions_come():
    assert judge_totals(LINES, TOTALS) == []
    assert judge_totals(LINES, reversed(TOTALS)) == []
    assert judge_joined(WORK, reversed(JOINED)) == []
    assert totals_of(LINES) == {"cup": Total(3, 7), "pot": Total(1, 1)}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (TOTALS[:3], r"LOST: 1 of 4 lines, the first are \[3\]"),
        ([*TOTALS, replace(TOTALS[3], offset=5)], "TWICE: line 3 is at partition 0 offset 4 and again at partition 0 offset 5"),
        ([*TOTALS, total(5, "cup", 4, 10, 3)], "TWICE: line 3"),
        ([*TOTALS[:3], total(4, "cup", 4, 7, 3)], "says Total.lines=4, quantity=7.* due was Total.lines=3"),
        ([*TOTALS[:3], total(4, "cup", 3, 8, 3)], "the batch says Total.lines=3, quantity=7"),
        ([*TOTALS[:3], total(4, "pot", 2, 4, 3)], "counts line 3 for product pot, which is not its own"),
        ([*TOTALS[:3], replace(TOTALS[3], partition=1)], r"key cup is in partitions \[0, 1\]"),
        ([*TOTALS, total(5, "cup", 4, 9, 4)], "tells of line 4, and there are only 4"),
    ],
)
def test_a_wrong_count_is_found(told, sentence):
    assert any(re.search(sentence, one) for one in judge_totals(LINES, told)), judge_totals(LINES, told)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (JOINED[1:], "LOST: 1 of 4 lines"),
        ([*JOINED, replace(JOINED[0], offset=7)], "TWICE: line 0"),
        (
            [ABROAD, *JOINED[1:]],
            "joins line 0 of customer anna to anna, Spain",
        ),
        ([replace(JOINED[1], key="anna"), JOINED[0], *JOINED[2:]], "joins line 1 of customer ben to anna"),
        ([*JOINED[1:], replace(JOINED[0], offset=9)], "has line 0 of customer anna after its line 3"),
    ],
)
def test_a_wrong_join_is_found(told, sentence):
    assert any(re.search(sentence, one) for one in judge_joined(WORK, told))


def test_a_changelog_that_ends_elsewhere_is_found():
    assert judge_last(LINES, totals_of(LINES)) == []
    assert judge_last(LINES, {"cup": Total(3, 7)}) == ["product pot ends at None; the batch says Total(lines=1, quantity=1)"]


def test_of_many_mistakes_a_few_are_told():
    many = [Line(number, "anna", f"p{number}", 1, "France") for number in range(50)]
    assert len(judge_last(many, {})) == 6
