"""Who waits for a shard: requests whose reply a later operation decides, and replies that wait for what they saw to be committed.

    asked -> waiting -> held back, up to an offset -> answered

An outcome is the body of an answer, or the error that stands for it. It is a result either way: nobody may look at it any more
when it comes, and an exception that nobody looks at is reported as a bug.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from itertools import count

from quorumlog.coordinators.results import Body, Waiter
from quorumlog.wire.errors import ClusterError, ErrorCode

NEVER = float("inf")
WAITING_MAX = 50_000
Outcome = Body | ClusterError
Answer = asyncio.Future[Outcome]


@dataclass(frozen=True, slots=True)
class Held:
    end_offset: int
    deadline: float
    answer: Answer
    outcome: Outcome


class Replies:
    """Owned by one led partition, for as long as its shard lives."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._ids = count(1)
        self._waiting: dict[Waiter, Answer] = {}
        self._held: deque[Held] = deque()  # in the order of their offsets, and so of their deadlines

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self) -> tuple[Waiter, Answer]:
        """Somebody asks. Raises COORDINATOR_NOT_AVAILABLE if too many do."""
        if len(self._waiting) >= WAITING_MAX:
            raise ClusterError(ErrorCode.coordinator_not_available, f"{WAITING_MAX} requests wait for this coordinator")
        waiter, answer = next(self._ids), asyncio.get_running_loop().create_future()
        self._waiting[waiter] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(waiter, None))
        return waiter, answer

    def hold(self, waiter: Waiter, outcome: Outcome, *, end_offset: int, high_watermark: int, now: float) -> None:
        """Answer once everything below `end_offset` is committed; nothing happens if the asker has gone."""
        answer = self._waiting.get(waiter)
        if answer is None or answer.done():
            return
        if end_offset <= high_watermark:
            answer.set_result(outcome)
        else:
            self._held.append(Held(end_offset, now + self._timeout_s, answer, outcome))

    def release(self, high_watermark: int) -> None:
        while self._held and self._held[0].end_offset <= high_watermark:
            held = self._held.popleft()
            _settle(held.answer, held.outcome)

    def next_deadline(self) -> float:
        return self._held[0].deadline if self._held else NEVER

    def expire(self, now: float, error: ClusterError) -> None:
        """What is not committed by now may yet be, or never."""
        while self._held and self._held[0].deadline <= now:
            _settle(self._held.popleft().answer, error)

    def fail(self, error: ClusterError) -> None:
        """The shard is gone, and with it whatever was to be answered."""
        self._held.clear()
        for answer in list(self._waiting.values()):
            _settle(answer, error)


def _settle(answer: Answer, outcome: Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)
