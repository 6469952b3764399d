"""Every fault that chaos makes is explained, and the promise that it tries is written down."""

import re
from pathlib import Path

from tests.chaos.faults import FAULTS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_fault_is_explained() -> None:
    """In the table of docs/chaos.md, which names no others."""
    text = (DOCS / "chaos.md").read_text().partition("## Faults")[2].partition("## Rounds")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == list(FAULTS)


def test_every_fault_tries_a_promise() -> None:
    """In the table of docs/guarantees.md, which names no others."""
    text = (DOCS / "guarantees.md").read_text()
    named = [name for names in re.findall(r"chaos: (`[^|]*)\|", text) for name in re.findall(r"`([a-z-]+)`", names)]
    assert sorted(named) == sorted(FAULTS)
