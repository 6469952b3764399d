"""Tests of classic groups by whole conversations. `UPDATE_SCRIPTS=1 pytest ...` writes the traces anew: read the diff.

Apache Kafka 4.3.1, asked the same over its port, gave the same answers (up to the first reload), but for one thing: a request
that its member repeats while it waits is never answered there.
"""

import os
from pathlib import Path

import pytest

from .classic_script import expected_and_traced

SCRIPTS = sorted((Path(__file__).parent / "classic_scripts").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_the_conversation_goes_as_written(path: Path) -> None:
    """Each answer, each record, in this order."""
    expected, traced = expected_and_traced(path)
    if os.environ.get("UPDATE_SCRIPTS"):
        path.write_text(traced)
    else:
        assert traced == expected
