"""Transactions that are about to begin on a partition: the leader asks their coordinator before the first batch (KIP-890).

    begin -> (the coordinator is asked) -> the batch comes with the guard it got -> appended, forgotten

A guard is good until the producer's next marker here: an answer that was given for a transaction which has ended since opens no
other one. The lowest sequence that asked is kept, so that of several requests under way a later one cannot be the first to be
stored. For as long as a leader leads it also knows which decision ended each producer's last transaction: the same marker,
delayed on its way and sent again meanwhile, ends no later one. The next leader asks anew, and takes no marker that was meant for
the last one.
"""

from dataclasses import dataclass

from quorumlog.wire.errors import ClusterError, ErrorCode

VERIFYING_MAX = 10_000  # producers at once; the one that asked first goes


class Guard:
    """Stands for one question to the coordinator. Told apart by identity."""

    __slots__ = ()


@dataclass(slots=True)
class Verifying:
    guard: Guard
    epoch: int
    lowest_sequence: int


class Verifications:
    """Owned by a partition."""

    def __init__(self) -> None:
        self._verifying: dict[int, Verifying] = {}  # by producer id
        self._ended: dict[int, int] = {}  # by producer id, the number of the decision that ended its last transaction

    def begin(self, producer_id: int, epoch: int, sequence: int) -> Guard:
        """The guard with which the batch has to come back."""
        known = self._verifying.get(producer_id)
        if known is not None and known.epoch == epoch:
            known.lowest_sequence = min(known.lowest_sequence, sequence)
            return known.guard
        self._verifying.pop(producer_id, None)
        verifying = self._verifying[producer_id] = Verifying(Guard(), epoch, sequence)
        if len(self._verifying) > VERIFYING_MAX:
            del self._verifying[next(iter(self._verifying))]
        return verifying.guard

    def check(self, producer_id: int, epoch: int, sequence: int, guard: Guard | None) -> None:
        """Raises INVALID_TXN_STATE for a batch that nobody vouches for, OUT_OF_ORDER_SEQUENCE_NUMBER for one that overtook."""
        verifying = self._verifying.get(producer_id)
        if verifying is None or verifying.guard is not guard or verifying.epoch != epoch:
            raise ClusterError(
                ErrorCode.invalid_txn_state,
                f"a transactional batch of producer {producer_id}, epoch {epoch}, is part of no ongoing transaction",
            )
        if sequence > verifying.lowest_sequence:
            raise ClusterError(
                ErrorCode.out_of_order_sequence_number,
                f"producer {producer_id} sent sequence {sequence}, and {verifying.lowest_sequence} was here before it",
            )

    def forget(self, producer_id: int) -> None:
        """Its transaction has begun, or ended."""
        self._verifying.pop(producer_id, None)

    def is_ended(self, producer_id: int, decision: int) -> bool:
        """Has this decision of a coordinator, or a later one, been carried out here? Numbers rise; those below 0 are none."""
        return 0 <= decision <= self._ended.get(producer_id, -1)

    def note_ended(self, producer_id: int, decision: int) -> None:
        if decision >= 0:
            self._ended.pop(producer_id, None)
            self._ended[producer_id] = decision
            if len(self._ended) > VERIFYING_MAX:
                del self._ended[next(iter(self._ended))]

    def clear(self) -> None:
        self._verifying.clear()
        self._ended.clear()
