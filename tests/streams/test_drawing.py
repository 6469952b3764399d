"""What is drawn from the seed: whom to kill, and lines where there are no real ones."""

import itertools
import random

from tests.streams.faults import VICTIMS, drawn
from tests.streams.judging import totals_of
from tests.streams.lines import work


def test_each_kind_of_victim_comes_once_before_one_comes_again():
    kinds = list(itertools.islice(drawn(random.Random(7)), 40))
    assert all(sorted(kinds[at : at + len(VICTIMS)]) == sorted(VICTIMS) for at in range(0, 40, len(VICTIMS)))
    assert kinds == list(itertools.islice(drawn(random.Random(7)), 40))
    assert kinds != list(itertools.islice(drawn(random.Random(8)), 40))


def test_made_up_lines_are_announced_numbered_and_the_same_for_a_seed(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("QUORUMLOG_REAL_EVENTS", raising=False)
    monkeypatch.chdir(tmp_path)  # nor is there a file beside the repository
    made = work(500, random.Random(1))
    assert "MADE-UP LINES" in capsys.readouterr().err
    assert made.source == "made-up lines"
    assert [int(value[:12]) for _, value in made.events] == list(range(500))
    assert made.lines == work(500, random.Random(1)).lines
    assert {line.customer for line in made.lines} == made.countries.keys()
    assert sum(total.lines for total in totals_of(made.lines).values()) == 500
