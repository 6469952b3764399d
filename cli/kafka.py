"""The Kafka clients of the commands: quiet, with errors in one line, and patient with a cluster that has only just started."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_fixed, wait_random_exponential

REQUEST_TIMEOUT_S = 10.0
RETRY_S = 15.0  # longer than a fail-over and the election of a controller take
UNHEARD_OF_S = 1.0
# librdkafka would print its own lines about lost connections (level 3) beside the one that we print.
QUIET = {"log_level": 2}
# Not "retriable" in librdkafka's list, but over once the cluster has a controller and its brokers are registered.
FRESH_CLUSTER_CODES = {KafkaError.NOT_CONTROLLER, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.LEADER_NOT_AVAILABLE}
UNREACHABLE_CODES = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE}

Result = TypeVar("Result")


def admin_client(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "client.id": "quorumlog-cli", **QUIET})


def producer(bootstrap_servers: str, settings: Mapping[str, Any]) -> Producer:
    return Producer({"bootstrap.servers": bootstrap_servers, "client.id": "quorumlog-cli", **QUIET, **settings})


def consumer(bootstrap_servers: str, settings: Mapping[str, Any]) -> Consumer:
    """A consumer for `assign`: it joins no group and commits nothing (librdkafka wants a group id all the same)."""
    unused = {"group.id": "quorumlog-cli", "enable.auto.commit": False, "enable.auto.offset.store": False}
    return Consumer({"bootstrap.servers": bootstrap_servers, "client.id": "quorumlog-cli", **QUIET, **unused, **settings})


def is_passing(error: BaseException) -> bool:
    """True for errors of a cluster that is starting or failing over."""
    if not isinstance(error, KafkaException):
        return False
    reason = error.args[0]
    return isinstance(reason, KafkaError) and (reason.retriable() or reason.code() in FRESH_CLUSTER_CODES)


def patiently(request: Callable[[], Result], timeout_s: float = RETRY_S) -> Result:
    """The result of a request, tried again while its error may pass. Raises the last KafkaException."""
    retrying = Retrying(
        retry=retry_if_exception(is_passing),
        stop=stop_after_delay(timeout_s),
        wait=wait_random_exponential(multiplier=0.1, max=1),
        reraise=True,
    )
    return retrying(request)


def metadata(client: AdminClient | Producer | Consumer) -> Any:
    """confluent_kafka's ClusterMetadata: the brokers and all topics. (Asking for one topic by name could create it.)"""
    return patiently(lambda: client.list_topics(timeout=REQUEST_TIMEOUT_S))


def topic_metadata(client: AdminClient | Producer | Consumer, topic: str) -> Any:
    """confluent_kafka's TopicMetadata. Raises ClickException if there is no such topic.

    Any broker may answer, and one may not have heard yet of what another one has just created: it is asked again for a second.
    """
    found = _look_again(client, topic, lambda found: found is None, UNHEARD_OF_S)
    if found is None:
        raise click.ClickException(f"there is no topic {topic!r}")
    return found


def watermarks(consumer: Consumer, partition: TopicPartition) -> tuple[int, int]:
    """The first offset of a partition and the one after its last. Raises KafkaException."""

    def ask() -> tuple[int, int]:
        found = consumer.get_watermark_offsets(partition, timeout=REQUEST_TIMEOUT_S)
        if found is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return found[0], found[1]

    return patiently(ask)


def wait_for_leaders(client: AdminClient, topic: str, timeout_s: float = RETRY_S) -> Any:
    """The TopicMetadata of a topic as soon as it is known and each partition has a leader. Raises ClickException."""

    def lacks_leaders(found: Any) -> bool:
        return found is None or any(one.leader < 0 for one in found.partitions.values())

    found = _look_again(client, topic, lacks_leaders, timeout_s)
    if found is None:
        raise click.ClickException(f"topic {topic!r} has partitions without a leader after {timeout_s:g} s")
    return found


def _look_again(client: AdminClient | Producer | Consumer, topic: str, is_early: Callable[[Any], bool], timeout_s: float) -> Any:
    """The TopicMetadata of a topic (None: unknown) as soon as it is not too early for it; None if it still is at the end."""
    retrying = Retrying(
        retry=retry_if_result(is_early),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(0.05),
        retry_error_callback=lambda _state: None,
    )
    return retrying(lambda: metadata(client).topics.get(topic))


@contextlib.contextmanager
def errors_in_one_line(bootstrap_servers: str) -> Iterator[None]:
    """Within, a KafkaException becomes a ClickException: one line on stderr, exit status 1."""
    try:
        yield
    except KafkaException as error:
        raise failure(error.args[0], bootstrap_servers) from error


def failure(reason: object, bootstrap_servers: str) -> click.ClickException:
    """A client's error as one line for the operator."""
    if isinstance(reason, KafkaError) and reason.code() in UNREACHABLE_CODES:
        return click.ClickException(f"no node answers at {bootstrap_servers}")
    text = reason.str() if isinstance(reason, KafkaError) else str(reason)
    name = f" ({reason.name()})" if isinstance(reason, KafkaError) else ""
    return click.ClickException(f"{text}{name}")
