"""What the cluster tests share: the real order lines, and a place for data that outlives a cluster."""

import os

import pytest

REAL_EVENTS = "QUORUMLOG_REAL_EVENTS"


@pytest.fixture
def real_events() -> str:
    """Path of the real order lines. Where they must not be missing (CI=true) their absence is a failure."""
    path = os.environ.get(REAL_EVENTS, "")
    if os.path.isfile(path):
        return path
    reason = f"{REAL_EVENTS} is {path!r}; it must name the gzipped CSV of real order lines"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(f"NOT JUDGED ON REAL ORDER LINES: {reason}")
