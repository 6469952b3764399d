"""What a handler may use of its node."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from quorumlog.host.ports import Clock
from quorumlog.metadata.image import Image

from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .fetch_sessions import FetchSessions
from .first_uses import FirstUses
from .group_coordinator import GroupCoordinator
from .producer_ids import ProducerIds
from .quorum_view import QuorumView
from .replicas import Replicas
from .session import BrokerSession
from .suspects import Suspects
from .transaction_coordinator import TransactionCoordinator
from .transaction_markers import MarkerWriter
from .transaction_verifier import Verifier


@dataclass(slots=True)
class Services:
    config: NodeConfig
    clock: Clock
    cluster: ClusterView
    suspects: Suspects
    replicas: Replicas
    controller: ControllerClient
    first_uses: FirstUses
    session: BrokerSession
    quorum: QuorumView
    producer_ids: ProducerIds
    fetch_sessions: FetchSessions
    groups: GroupCoordinator
    transactions: TransactionCoordinator
    markers: MarkerWriter
    verifier: Verifier
    new_uuid: Callable[[], UUID]
    volume: Callable[[], tuple[int, int]]  # bytes in all and free, where the data are; -1 where that cannot be told
    api_versions: dict[int, tuple[int, int]] = field(default_factory=dict)
    answer_room: Callable[[], int] = lambda: sys.maxsize  # bytes that an answer may have now, so that all fit into memory

    @property
    def image(self) -> Image:
        return self.cluster.image
