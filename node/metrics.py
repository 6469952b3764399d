"""What a node counts, offered through the OpenTelemetry SDK and read by Prometheus at /metrics.

The hot paths only raise plain integers; everything here is read when somebody asks.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY, generate_latest

from quorumlog.partitions.dedup import Dedup
from quorumlog.partitions.partition import Role

from .listener import KafkaListener
from .services import Services

Observe = Callable[[], Iterable[Observation]]


class Metrics:
    """Owned by the node's process: one per process, since Prometheus keeps one registry."""

    def __init__(self, services: Services, listener: KafkaListener, is_controller: Callable[[], bool]) -> None:
        self._services = services
        self._listener = listener
        self._is_controller = is_controller
        resource = Resource.create({"service.name": "quorumlog", "service.instance.id": str(services.config.node_id)})
        self._provider = MeterProvider(metric_readers=[PrometheusMetricReader()], resource=resource)
        self._meter = self._provider.get_meter("quorumlog")
        self._register_node()
        self._register_partitions()
        self._register_listener()

    def close(self) -> None:
        self._provider.shutdown()

    @staticmethod
    def render() -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(REGISTRY)

    def _gauge(self, name: str, doc: str, observe: Observe, unit: str = "") -> None:
        self._meter.create_observable_gauge(f"quorumlog.{name}", [_callback(observe)], unit=unit, description=doc)

    def _counter(self, name: str, doc: str, observe: Observe, unit: str = "") -> None:
        self._meter.create_observable_counter(f"quorumlog.{name}", [_callback(observe)], unit=unit, description=doc)

    def _register_node(self) -> None:
        services = self._services
        flusher = services.replicas.flusher
        self._gauge("controller.active", "1 on the active controller", lambda: [Observation(int(self._is_controller()))])
        self._gauge(
            "broker.fenced", "1 while the controller keeps this broker out", lambda: [Observation(int(services.session.fenced))]
        )
        self._gauge("metadata.index", "Last metadata log entry applied", lambda: [Observation(services.image.index)])
        self._counter("flush.rounds", "Rounds of fsync", lambda: [Observation(flusher.rounds)])
        self._counter("flush.files", "Partitions synced, all rounds together", lambda: [Observation(flusher.files_synced)])

    def _register_partitions(self) -> None:
        replicas = self._services.replicas

        def count(role: Role) -> int:
            return sum(partition.role is role for partition in replicas.by_id.values())

        def under_replicated() -> int:
            """Replicas that a reassignment is bringing are not missed."""
            image = self._services.image
            leading = (image.partition(*p.tp) for p in replicas.by_id.values() if p.role is Role.LEADER)
            return sum(len(state.isr) < len(state.original) for state in leading if state is not None)

        self._gauge("partitions", "Partitions on this node, by role", lambda: [
            Observation(count(role), {"role": role.name.lower()}) for role in Role
        ])  # fmt: skip
        self._gauge(
            "partitions.under_replicated", "Led here, with replicas out of sync", lambda: [Observation(under_replicated())]
        )
        self._gauge("partitions.damaged", "With bytes that fail their CRC", lambda: [
            Observation(sum(partition.damage is not None for partition in replicas.by_id.values()))
        ])  # fmt: skip
        compactor = replicas.compactor
        if compactor is not None:
            self._counter("compaction.passes", "Compactions that ended", lambda: [Observation(compactor.passes)])
            self._counter("compaction.failures", "Compactions that came to nothing", lambda: [Observation(compactor.failures)])
            self._counter("compaction.read", "Bytes that went in", lambda: [Observation(compactor.bytes_read)], unit="By")
            self._counter("compaction.kept", "Bytes that came out", lambda: [Observation(compactor.bytes_kept)], unit="By")
        self._register_dedup()
        for mark in ("log_end_offset", "high_watermark", "log_start_offset"):
            self._gauge(f"partition.{mark}", f"The {mark.replace('_', ' ')} of each partition", lambda mark=mark: [
                Observation(getattr(partition, mark), {"topic": partition.tp.topic, "partition": partition.tp.partition})
                for partition in replicas.by_id.values()
            ])  # type: ignore[misc]  # fmt: skip

    def _register_dedup(self) -> None:
        """Of topics that drop events which come again: one sum a topic, over the partitions of this node."""
        replicas = self._services.replicas

        def by_topic(count: Callable[[Dedup], int]) -> Iterable[Observation]:
            sums: Counter[str] = Counter()
            for partition in replicas.by_id.values():
                if partition.dedup is not None:
                    sums[partition.tp.topic] += count(partition.dedup)
            return [Observation(total, {"topic": topic}) for topic, total in sums.items()]

        self._counter(
            "dedup.dropped", "Records that had come before, dropped by leaders here", lambda: by_topic(lambda one: one.dropped)
        )
        self._gauge("dedup.ids", "Event ids that are remembered", lambda: by_topic(lambda one: len(one.ids)))
        self._counter(
            "dedup.forgotten",
            "Event ids forgotten within their window, for want of room",
            lambda: by_topic(lambda one: one.ids.forgotten_early),
        )

    def _register_listener(self) -> None:
        listener = self._listener
        self._gauge("connections", "Open client connections", lambda: [Observation(len(listener.connections))])
        self._gauge("requests.held", "Bytes of requests in memory", lambda: [Observation(listener.requests.bytes)], unit="By")
        self._gauge("answers.held", "Bytes of answers in memory", lambda: [Observation(listener.answers.bytes)], unit="By")
        self._counter("requests", "Requests, by API", lambda: [
            Observation(count, {"api": name}) for name, count in listener.dispatcher.requests.items()
        ])  # fmt: skip
        self._counter("connections.refused", "Beyond connections_max", lambda: [Observation(listener.connections_refused)])
        self._counter(
            "requests.refused", "Connections closed for what they sent", lambda: [Observation(listener.dispatcher.refused)]
        )


def _callback(observe: Observe) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: observe()
