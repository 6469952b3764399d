"""What is kept of a run: JSON in .bench/, and with --write a section in docs/benchmarks.md."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench import machine, plot, table, targets
from tests.bench.figures import OURS
from tests.bench.run import Run

KEPT = Path(".bench")
PAGE = Path("docs/benchmarks.md")
PICTURES = PAGE.with_suffix("")


def keep(run: Run, *, write: bool) -> str:
    """Where it is kept, for people."""
    KEPT.mkdir(exist_ok=True)
    stem = KEPT / time.strftime("%Y-%m-%dT%H-%M-%S")
    kept = [stem.with_suffix(".json"), *_plots(run, stem)]
    kept[0].write_text(json.dumps(as_json(run), indent=1) + "\n")
    if write:
        kept += _write(run, kept[1:])
    return f"kept in {', '.join(map(str, kept))}"


def _write(run: Run, plots: list[Path]) -> list[Path]:
    """A section of the page, with its plots beside it."""
    PICTURES.mkdir(exist_ok=True)
    copies = [Path(shutil.copy(each, PICTURES / each.name)) for each in plots]
    with PAGE.open("a") as page:
        page.write("\n" + section(run, copies))
    return [PAGE, *copies]


def _plots(run: Run, stem: Path) -> list[Path]:
    peers = [name for name in run.figures.contestants() if name != OURS]
    paths = {peer: stem.with_name(f"{stem.name}-{peer}.svg") for peer in peers}
    return [path for peer, path in paths.items() if plot.draw(run.figures, peer, path)]


def as_json(run: Run) -> dict[str, Any]:
    return {
        **circumstances(run),
        "figures": run.figures.as_json(),
        "targets": _targets(run),
        "failures": run.failures,
    }


def _targets(run: Run) -> list[dict[str, Any]]:
    return [asdict(verdict) for verdict in targets.judged(run.figures)]


def circumstances(run: Run) -> dict[str, Any]:
    """All without which the figures say nothing."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine.describe(run.site.directory),
        "cores": str(run.site.cores),
        "scale": asdict(run.scale),
        "load average before": round(run.load_before, 1),
        "order lines": "real" if run.lines else "made up",
        "contestants": {each.name: {"version": each.version, "settings": each.settings} for each in run.contestants},
    }


def section(run: Run, pictures: Sequence[Path]) -> str:
    told = circumstances(run)
    lines = [f"## {told['date']}, {told['contestants']['quorumlog']['version']}", ""]
    lines += [f"- {name}: {value}" for name, value in _flat(told)]
    verdicts = targets.as_markdown(targets.judged(run.figures))
    shown = [f"![Times better, by figure]({path.relative_to(PAGE.parent)})\n" for path in pictures]
    return "\n".join([*lines, "", *shown, verdicts, "", table.as_markdown(run.figures), ""])


def _flat(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    machines = list(told["machine"].items())
    contestants = [(f"{name} {each['version']}", each["settings"]) for name, each in told["contestants"].items()]
    scale = ("scale", ", ".join(f"{name} {value:g}" for name, value in told["scale"].items()))
    others = [(name, str(told[name])) for name in ("cores", "load average before", "order lines")]
    return [*machines, *others, scale, *contestants]
