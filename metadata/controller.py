"""The active controller's mind: requests and time go in, decisions come out. No I/O, no clock, no chance of its own.

    decide(request) -> Draft(image) -> brokers | topics | configs | isr | elections | reassignment -> Decision(records, reply)

A controller lives while its node leads the quorum. It decides on a speculative image, which holds all that it decided itself and
which may not be committed yet; where a commit is in doubt it is dropped, and a new one starts from the committed image.
"""

from collections.abc import Callable
from typing import assert_never
from uuid import UUID

from . import brokers, configs, elections, isr, reassignment, topics
from .draft import ControllerConfig, Decision, Draft
from .image import Image
from .requests import (
    AllocateProducerIds,
    AlterConfigs,
    AlterIsr,
    AlterReassignments,
    BrokerHeartbeat,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    Done,
    ElectLeaders,
    RegisterBroker,
    Reply,
    ReportDamage,
    Request,
    UnregisterBroker,
)
from .sessions import Sessions

__all__ = ["Controller", "ControllerConfig", "Decision"]

NEVER = float("inf")


class Controller:
    """`now` is in seconds and never falls. Every unfenced broker begins with a full session timeout."""

    def __init__(self, image: Image, *, now: float, config: ControllerConfig, new_uuid: Callable[[], UUID]) -> None:
        self.image = image
        self._config = config
        self._new_uuid = new_uuid
        self._sessions = Sessions(
            (node for node, broker in image.brokers.items() if not broker.fenced), now, config.session_timeout_s
        )
        self._sweep_at = now  # look once through all partitions for leaders that the last controller may have left unelected
        self._rebalance_at = now + config.leader_rebalance_interval_s if config.leader_rebalance_interval_s else NEVER

    def decide(self, request: Request, now: float) -> Decision:
        """Answer a request. Raises ClusterError where it is refused as a whole; nothing has changed then."""
        self._sessions.wake(now)
        draft = Draft(self.image, self._config)
        reply = self._answer(draft, request, now)
        return self._take(draft, reply)

    def on_process_gone(self, node_id: int, now: float) -> Decision:
        """The broker's connection dropped and its port refuses another: the process is dead, fence it without waiting."""
        self._sessions.wake(now)
        draft = Draft(self.image, self._config)
        brokers.fence(draft, self._sessions, node_id)
        return self._take(draft, Done())

    def tick(self, now: float) -> Decision:
        """What time alone decides; call at `next_deadline`."""
        self._sessions.wake(now)
        draft = Draft(self.image, self._config)
        for node_id in self._sessions.expired(now):
            brokers.fence(draft, self._sessions, node_id)
        if now >= self._sweep_at:
            self._sweep_at = NEVER
            elections.elect_missing(draft)
        if now >= self._rebalance_at:
            more = elections.move_to_preferred(draft, self._config.leader_moves_max)
            self._rebalance_at = now + (self._config.leader_moves_pause_s if more else self._config.leader_rebalance_interval_s)
        return self._take(draft, Done())

    def next_deadline(self) -> float:
        """When `tick` has something to do, unless a request comes first."""
        return min(self._sessions.next_deadline(), self._sweep_at, self._rebalance_at)

    def _take(self, draft: Draft, reply: Reply) -> Decision:
        self.image = draft.image
        return Decision(tuple(draft.records), reply)

    def _answer(self, draft: Draft, request: Request, now: float) -> Reply:
        match request:
            case RegisterBroker():
                return brokers.register(draft, self._sessions, request, now)
            case BrokerHeartbeat():
                return brokers.heartbeat(draft, self._sessions, request, now)
            case UnregisterBroker():
                return brokers.unregister(draft, self._sessions, request)
            case AllocateProducerIds():
                return brokers.allocate_producer_ids(draft, request)
            case CreateTopics():
                return topics.create_topics(draft, request, self._new_uuid)
            case DeleteTopics():
                return topics.delete_topics(draft, request)
            case CreatePartitions():
                return topics.create_partitions(draft, request)
            case AlterConfigs():
                return configs.alter_configs(draft, request)
            case AlterIsr():
                return isr.alter_isr(draft, request)
            case ReportDamage():
                return isr.report_damage(draft, request)
            case ElectLeaders():
                return elections.elect_leaders(draft, request)
            case AlterReassignments():
                return reassignment.alter_reassignments(draft, request)
            case _:
                assert_never(request)
