"""The picture of a run: records sent and read, latency, and beneath them one lane for each fault and each kind of anomaly.

Needs matplotlib (the extra `report`), which takes half a second to import: only report.py imports this module, when it draws.
Every band and mark carries an id and a tip, so that an SVG says more when the mouse rests on it.
"""

import io
import itertools
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from quorumlog.checker.timeline import Band, Silence, Timeline

BANDS_MAX = 1_000
LANES_MAX = 24
OTHERS = "other faults"
MARK_COLUMNS = 80
"""Anomalies of one kind within one eightieth of the run share a mark: as many as can be told apart."""

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
ACKNOWLEDGED, READ, UNSURE = "#0072b2", "#009e73", "#7b8794"
P50, P99 = "#56b4e9", "#8e4b9e"
ANOMALY, ALLOWED = "#c1121f", "#e69f00"
FAULTS = ("#e69f00", "#56b4e9", "#cc79a7", "#b8a800", "#d55e00", "#8c6d46", "#009e73", "#5f6caf")

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and the file is a third of the size
    "svg.hashsalt": "quorumlog",  # the same run makes the same file
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Segoe UI", "Helvetica Neue", "Arial"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@dataclass(frozen=True, slots=True)
class Mark:
    """An anomaly at a moment of the run."""

    kind: str
    moment: float
    allowed: bool


