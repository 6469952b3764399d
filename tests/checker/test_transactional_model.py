"""Random histories with transactions under way at once are clean; what the cluster does to one transaction is named."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.checker.analysis import check
from quorumlog.checker.history import Operation, Outcome, Poll
from tests.checker.model import clean_history, jumbled, planted_history, without_optional
from tests.checker.transactional_model import TRANSACTIONAL_PLANTS, WRITERS, TransactionalCluster

SEEDS = st.integers(min_value=0, max_value=2**32)


def transactional_history(seed: int, steps: int = 120) -> list[Operation]:
    return clean_history(seed, steps, make=TransactionalCluster)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_what_correct_transactions_show_is_clean(seed: int) -> None:
    """Open beside each other, decided, marked key after key, aborted, of unknown outcome, reading what others wrote."""
    verdict = check(transactional_history(seed))
    assert verdict.anomalies == ()
    assert verdict.notes == ()


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_it_is_clean_in_any_order_of_lines_and_without_offsets_of_sends(seed: int) -> None:
    history = transactional_history(seed)
    assert check(jumbled(history, Random(seed))).anomalies == ()
    assert check(without_optional(history)).anomalies == ()


def test_the_model_shows_what_it_is_for() -> None:
    """Of each outcome, over several keys, with reads in them, and some of the unknown ones there."""
    operations = [operation for seed in range(20) for operation in transactional_history(seed)]
    own = [operation for operation in operations if operation.process in WRITERS]
    assert {operation.outcome for operation in own} == set(Outcome)
    assert any(len({step.key for step in operation.steps}) > 1 for operation in own)
    assert any(isinstance(step, Poll) and step.records for operation in own for step in operation.steps)
    read = {value for one in operations for step in one.steps if isinstance(step, Poll) for _, value in step.records}
    unknown = [one for one in own if one.outcome is Outcome.UNKNOWN]
    there = [any(not isinstance(step, Poll) and step.value in read for step in one.steps) for one in unknown]
    assert True in there and False in there


@pytest.mark.parametrize("name", TRANSACTIONAL_PLANTS)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_what_is_done_to_one_transaction_is_named_and_nothing_else(name: str, seed: int) -> None:
    """Also where clients are told no offsets of what they send."""
    kind, plant = TRANSACTIONAL_PLANTS[name]
    history = planted_history(seed, plant, make=TransactionalCluster)
    for told in (history, without_optional(history)):
        kinds = {anomaly.kind for anomaly in check(told).anomalies}
        assert {kind} | plant.implies <= kinds <= {kind} | plant.implies | plant.may_imply
