"""A run on one page: what was promised, what was broken, when, and what was going wrong meanwhile.

An HTML file stands alone: the picture is in it, and nothing is loaded from anywhere. A PNG file is the picture alone.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from quorumlog.checker.analysis import Anomaly, Verdict
from quorumlog.checker.history import Operation, Outcome
from quorumlog.checker.timeline import Band, Timeline, timeline

__all__ = ["Band", "ReportError", "ensure_possible", "write_report"]

ROWS_MAX = 500
"""Of a table: what is more is counted, not shown."""
OPERATIONS_MAX = 8
"""Of an anomaly: the indexes that are named."""

STYLE = """
:root { color-scheme: light; }
body { margin: 2rem auto; max-width: 78rem; padding: 0 1.5rem; background: #f5f7fa; color: #1f2933;
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.verdict { display: inline-block; margin-left: .75rem; padding: .1rem .7rem; border-radius: 1rem; color: #fff; font-size: .95rem;
  vertical-align: middle; background: #1a7f4b; }
.verdict.broken { background: #c1121f; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 0 0 1rem; }
.numbers div, figure, table { background: #fff; border: 1px solid #e4e7eb; border-radius: .5rem; }
.numbers div { padding: .6rem .9rem; }
.numbers dt { color: #616e7c; font-size: .82rem; }
.numbers dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.numbers small { display: block; color: #616e7c; font-size: .82rem; }
figure { margin: 0; padding: .75rem; overflow-x: auto; }
figure svg { display: block; min-width: 50rem; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem; overflow: hidden; }
th, td { padding: .35rem .8rem; text-align: left; vertical-align: top; border-top: 1px solid #e4e7eb; }
thead th { border-top: 0; background: #f0f3f7; font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.kind { white-space: nowrap; font-weight: 600; }
td.message { white-space: pre-wrap; overflow-wrap: anywhere; }
.anomalies td.kind { color: #c1121f; }
p { color: #616e7c; margin: .4rem 0; }
"""


class ReportError(Exception):
    """The report cannot be made as asked; the message says what would help."""


def ensure_possible(path: str | Path) -> None:
    """Before an hour of work that ends in a report: ReportError if the suffix or the installed libraries do not allow it."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".html", ".png"):
        raise ReportError(f"a report is an .html or a .png file, not {suffix or 'one without a suffix'}: {path}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ReportError(f"a report is drawn by matplotlib: pip install 'quorumlog[report]' ({error})") from error


def write_report(
    path: str | Path, operations: Sequence[Operation], bands: Sequence[Band], verdict: Verdict, *, title: str
) -> None:
    """Writes one file, HTML or PNG by the suffix of `path`; an existing one is overwritten.

    `bands` are the faults, on the clock of the operations. Raises ReportError if it cannot be drawn
    here, OSError if it cannot be written.
    """
    ensure_possible(path)
    from quorumlog.checker.plot import Mark, Plot

    anomalies = [*verdict.anomalies, *verdict.allowed]
    run = timeline(operations, bands, wanted={index for anomaly in anomalies for index in anomaly.operations})
    marks = [
        Mark(anomaly.kind, moment, allowed=number >= len(verdict.anomalies))
        for number, anomaly in enumerate(anomalies)
        if (moment := _moment(run, anomaly)) is not None
    ]
    if Path(path).suffix.lower() == ".png":
        Path(path).write_bytes(Plot(run, bands, marks, title=f"{title}: {_headline(verdict)}").png())
    else:
        Path(path).write_text(_page(run, bands, verdict, title, Plot(run, bands, marks).svg()), encoding="utf-8")


def _moment(run: Timeline, anomaly: Anomaly) -> float | None:
    """When the last of its operations ended: before that nobody could see it."""
    return max((run.moments[index] for index in anomaly.operations), default=None)


def _headline(verdict: Verdict) -> str:
    count = len(verdict.anomalies)
    return "no anomalies" if count == 0 else "1 anomaly" if count == 1 else f"{count:,} anomalies"


def _page(run: Timeline, bands: Sequence[Band], verdict: Verdict, title: str, svg: str) -> str:
    broken = "" if verdict.is_clean else " broken"
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body>",
            f'<h1>{escape(title)}<span class="verdict{broken}">{_headline(verdict)}</span></h1>',
            _numbers(run, bands),
            f"<figure>{svg}</figure>",
            *_anomalies(run, verdict),
            *_faults(run, bands),
            *_operations(run),
            *_allowed(run, verdict),
            "</body></html>\n",
        ]
    )


def _numbers(run: Timeline, bands: Sequence[Band]) -> str:
    seconds = run.end - run.begin
    silence = run.longest_silence
    rate = run.records.get("acknowledged", 0) / seconds if seconds else 0.0
    numbers = [
        ("operations", f"{sum(run.outcomes.values()):,}", f"in {seconds:,.1f} s"),
        ("records acknowledged", f"{run.records.get('acknowledged', 0):,}", f"{rate:,.0f} a second"),
        ("records refused", f"{run.records.get('refused', 0):,}", f"and {run.records.get('unknown', 0):,} unknown"),
        ("records read", f"{run.records.get('read', 0):,}", "by all readers together"),
        ("latency of sends, p50", _milliseconds(run.p50_ms), f"p99 {_milliseconds(run.p99_ms)}"),
        ("longest silence", f"{silence.seconds:.2f} s", f"from {silence.begin:.1f} s")
        if silence
        else ("longest silence", "–", ""),
        ("faults", f"{len(bands):,}", f"{sum(band.end - band.begin for band in bands):,.1f} s in all"),
    ]
    items = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)} <small>{escape(more)}</small></dd></div>"
        for name, value, more in numbers
    )
    return f'<dl class="numbers">{"".join(items)}</dl>'


def _milliseconds(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.1f} ms"


def _anomalies(run: Timeline, verdict: Verdict) -> Iterable[str]:
    yield "<h2>Anomalies</h2>"
    yield _counts(verdict.anomalies)
    yield from (f"<p>{escape(note)}</p>" for note in verdict.notes)
    if verdict.anomalies:
        yield _anomaly_table("anomalies", run, verdict.anomalies)


def _allowed(run: Timeline, verdict: Verdict) -> Iterable[str]:
    if verdict.allowed:
        yield "<h2>Seen and allowed</h2>"
        yield _counts(verdict.allowed)
        yield _anomaly_table("allowed", run, verdict.allowed)


def _counts(anomalies: Sequence[Anomaly]) -> str:
    counts = Counter(anomaly.kind for anomaly in anomalies)
    return f"<p>{escape(' · '.join(f'{kind}: {count:,}' for kind, count in sorted(counts.items()))) or 'None.'}</p>"


def _anomaly_table(name: str, run: Timeline, anomalies: Sequence[Anomaly]) -> str:
    heads = [("kind", "kind"), ("at, s", "number"), ("key", ""), ("what", "message"), ("operations", "")]
    return _table(name, heads, [_anomaly_row(run, anomaly) for anomaly in anomalies])


def _anomaly_row(run: Timeline, anomaly: Anomaly) -> Sequence[str]:
    moment = _moment(run, anomaly)
    named = ", ".join(map(str, anomaly.operations[:OPERATIONS_MAX]))
    more = f" and {len(anomaly.operations) - OPERATIONS_MAX:,} more" if len(anomaly.operations) > OPERATIONS_MAX else ""
    return (anomaly.kind, "" if moment is None else f"{moment:,.3f}", anomaly.key or "", anomaly.message, named + more)


def _faults(run: Timeline, bands: Sequence[Band]) -> Iterable[str]:
    if not bands:
        return
    heads = [
        ("fault", "kind"),
        ("from, s", "number"),
        ("to, s", "number"),
        ("lasted, s", "number"),
        ("longest silence then, s", "number"),
    ]
    yield "<h2>Faults</h2>"
    yield _table("faults", heads, [_fault_row(run, band) for band in sorted(bands, key=lambda band: band.begin)])


def _fault_row(run: Timeline, band: Band) -> Sequence[str]:
    silence = run.silence_during(band.begin, band.end)
    seconds = "" if silence is None else f"{silence.seconds:,.2f}"
    return (band.name, f"{band.begin:,.2f}", f"{band.end:,.2f}", f"{band.end - band.begin:,.2f}", seconds)


def _operations(run: Timeline) -> Iterable[str]:
    kinds = sorted({kind for kind, _ in run.outcomes})
    heads = [("operation", "kind"), *((outcome.value, "number") for outcome in Outcome)]
    rows = [(kind, *(f"{run.outcomes.get((kind, outcome), 0):,}" for outcome in Outcome)) for kind in kinds]
    yield "<h2>Operations</h2>"
    yield _table("operations", heads, rows)


def _table(name: str, heads: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """A head is its text and the class of its column."""
    head = "".join(f'<th class="{shape}">{escape(text)}</th>' for text, shape in heads)
    body = "\n".join(
        "<tr>"
        + "".join(f'<td class="{shape}">{escape(cell)}</td>' for cell, (_, shape) in zip(row, heads, strict=True))
        + "</tr>"
        for row in rows[:ROWS_MAX]
    )
    more = f"<p>and {len(rows) - ROWS_MAX:,} more</p>" if len(rows) > ROWS_MAX else ""
    return f'<table class="{name}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>{more}'
