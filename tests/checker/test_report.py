"""The report shows the run that it was given: read back from the file that it wrote."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from quorumlog.checker.analysis import Anomaly, Verdict
from quorumlog.checker.history import Operation, Outcome, Poll, Send
from quorumlog.checker.report import Band, ReportError, ensure_possible, write_report

SVG = "{http://www.w3.org/2000/svg}"
CLEAN = Verdict(anomalies=())
BANDS = [Band("kill node 1", 2.0, 3.5), Band("pause node 2", 5.0, 5.0), Band("kill node 1", 7.0, 8.0)]
BROKEN = Verdict(
    anomalies=(
        Anomaly("lost-write", "orders-0", "<v3> was acknowledged & lost", (3, 8)),
        Anomaly("duplicate", "orders-1", "v1 at 1 and 9", (1,)),
        Anomaly("duplicate", None, "of no operation", ()),
    ),
    allowed=(Anomaly("int-send-skip", "orders-0", "a gap", (5,)),),
    notes=("nobody read to the end",),
)


def run() -> list[Operation]:
    """Ten seconds, a send of two records and a poll of three each half second; nothing is acknowledged from 2.01 to 4."""
    operations = []
    for half in range(20):
        at = half / 2
        outcome = Outcome.UNKNOWN if 2 < at < 4 else Outcome.OK
        sends = (Send("orders-0", f"a{half}", half), Send("orders-1", f"b{half}", half))
        operations.append(Operation(1, "send", at, at + 0.01, outcome, sends))
        records = tuple((offset, f"a{offset}") for offset in range(3))
        operations.append(Operation(2, "poll", at, at + 0.02, Outcome.OK, (Poll("orders-0", records),)))
    return operations


class Page(HTMLParser):
    """Tables as lists of rows, and whatever would load something from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.loads: list[str] = []
        self._cell: list[str] | None = None
        self._rows: list[list[str]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [
            f"{tag} {value}" for name in ("src", "href", "xlink:href") if (value := given.get(name)) and value[0] != "#"
        ]
        self.loads += [tag] if tag in ("script", "link", "iframe") else []
        if tag == "table":
            self._rows = self.tables[given["class"] or ""] = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self._rows[-1].append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def svg(self) -> ElementTree.Element:
        found = re.search(r"<svg.*?</svg>", self.text, re.DOTALL)
        assert found is not None
        return ElementTree.fromstring(found.group())

    def tips(self) -> dict[str, str]:
        """What the picture says when the mouse rests on one of its parts, by the id of the part."""
        groups = [(group.get("id") or "", group.find(f"{SVG}title")) for group in self.svg().iter(f"{SVG}g")]
        return {name: title.text or "" for name, title in groups if title is not None}

    def labels(self) -> list[str]:
        return ["".join(text.itertext()).strip() for text in self.svg().iter(f"{SVG}text")]


def written(tmp_path: Path, verdict: Verdict, operations: Sequence[Operation], bands: Sequence[Band] = ()) -> Page:
    write_report(tmp_path / "report.html", operations, bands, verdict, title="A run & its <faults>")
    return Page(tmp_path / "report.html")


def number(page: Page, name: str) -> tuple[str, str]:
    """A number above the picture, and the words beneath it."""
    found = re.search(rf"<dt>{name}</dt><dd>(.*?) <small>(.*?)</small>", page.text)
    assert found is not None
    return found[1], found[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A broken run with faults."""
    return written(tmp_path_factory.mktemp("report"), BROKEN, run(), BANDS)


def test_the_page_stands_alone(page: Page) -> None:
    """Nothing is loaded from anywhere, and what came from outside is text, not markup."""
    assert page.loads == []
    assert "@import" not in page.text
    assert "url(http" not in page.text
    assert "A run &amp; its &lt;faults&gt;" in page.text
    assert "<faults>" not in page.text


def test_every_fault_is_a_labelled_band(page: Page) -> None:
    """One bar each, in a lane with its name, and a shade behind both curves."""
    bands = {name: tip for name, tip in page.tips().items() if name.startswith("band-")}
    assert bands == {
        "band-0": "kill node 1: 2.000 s to 3.500 s, 1.500 s long",
        "band-1": "pause node 2: 5.000 s to 5.000 s, 0.000 s long",
        "band-2": "kill node 1: 7.000 s to 8.000 s, 1.000 s long",
    }
    assert page.labels().count("kill node 1") == 1
    assert page.labels().count("pause node 2") == 1


def test_bars_lie_where_the_faults_were(page: Page) -> None:
    """On the seconds of the axis: the second bar of a name begins 5 s after the first, and is two thirds as long."""
    first, momentary, second = (bar_edges(page, f"band-{index}") for index in range(3))
    second_px = (second[0] - first[0]) / 5
    assert first[1] - first[0] == pytest.approx(1.5 * second_px, rel=1e-3)
    assert second[1] - second[0] == pytest.approx(second_px, rel=1e-3)
    assert 0 < momentary[1] - momentary[0] < 0.1 * second_px


def bar_edges(page: Page, name: str) -> tuple[float, float]:
    path = page.svg().find(f".//{SVG}g[@id='{name}']/{SVG}path")
    assert path is not None
    corners = [float(x) for x in re.findall(r"[ML] ([\d.]+) [\d.]+", path.attrib["d"])]
    return min(corners), max(corners)


def test_every_anomaly_is_a_mark_and_a_row(page: Page) -> None:
    """A mark at the end of its last operation; the one that names no operation is in the table alone."""
    marks = {name: tip for name, tip in page.tips().items() if name.startswith(("anomaly-", "allowed-"))}
    assert marks == {
        "anomaly-lost-write-0": "lost-write at 2.010 s",
        "anomaly-duplicate-0": "duplicate at 0.020 s",
        "allowed-int-send-skip-0": "int-send-skip at 1.020 s",
    }
    assert {"lost-write", "duplicate", "int-send-skip (allowed)"} <= set(page.labels())
    assert page.tables["anomalies"][1:] == [
        ["lost-write", "2.010", "orders-0", "<v3> was acknowledged & lost", "3, 8"],
        ["duplicate", "0.020", "orders-1", "v1 at 1 and 9", "1"],
        ["duplicate", "", "", "of no operation", ""],
    ]
    assert page.tables["allowed"][1:] == [["int-send-skip", "1.020", "orders-0", "a gap", "5"]]
    assert "duplicate: 2 · lost-write: 1" in page.text
    assert "nobody read to the end" in page.text


def test_the_numbers_are_those_of_the_run(page: Page) -> None:
    """Counted by hand: 20 sends of two records, three of them unknown; 20 polls of three."""
    assert number(page, "operations") == ("40", "in 9.5 s")
    assert number(page, "records acknowledged") == ("34", "4 a second")
    assert number(page, "records refused") == ("0", "and 6 unknown")
    assert number(page, "records read")[0] == "60"
    assert number(page, "latency of sends, p50") == ("10.0 ms", "p99 10.0 ms")
    assert number(page, "longest silence") == ("2.00 s", "from 2.0 s")
    assert page.tips()["longest-silence"] == "no acknowledgment from 2.010 s to 4.010 s"
    assert "longest silence 2.00 s" in page.labels()
    assert page.tables["operations"] == [
        ["operation", "ok", "fail", "unknown"],
        ["poll", "20", "0", "0"],
        ["send", "17", "0", "3"],
    ]


def test_each_fault_tells_its_longest_silence(page: Page) -> None:
    """The first one lies in the silence of 2 s, the others in steady traffic."""
    assert page.tables["faults"][1:] == [
        ["kill node 1", "2.00", "3.50", "1.50", "2.00"],
        ["pause node 2", "5.00", "5.00", "0.00", "0.50"],
        ["kill node 1", "7.00", "8.00", "1.00", "0.50"],
    ]


def test_a_clean_run_says_so(tmp_path: Path) -> None:
    """No marks, no lanes, no table of anomalies."""
    page = written(tmp_path, CLEAN, run())
    assert '<span class="verdict">no anomalies</span>' in page.text
    assert set(page.tips()) == {"longest-silence"}
    assert set(page.tables) == {"operations"}
    assert "Faults" not in page.labels()


def test_one_anomaly_is_no_clean_run(tmp_path: Path) -> None:
    """The verdict stands in the head line, in words."""
    page = written(tmp_path, Verdict(anomalies=BROKEN.anomalies[:1]), run())
    assert '<span class="verdict broken">1 anomaly</span>' in page.text


@pytest.mark.parametrize("operations", [[], [Operation(1, "assign", 3.0, None, Outcome.UNKNOWN, keys=("orders-0",))]])
def test_a_run_without_records_has_a_report_too(tmp_path: Path, operations: list[Operation]) -> None:
    """Nothing to divide by, nothing to draw: dashes."""
    page = written(tmp_path, CLEAN, operations)
    assert number(page, "latency of sends, p50") == ("–", "p99 –")
    assert number(page, "longest silence")[0] == "–"


def test_what_is_too_many_is_counted(tmp_path: Path) -> None:
    """Anomalies that fall together share a mark, tables and lanes end, and say what is left out."""
    anomalies = tuple(Anomaly("duplicate", "orders-0", "again", tuple(range(20))) for _ in range(700))
    bands = [Band(f"fault {index}", index * 0.1, index * 0.1) for index in range(60)]
    page = written(tmp_path, Verdict(anomalies=anomalies), run(), bands)
    assert page.tips()["anomaly-duplicate-0"] == "duplicate at 4.520 s and 699 more close by"
    assert len(page.tables["anomalies"]) == 1 + 500
    assert "and 200 more" in page.text
    assert page.tables["anomalies"][1][4] == "0, 1, 2, 3, 4, 5, 6, 7 and 12 more"
    assert len([label for label in page.labels() if label.startswith("fault ")]) == 23
    assert "other faults" in page.labels()
    assert len([name for name in page.tips() if name.startswith("band-")]) == 60


def test_the_same_run_makes_the_same_page(page: Page, tmp_path: Path) -> None:
    """No date, no random id: a kept report changes only when the run does."""
    assert written(tmp_path, BROKEN, run(), BANDS).text == page.text


def test_a_png_is_a_picture(tmp_path: Path) -> None:
    """By the suffix; wide enough to be read."""
    path = tmp_path / "report.PNG"
    write_report(path, run(), BANDS, BROKEN, title="A run")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20], "big") == 1800


@pytest.mark.parametrize("name", ["report.pdf", "report"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    """With the two that there are, before anything is written."""
    with pytest.raises(ReportError, match=r"\.html or a \.png"):
        write_report(tmp_path / name, run(), BANDS, CLEAN, title="A run")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker itself does without."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match=r"pip install 'quorumlog\[report\]'"):
        ensure_possible(tmp_path / "report.html")
