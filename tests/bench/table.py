"""The figures as a table: the median of every contestant with its spread, and our median by the peer's."""

from tests.bench.figures import OURS, Figures, Key

HEAD = ("workload", "case", "what", "unit")


def rows(figures: Figures) -> list[list[str]]:
    """The head, then a row for each key; the ratio is one of medians, with the ratios of the rounds behind it."""
    names = figures.contestants()
    peers = [name for name in names if name != OURS]
    head = [*HEAD, *names, *(f"{OURS} / {peer}" for peer in peers)] if OURS in names else [*HEAD, *names]
    lines = [head]
    for key in figures.lines():
        workload, case, what, unit = key
        cells = [spread(figures.values(key, name)) for name in names]
        ratios = [ratio(figures, key, peer) for peer in peers] if OURS in names else []
        lines.append([workload, case, what, unit.name, *cells, *ratios])
    return lines


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    middle = sorted(values)[len(values) // 2] if len(values) % 2 else None
    median = middle if middle is not None else sum(sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]) / 2
    return number(median) if len(values) == 1 else f"{number(median)} ({number(min(values))}-{number(max(values))})"


def ratio(figures: Figures, key: Key, peer: str) -> str:
    found = figures.ratio(key, peer)
    if found is None:
        return "-"
    each = [a / b for a, b in zip(figures.values(key, OURS), figures.values(key, peer), strict=False) if b > 0]
    return number(found) if len(each) < 2 else f"{number(found)} ({number(min(each))}-{number(max(each))})"


def number(value: float) -> str:
    """Three digits that matter, and thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def as_text(figures: Figures) -> str:
    lines = rows(figures)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join(aligned)


def as_markdown(figures: Figures) -> str:
    head, *body = rows(figures)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))
