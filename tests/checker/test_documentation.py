"""docs/checker.md: its examples are read, and it defines every kind that the checker knows."""

import re
from pathlib import Path

from quorumlog.checker.anomalies import MEANINGS
from quorumlog.checker.history import read_history

TEXT = (Path(__file__).parents[2] / "docs" / "checker.md").read_text(encoding="utf-8")


def test_the_example_is_a_history(tmp_path: Path) -> None:
    """What people copy from there is understood."""
    (tmp_path / "history.jsonl").write_text(TEXT.partition("```json\n")[2].partition("```")[0], encoding="utf-8")
    assert [operation.kind for operation in read_history(tmp_path / "history.jsonl")] == ["send", "assign", "poll", "txn"]


def test_every_kind_is_defined() -> None:
    """The table of anomalies has all kinds, and no other."""
    table = TEXT.partition("| Kind | Exactly | Example |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) == set(MEANINGS)
