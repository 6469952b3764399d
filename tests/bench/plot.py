"""How many times better we are than a peer, one panel a workload: what is right of the line is better, whatever its unit."""

from pathlib import Path
from typing import Any

from tests.bench.figures import OURS, Figures, Key

BETTER, WORSE = "#1f77b4", "#d62728"
NO_CONTEST = ("clients' processor", "removed by retention")  # they say how far to trust a rate, not who is better
ROW_INCHES, HEAD_INCHES, WIDTH_INCHES = 0.26, 0.9, 11.0


def draw(figures: Figures, peer: str, path: Path) -> bool:
    """False if there is nothing to compare."""
    keys = [key for key in figures.lines() if figures.ratio(key, peer) and not key[2].startswith(NO_CONTEST)]
    if not keys:
        return False
    import matplotlib  # only now: it takes half a second, and a run without a peer never needs it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    workloads = {workload: [key for key in keys if key[0] == workload] for workload, *_ in keys}
    heights = [HEAD_INCHES + ROW_INCHES * len(rows) for rows in workloads.values()]
    figure, axes = pyplot.subplots(
        len(workloads), 1, figsize=(WIDTH_INCHES, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (workload, rows) in zip(axes[:, 0], workloads.items(), strict=True):
        _draw_panel(axis, figures, peer, workload, rows)
    figure.savefig(path)
    pyplot.close(figure)
    return True


def advantage(figures: Figures, key: Key, peer: str) -> tuple[float, list[float]]:
    """Times better: the median's, and each round's."""
    ratio = figures.ratio(key, peer)
    assert ratio
    rounds = [a / b for a, b in zip(figures.values(key, OURS), figures.values(key, peer), strict=False) if a > 0 and b > 0]
    more_is_better = key[3].more_is_better
    return (ratio, rounds) if more_is_better else (1 / ratio, [1 / each for each in rounds])


def _draw_panel(axis: Any, figures: Figures, peer: str, workload: str, rows: list[Key]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    for height, key in enumerate(reversed(rows)):
        median, rounds = advantage(figures, key, peer)
        colour = BETTER if median >= 1 else WORSE
        axis.plot([1, median], [height, height], color=colour, linewidth=2)
        axis.plot(rounds, [height] * len(rounds), "o", color=colour, markersize=3, alpha=0.4)
        axis.plot([median], [height], "o", color=colour, markersize=7)
        place: dict[str, Any] = {"xytext": (8, -3)} if median >= 1 else {"xytext": (-8, -3), "ha": "right"}
        axis.annotate(f"{median:.2g}x", (median, height), textcoords="offset points", fontsize=8, color=colour, **place)
    axis.set_yticks(range(len(rows)), [f"{case}: {what}" for _, case, what, _ in reversed(rows)], fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.axvline(1, color="black", linewidth=1)
    axis.margins(x=0.15)
    axis.grid(axis="x", alpha=0.3)
    axis.set_title(f"{workload}: times better than {peer}", loc="left", fontsize=10)
