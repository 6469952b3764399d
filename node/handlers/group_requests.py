"""What the handlers of group APIs share: a call as a shard's request, an answer as a body, and the bodies of refusals."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from quorumlog.coordinators.results import Request, Waiter
from quorumlog.wire.errors import ClusterError, ErrorCode

from ..dispatch import Body, Call
from ..group_coordinator_replies import Answer, Outcome
from .authorized_operations import GROUP_OPERATIONS, NOT_ASKED

Refused = Callable[[ClusterError], Body]


def request_of(call: Call, waiter: Waiter, message: Any = None) -> Request:
    """`message` is the part about one group, where the call names many."""
    return Request(
        waiter=waiter,
        version=call.version,
        message=call.message if message is None else message,
        client_id=call.client_id or "",
        client_host=f"/{call.client_host}",  # as Java writes an address, and Kafka a member's host
    )


def answered(answer: Answer, refused: Refused) -> Body | Awaitable[Body]:
    """The body, at once where nothing has to be waited for."""
    return _body(answer.result(), refused) if answer.done() else _answered_later(answer, refused)


async def _answered_later(answer: Answer, refused: Refused) -> Body:
    return _body(await answer, refused)


def _body(outcome: Outcome, refused: Refused) -> Body:
    return refused(outcome) if isinstance(outcome, ClusterError) else outcome


async def all_answered(answers: Sequence[Answer], refused: Iterable[Refused]) -> list[Body]:
    return [_body(await answer, one) for answer, one in zip(answers, refused, strict=True)]


def error_body(error: ClusterError) -> Body:
    """Of an API whose answer says no more than the code."""
    return {"error_code": error.code}


def refused_group(group_id: str) -> Refused:
    """Of an API that names many groups."""
    return lambda error: {"group_id": group_id, "error_code": error.code, "error_message": error.message}


def check_group_id(group_id: str) -> None:
    """Raises INVALID_GROUP_ID where Kafka takes no empty one."""
    if not group_id:
        raise ClusterError(ErrorCode.invalid_group_id, "the group id is empty")


def with_operations(call: Call, groups: list[Body]) -> list[Body]:
    """What the client may do with each, if it asked: everything, for nobody is told who it is."""
    operations = GROUP_OPERATIONS if call.message.include_authorized_operations else NOT_ASKED
    return [group if group.get("error_code") else {**group, "authorized_operations": operations} for group in groups]
