"""The arithmetic behind the tables: medians, ratios, targets, cores; and a smoke run of the whole."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import cores, plot, table, targets
from tests.bench.__main__ import main
from tests.bench.figures import MS, OURS, RECORDS_S, Figure, Figures, percentile
from tests.bench.load.steady import _longest_gap

CASE = "1 KiB, one producer"
KEY = ("throughput", CASE, "rate", RECORDS_S)


def run_of(ours: list[float], theirs: list[float]) -> Figures:
    figures = Figures()
    for round_, pair in enumerate(zip(ours, theirs, strict=True), 1):
        for name, value in zip((OURS, "kafka"), pair, strict=True):
            figures.add("throughput", name, round_, [Figure(CASE, "rate", RECORDS_S, value)])
    return figures


def test_a_ratio_is_one_of_medians() -> None:
    figures = run_of([100.0, 300.0, 200.0], [100.0, 100.0, 400.0])
    assert figures.median(KEY, OURS) == 200.0
    assert figures.ratio(KEY, "kafka") == 2.0
    assert table.ratio(figures, KEY, "kafka") == "2.00 (0.50-3.00)"


@pytest.mark.parametrize(("ours", "theirs"), [(-1.0, 2.0), (2.0, -1.0), (0.0, 2.0), (2.0, 0.0)])
def test_what_is_nothing_or_less_has_no_ratio(ours: float, theirs: float) -> None:
    """Memory that a thousand connections took more can be less, where a garbage collector ran meanwhile."""
    assert run_of([ours], [theirs]).ratio(KEY, "kafka") is None


def test_without_the_peer_there_is_no_ratio() -> None:
    figures = Figures()
    figures.add("throughput", OURS, 1, [Figure(CASE, "rate", RECORDS_S, 5.0)])
    assert figures.ratio(KEY, "kafka") is None
    assert targets.judged(figures) == []
    assert table.rows(figures)[1][-1] == "5.00"


@pytest.mark.parametrize(("ours", "met"), [(99.0, False), (100.0, True)])
def test_a_target_is_met_from_its_bound_on(ours: float, met: bool) -> None:
    verdicts = targets.judged(run_of([ours], [100.0]))
    assert [verdict.met for verdict in verdicts] == [met]


def test_an_absolute_target_looks_at_our_own_figure() -> None:
    figures = Figures()
    for name, value in ((OURS, 99.0), ("kafka", 5.0)):
        case = "planned move of leadership"
        figures.add("failover", name, 1, [Figure(case, "longest time without acknowledgment", MS, value)])
    assert [(verdict.seen, verdict.met) for verdict in targets.judged(figures)] == [(99.0, True)]


def test_every_target_names_a_workload() -> None:
    from tests.bench.run import WORKLOADS

    assert {target.workload for target in targets.TARGETS} <= set(WORKLOADS)


def test_less_is_better_where_it_is_time() -> None:
    figures = Figures()
    for name, value in ((OURS, 2.0), ("kafka", 8.0)):
        figures.add("latency", name, 1, [Figure("steady", "p99", MS, value)])
    assert plot.advantage(figures, ("latency", "steady", "p99", MS), "kafka") == (4.0, [4.0])


def test_the_plot_is_drawn_where_there_is_a_peer(tmp_path: Path) -> None:
    path = tmp_path / "ratios.svg"
    assert plot.draw(run_of([1.0, 2.0], [2.0, 2.0]), "kafka", path)
    assert CASE in path.read_text() or path.stat().st_size > 0
    assert not plot.draw(run_of([1.0], [2.0]), "yardstick", tmp_path / "none.svg")


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 1001)]
    assert [percentile(values, percent) for percent in (50, 99, 99.9)] == [501.0, 991.0, 1000.0]
    assert percentile([7.0], 99.9) == 7.0


def test_a_silence_lasts_to_the_end_of_the_watch() -> None:
    """Nothing acknowledged after the last one is a silence too."""
    assert _longest_gap([0.5, 1.5, 2.0, 9.0], since=1.0, until=5.0) == 3.0
    assert _longest_gap([], since=1.0, until=5.0) == 4.0


def test_small_machines_share_their_cores() -> None:
    assert cores.divided([0, 1]) == cores.Cores((0, 1), (0, 1))
    assert cores.divided([0, 1, 2, 3, 4, 5]) == cores.Cores((0, 1, 2, 3), (4, 5))
    assert cores.parse("0,2-4") == (0, 2, 3, 4)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(300)
def test_a_quick_run_measures_prints_and_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PEER", raising=False)
    monkeypatch.setattr("tests.bench.report.KEPT", tmp_path)
    done = CliRunner().invoke(main, ["--only", "throughput", "--quick", "--size", "seconds=0.2", "--size", "warm_up_s=0.2"])
    assert done.exit_code == 0, done.output
    [path] = tmp_path.glob("*.json")
    kept = json.loads(path.read_text())
    assert {figure["case"] for figure in kept["figures"]} >= {CASE, "100 B, one producer", "order lines by key"}
    assert all(figure["value"] > 0 for figure in kept["figures"] if figure["what"] == "rate")
    assert "brokers' peak memory" in done.output
