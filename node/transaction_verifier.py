"""Asks coordinators, for the leaders on this node, whether a producer's transaction has their partition (KIP-890).

    produce of a transaction's first batch -> Verifier.ask -> (gRPC) TransactionCoordinator -> the batch is appended, or refused

What comes for the same partition while the question is under way waits for the same answer, so batches keep their order.
Questions that come in one turn of the loop go together.
"""

import asyncio
from collections.abc import Sequence

from quorumlog.coordinators.transaction_state import Producer
from quorumlog.host.ports import PeerGone, Peers, StorageError
from quorumlog.metadata.image import NO_LEADER
from quorumlog.metadata.internal_topics import TRANSACTIONS_TOPIC
from quorumlog.partitions.verification import Guard
from quorumlog.wire.cursor import DecodeError
from quorumlog.wire.errors import ClusterError, ErrorCode
from quorumlog.wire.ids import TopicPartition

from .cluster import ClusterView
from .coordinator import partition_of
from .tasks import OnFatal, Tasks
from .transaction_coordinator import TransactionCoordinator
from .transaction_messages import Question, decode_codes, decode_question, encode_codes, encode_question

METHOD = "transactions"
CALL_TIMEOUT_S = 5.0
BUSY_PAUSE_S, BUSY_TRIES = 0.005, 20  # while the last transaction of the producer is being completed (KIP-890: 100 ms)

Asker = tuple[str, Producer, bool]  # of a Question
Place = tuple[TopicPartition, Guard]
Verdict = asyncio.Future[ErrorCode]


class Verifier:
    """Owned by the node. What waits is bounded by the requests in work."""

    def __init__(
        self,
        node_id: int,
        coordinator: TransactionCoordinator,
        cluster: ClusterView,
        peers: Peers,
        tasks: Tasks,
        on_fatal: OnFatal,
    ) -> None:
        self.on_fatal = on_fatal
        self._node_id = node_id
        self._coordinator = coordinator
        self._cluster = cluster
        self._peers = peers
        self._tasks = tasks
        self._waiting: dict[Asker, dict[Place, list[Verdict]]] = {}
        self._under_way: dict[tuple[Asker, Place], list[Verdict]] = {}
        peers.serve_call(METHOD, self._on_call)

    def ask(self, tp: TopicPartition, guard: Guard, transactional_id: str, producer: Producer, *, is_adding: bool) -> Verdict:
        """The code with which a batch that has this guard is refused, or none."""
        verdict: Verdict = asyncio.get_running_loop().create_future()
        asker, place = (transactional_id, producer, is_adding), (tp, guard)
        if (asker, place) in self._under_way:
            self._under_way[asker, place].append(verdict)
            return verdict
        if asker not in self._waiting:
            self._waiting[asker] = {}
            self._tasks.spawn(self._resolve(asker), f"verify {transactional_id}")
        self._waiting[asker].setdefault(place, []).append(verdict)
        return verdict

    async def _resolve(self, asker: Asker) -> None:
        places = self._waiting.pop(asker)
        self._under_way |= {(asker, place): verdicts for place, verdicts in places.items()}
        codes = [ErrorCode.coordinator_not_available] * len(places)
        try:
            codes = await self._codes(Question(*asker, tuple(tp for tp, _ in places)))
        finally:
            for place, code in zip(places, codes, strict=True):
                for verdict in self._under_way.pop((asker, place)):
                    if not verdict.done():
                        verdict.set_result(code)

    async def _codes(self, question: Question) -> list[ErrorCode]:
        for _ in range(BUSY_TRIES):
            codes = await self._codes_now(question)
            if not question.is_adding or ErrorCode.concurrent_transactions not in codes:
                break
            await asyncio.sleep(BUSY_PAUSE_S)
        return codes

    async def _codes_now(self, question: Question) -> list[ErrorCode]:
        image = self._cluster.image
        index = partition_of(question.transactional_id, image, TRANSACTIONS_TOPIC)
        state = None if index is None else image.partition(TRANSACTIONS_TOPIC, index)
        if state is None or state.leader == NO_LEADER:
            return [ErrorCode.coordinator_not_available] * len(question.partitions)
        if state.leader == self._node_id:
            return await self._answer(question)
        try:
            answer = await self._peers.call(state.leader, METHOD, encode_question(question), CALL_TIMEOUT_S)
            return decode_codes(answer, len(question.partitions))
        except PeerGone:
            return [ErrorCode.network_exception] * len(question.partitions)

    async def _answer(self, question: Question) -> list[ErrorCode]:
        """As the coordinator."""
        outcome = await self._coordinator.add_partitions(
            question.transactional_id, question.producer, question.partitions, only_verify=not question.is_adding
        )
        if isinstance(outcome, ClusterError):
            return [outcome.code] * len(question.partitions)
        codes = outcome.get("codes", {})
        return [codes.get(tp, ErrorCode.none) for tp in question.partitions]

    async def _on_call(self, _source: int, request: bytes) -> bytes:
        question = decode_question(request)
        try:
            return encode_codes(await self._answer(question))
        except StorageError as error:
            self.on_fatal(error)
            raise


def refusal(code: ErrorCode, tp: TopicPartition, *, knows_abortable: bool, knows_concurrent: bool) -> ClusterError | None:
    """The answer to a producer whose first batch was not vouched for, as its version understands it; None if it was."""
    if code is ErrorCode.none:
        return None
    told = code
    if code is ErrorCode.transaction_abortable and not knows_abortable:
        told = ErrorCode.invalid_txn_state
    elif code is ErrorCode.producer_fenced:
        told = ErrorCode.invalid_producer_epoch
    elif code in _PASSING and not (knows_concurrent and code is ErrorCode.concurrent_transactions):
        told = ErrorCode.not_enough_replicas  # which every producer tries again after, without asking who leads (as Kafka does)
    return ClusterError(told, f"{tp}: its transaction's coordinator does not vouch for the batch: {code.name}")


_PASSING: Sequence[ErrorCode] = (
    ErrorCode.concurrent_transactions,
    ErrorCode.network_exception,
    ErrorCode.coordinator_load_in_progress,
    ErrorCode.coordinator_not_available,
    ErrorCode.not_coordinator,
)

__all__ = ["DecodeError", "Verifier", "refusal"]
