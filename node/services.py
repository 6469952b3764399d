"""What a handler may use of its node."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from quorumlog.host.ports import Clock
from quorumlog.metadata.image import Image

from .cluster import ClusterView
from .config import NodeConfig
from .controller_link import ControllerClient
from .fetch_sessions import FetchSessions
from .producer_ids import ProducerIds
from .replicas import Replicas
from .session import BrokerSession
from .suspects import Suspects


@dataclass(slots=True)
class Services:
    config: NodeConfig
    clock: Clock
    cluster: ClusterView
    suspects: Suspects
    replicas: Replicas
    controller: ControllerClient
    session: BrokerSession
    producer_ids: ProducerIds
    fetch_sessions: FetchSessions
    api_versions: dict[int, tuple[int, int]] = field(default_factory=dict)
    answer_room: Callable[[], int] = lambda: sys.maxsize  # bytes that an answer may have now, so that all fit into memory

    @property
    def image(self) -> Image:
        return self.cluster.image
