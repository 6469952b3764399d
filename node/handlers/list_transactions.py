# ListTransactions, v0 to v2
# v1: by duration (KIP-994)    v2: by a pattern of the transactional id (KIP-1152)
"""Lists the transactions whose coordinator this broker is, whether they are under way or not (KIP-664)."""

from typing import Any

import re2

from quorumlog.coordinators.results import Reply, Result, Waiter
from quorumlog.coordinators.transaction_shard import TransactionShard
from quorumlog.coordinators.transaction_state import Transaction, TransactionState
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Api, Body, Call
from ..services import Services
from .group_requests import error_body

STATES = {state.title for state in TransactionState}
PATTERN_MEMORY_BYTES_MAX = 256 * 1024


async def handle_list_transactions(services: Services, call: Call) -> Body:
    message = call.message
    try:
        pattern = _compiled(message.transactional_id_pattern)
        outcomes = [await led.ask(_list, logs=False) for led in services.transactions.served()]
    except ClusterError as error:
        return error_body(error)
    found: list[tuple[str, Transaction]] = []
    for outcome in outcomes:
        if not isinstance(outcome, ClusterError):
            found += outcome["known"]
        elif outcome.code is not ErrorCode.not_coordinator:  # it has moved: the other broker lists it
            return error_body(outcome)
    wall_ms = services.clock.wall_ms()
    return {
        "error_code": ErrorCode.none,
        "unknown_state_filters": [name for name in message.state_filters if name not in STATES],
        "transaction_states": [
            {"transactional_id": name, "producer_id": one.producer_id, "transaction_state": one.state.title}
            for name, one in found
            if _is_wanted(message, one, wall_ms) and (pattern is None or pattern.fullmatch(name))
        ],
    }


def _list(shard: TransactionShard, waiter: Waiter) -> Result:
    return Result((), (Reply(waiter, {"known": shard.known()}),))


def _is_wanted(message: Any, transaction: Transaction, wall_ms: int) -> bool:
    states, producer_ids, longer_ms = message.state_filters, message.producer_id_filters, message.duration_filter
    if states and transaction.state.title not in states:
        return False
    if producer_ids and transaction.producer_id not in producer_ids:
        return False
    return bool(longer_ms < 0 or wall_ms - transaction.start_ms > longer_ms)


def _compiled(pattern: str | None) -> Any:
    """Raises INVALID_REGULAR_EXPRESSION. RE2 takes time in proportion to the text, whatever the pattern."""
    if not pattern:
        return None
    options = re2.Options()
    options.max_mem, options.log_errors = PATTERN_MEMORY_BYTES_MAX, False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ClusterError(
            ErrorCode.invalid_regular_expression, f"{pattern[:100]!r} is no regular expression: {error}"
        ) from error


API = Api(key=66, versions=range(3), handle=handle_list_transactions)
