"""Random histories of a model log are clean; with one anomaly planted the checker names that one and what must follow from it."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.checker.analysis import check
from tests.checker.model import ALLOWED_PLANTS, PLANTS, clean_history, is_planter, jumbled, planted_history, without_optional

# Batches that interleave, and subscribers that are rebalanced.
ALLOWED_IN_THE_MODEL = {"int-send-skip", "G0", "poll-skip", "nonmonotonic-poll"}

SEEDS = st.integers(min_value=0, max_value=2**32)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_what_a_correct_log_shows_is_clean(seed: int) -> None:
    """Gaps, unknown and failed operations, aborted transactions, rebalances, interleaved batches: nothing of it is an anomaly."""
    history = clean_history(seed)
    verdict = check(history)
    assert verdict.anomalies == ()
    assert {anomaly.kind for anomaly in verdict.allowed} <= ALLOWED_IN_THE_MODEL
    assert verdict.notes == ()


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_a_correct_log_is_clean_in_any_order_of_lines_and_without_offsets_of_sends(seed: int) -> None:
    """The order of lines is that of completion, or of many files put together; many clients are told no offsets."""
    history = clean_history(seed)
    assert check(jumbled(history, Random(seed))).anomalies == ()
    assert check(without_optional(history)).anomalies == ()


@pytest.mark.parametrize("kind", PLANTS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_a_planted_anomaly_is_named_and_no_other(kind: str, seed: int) -> None:
    """Of each kind that is never allowed."""
    plant = PLANTS[kind]
    kinds = {anomaly.kind for anomaly in check(planted_history(seed, plant)).anomalies}
    assert {kind} | plant.implies <= kinds <= {kind} | plant.implies | plant.may_imply


@pytest.mark.parametrize("kind", ALLOWED_PLANTS)
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_what_is_allowed_is_named_as_such(kind: str, seed: int) -> None:
    """Of each kind that a correct cluster may show; it is the planted one that is named."""
    history = planted_history(seed, ALLOWED_PLANTS[kind])
    verdict = check(history)
    assert verdict.anomalies == ()
    named = [anomaly for anomaly in verdict.allowed if all(is_planter(history[place].process) for place in anomaly.operations)]
    assert [anomaly.kind for anomaly in named] == [kind]