class Plot:
    """One figure and the tips of its parts; draws at construction."""

    def __init__(self, run: Timeline, bands: Sequence[Band], marks: Sequence[Mark], *, title: str | None = None) -> None:
        """`title` is for pictures that stand alone."""
        self._run, self._bands, self._marks = run, sorted(bands, key=lambda band: band.begin)[:BANDS_MAX], marks
        self._tips: dict[str, str] = {}
        with rc_context(STYLE):
            self._draw(title)

    def svg(self) -> str:
        """An <svg> element to be put into a page: no prolog, nothing from elsewhere."""
        file = io.StringIO()
        with rc_context(STYLE):
            FigureCanvasSVG(self._figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
        return _with_tips(file.getvalue(), self._tips)

    def png(self) -> bytes:
        file = io.BytesIO()
        with rc_context(STYLE):
            self._figure.set_dpi(150)
            FigureCanvasAgg(self._figure).print_png(file)  # type: ignore[no-untyped-call]
        return file.getvalue()

    def _draw(self, title: str | None) -> None:
        fault_lanes, labels = _lanes(self._bands)
        kinds = list(dict.fromkeys((mark.kind, mark.allowed) for mark in sorted(self._marks, key=lambda mark: mark.allowed)))
        lanes_inches = 0.24 * (len(labels) + len(kinds))
        heights = [1.9, 1.2, 1.7, *([lanes_inches] if lanes_inches else [])]
        self._figure = Figure(figsize=(12, sum(heights) + (1.5 if title else 0.9)), layout="constrained")
        axes = self._figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
        colours = {name: FAULTS[lane % len(FAULTS)] for name, lane in fault_lanes.items()}
        for panel in axes[:3]:
            self._shade(panel, colours)
        self._draw_sent(axes[0])
        self._draw_read(axes[1])
        self._draw_latency(axes[2])
        if lanes_inches:
            self._draw_bars(axes[3], fault_lanes, colours)
            self._draw_kinds(axes[3], kinds, labels)
        margin = max(self._run.end - self._run.begin, 0.1) * 0.005
        axes[-1].set_xlim(self._run.begin - margin, self._run.end + margin)
        axes[-1].ticklabel_format(axis="x", useOffset=False, style="plain")
        axes[-1].set_xlabel("seconds")
        if title:
            self._figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")

    def _shade(self, panel: Axes, colours: Mapping[str, str]) -> None:
        for band in self._bands:
            panel.axvspan(band.begin, band.end, color=colours[band.name], alpha=0.16, linewidth=0)
        moments = sorted({column for _, column, _ in self._columns(allowed=False)})
        panel.vlines(
            moments, 0, 1, transform=panel.get_xaxis_transform(), colors=ANOMALY, linewidth=0.8, linestyles=":", alpha=0.9
        )

    def _draw_sent(self, panel: Axes) -> None:
        windows = self._run.windows
        panel.stairs(windows.acknowledged, self._edges, color=ACKNOWLEDGED, fill=True, alpha=0.18)
        panel.stairs(windows.acknowledged, self._edges, baseline=None, color=ACKNOWLEDGED, linewidth=1.3, label="acknowledged")
        if any(windows.unsure):
            style: dict[str, Any] = {"color": UNSURE, "linewidth": 1.1, "linestyle": "--", "label": "refused or unknown"}
            panel.stairs(windows.unsure, self._edges, baseline=None, **style)
        highest = max(*windows.acknowledged, *windows.unsure, 1e-9)
        panel.set_ylim(0, highest * 1.28)
        panel.set_ylabel("records/s")
        panel.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=highest >= 5))
        panel.yaxis.set_major_formatter(ticker.FuncFormatter(_short))
        panel.set_title(f"Sent, by windows of {windows.width_s:g} s", loc="left", fontsize=9, fontweight="bold")
        _legend(panel)
        if self._run.longest_silence is not None:
            self._draw_silence(panel, self._run.longest_silence, highest * 1.1)

    def _draw_read(self, panel: Axes) -> None:
        # Readers that start over read the records of minutes within a second: on a linear scale nothing else would be seen.
        panel.stairs(self._run.windows.read, self._edges, baseline=None, color=READ, linewidth=1.3)
        panel.set_yscale("symlog", linthresh=10, linscale=0.4)
        panel.set_ylim(0, max(*self._run.windows.read, 10.0) * 1.5)
        panel.set_ylabel("records/s")
        panel.yaxis.set_major_locator(ticker.FixedLocator([0, *(10.0**power for power in range(1, 9))]))
        panel.yaxis.set_major_formatter(ticker.FuncFormatter(_short))
        panel.yaxis.set_minor_locator(ticker.NullLocator())
        panel.set_title("Read, by all readers together", loc="left", fontsize=9, fontweight="bold")

    @property
    def _edges(self) -> list[float]:
        begins, width_s = self._run.windows.begins, self._run.windows.width_s
        return [*begins, max(self._run.end, begins[-1] + width_s / 2)]

    def _draw_silence(self, panel: Axes, silence: Silence, height: float) -> None:
        (line,) = panel.plot([silence.begin, silence.end], [height, height], color=INK, linewidth=1.2, marker="|", markersize=7)
        line.set_gid("longest-silence")
        self._tips["longest-silence"] = f"no acknowledgment from {silence.begin:.3f} s to {silence.end:.3f} s"
        on_the_left = silence.begin > (self._run.begin + self._run.end) / 2
        panel.annotate(
            f"longest silence {silence.seconds:.2f} s",
            (silence.begin if on_the_left else silence.end, height),
            xytext=(-6 if on_the_left else 6, 0),
            textcoords="offset points",
            ha="right" if on_the_left else "left",
            va="center",
            fontsize=8,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
        )

    def _draw_latency(self, panel: Axes) -> None:
        windows = self._run.windows
        middles = [begin + windows.width_s / 2 for begin in windows.begins]
        # A window between two empty ones would be a line without length: the dots show it.
        shape: dict[str, Any] = {"linewidth": 1.3, "marker": ".", "markersize": 3}
        panel.plot(middles, windows.p99_ms, color=P99, label="p99", **shape)
        panel.plot(middles, windows.p50_ms, color=P50, label="p50", **shape)
        panel.set_yscale("log")
        known = [value for value in (*windows.p50_ms, *windows.p99_ms) if value > 0]
        lowest, highest = min(known, default=1), max(known, default=10)
        panel.set_ylim(10 ** math.floor(math.log10(lowest)), 10 ** math.ceil(math.log10(highest * 1.2)))
        panel.yaxis.set_major_formatter(ticker.FuncFormatter(_short))
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
        panel.set_ylabel("ms")
        panel.set_title("Latency of acknowledged sends", loc="left", fontsize=9, fontweight="bold")
        _legend(panel)

    def _draw_bars(self, panel: Axes, lanes: Mapping[str, int], colours: Mapping[str, str]) -> None:
        # A fault of a millisecond is seen all the same.
        shortest = (self._run.end - self._run.begin) / 500
        for number, band in enumerate(self._bands):
            width = max(band.end - band.begin, shortest)
            bar = Rectangle((band.begin, lanes[band.name] - 0.34), width, 0.68, color=colours[band.name], linewidth=0)
            bar.set_gid(f"band-{number}")
            self._tips[f"band-{number}"] = (
                f"{band.name}: {band.begin:.3f} s to {band.end:.3f} s, {band.end - band.begin:.3f} s long"
            )
            panel.add_patch(bar)

    def _draw_kinds(self, panel: Axes, kinds: Sequence[tuple[str, bool]], faults: Sequence[str]) -> None:
        for lane, (kind, allowed) in enumerate(kinds, start=len(faults)):
            self._draw_marks(panel, kind, allowed, lane)
        labels = [*faults, *(f"{kind} (allowed)" if allowed else kind for kind, allowed in kinds)]
        panel.set_ylim(len(labels) - 0.4, -0.6)
        panel.set_yticks(range(len(labels)), labels)
        for label, (_, allowed) in zip(panel.get_yticklabels()[len(faults) :], kinds, strict=True):
            label.set_color(FAINT if allowed else ANOMALY)
        panel.tick_params(axis="y", length=0)
        panel.grid(visible=False, axis="y")
        panel.set_title("Faults and anomalies" if kinds else "Faults", loc="left", fontsize=9, fontweight="bold")

    def _draw_marks(self, panel: Axes, kind: str, allowed: bool, lane: int) -> None:
        colour = ALLOWED if allowed else ANOMALY
        shape: dict[str, Any] = {"marker": "X", "markersize": 7}
        if allowed:
            shape = {"marker": "o", "markersize": 5, "markerfacecolor": "white"}
        for number, (_, moment, count) in enumerate(self._columns(allowed=allowed, kind=kind)):
            (mark,) = panel.plot([moment], [lane], color=colour, linestyle="none", **shape)
            gid = f"{'allowed' if allowed else 'anomaly'}-{kind}-{number}"
            mark.set_gid(gid)
            self._tips[gid] = f"{kind} at {moment:.3f} s" + (f" and {count - 1} more close by" if count > 1 else "")

    def _columns(self, *, allowed: bool, kind: str | None = None) -> Iterator[tuple[str, float, int]]:
        """Kind, first moment and count of the marks that are too close together to be told apart."""
        width = max(self._run.end - self._run.begin, 1e-9) / MARK_COLUMNS
        marks = sorted(
            (mark.kind, int((mark.moment - self._run.begin) / width), mark.moment)
            for mark in self._marks
            if mark.allowed is allowed and kind in (None, mark.kind)
        )
        for (name, _), group in itertools.groupby(marks, key=lambda mark: mark[:2]):
            moments = [moment for _, _, moment in group]
            yield name, moments[0], len(moments)


def _lanes(bands: Sequence[Band]) -> tuple[dict[str, int], list[str]]:
    """A lane for each name, by first appearance, and the lanes' labels; the last lane takes all that are too many."""
    names = list(dict.fromkeys(band.name for band in bands))
    labels = names if len(names) <= LANES_MAX else [*names[: LANES_MAX - 1], OTHERS]
    return {name: min(lane, LANES_MAX - 1) for lane, name in enumerate(names)}, labels


def _short(value: float, _position: int | None) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else f"{value:.2g}"


def _legend(panel: Axes) -> None:
    panel.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, borderaxespad=0.2, fontsize=8)


def _with_tips(svg: str, tips: Mapping[str, str]) -> str:
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(svg)
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter(f"{{{SVG}}}g"):
        if element.get("id") in tips:
            tip = ElementTree.Element(f"{{{SVG}}}title")
            tip.text = tips[element.attrib["id"]]
            element.insert(0, tip)
    root.attrib.update(width="100%", height="auto", role="img")
    del root.attrib["height"]
    return ElementTree.tostring(root, encoding="unicode")
