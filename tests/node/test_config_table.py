"""The page of settings."""

from pathlib import Path

from quorumlog.node.config_table import render

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_as_the_code_says() -> None:
    """docs/configuration.md is written from the tables; `python -m quorumlog.node settings > docs/configuration.md` renews it."""
    assert PAGE.read_text(encoding="utf-8") == render()
