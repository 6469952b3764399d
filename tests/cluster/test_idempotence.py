"""The idempotent producer, batch by batch: what it repeats is there once, what it skips is refused, whoever leads (KIP-98)."""

from collections.abc import Iterator

import pytest

from quorumlog.testing import LocalCluster
from quorumlog.wire.errors import ErrorCode
from tests.cluster.raw import (
    RawConnection,
    address_of,
    batch,
    bugs_in,
    create,
    eventually,
    fetch,
    leader_of,
    produce,
    produce_body,
    produce_values,
    to_leader,
    values_of,
)

pytestmark = pytest.mark.process

SEQUENCE_MAX = 2**31 - 1


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 0, "shutdown_timeout_ms": 1000}) as cluster:
        yield cluster
        assert not bugs_in(cluster)


@pytest.fixture
def topic(cluster: LocalCluster, request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    create(cluster, name)
    return name


@pytest.fixture
def node(cluster: LocalCluster, topic: str) -> Iterator[RawConnection]:
    with to_leader(cluster, topic) as connection:
        yield connection


def new_producer(node: RawConnection) -> int:
    answer = node.ask("init_producer_id", 4, transactional_id=None, transaction_timeout_ms=60_000)
    assert (answer.error_code, answer.producer_epoch) == (ErrorCode.none, 0)
    return int(answer.producer_id)


class Producer:
    """One idempotent producer of one topic. `send` returns (error code, base offset)."""

    def __init__(self, topic: str, producer_id: int, epoch: int = 0) -> None:
        self.topic = topic
        self.producer_id = producer_id
        self.epoch = epoch

    def batch(self, sequence: int, *values: bytes, epoch: int | None = None) -> bytes:
        epoch = self.epoch if epoch is None else epoch
        return batch(*(values or (b"%d" % sequence,)), producer_id=self.producer_id, producer_epoch=epoch, base_sequence=sequence)

    def send(self, node: RawConnection, sequence: int, *values: bytes, epoch: int | None = None) -> tuple[ErrorCode, int]:
        answer = produce(node, self.topic, self.batch(sequence, *values, epoch=epoch))
        return ErrorCode(answer.error_code), answer.base_offset

    def send_when_led(self, cluster: LocalCluster, sequence: int, *values: bytes) -> tuple[ErrorCode, int]:
        """As a client does it, that looks for the leader again when it hears of another."""
        moved = (ErrorCode.not_leader_or_follower, ErrorCode.not_enough_replicas, ErrorCode.unknown_topic_or_partition)

        def attempt() -> tuple[ErrorCode, int] | None:
            try:
                with to_leader(cluster, self.topic) as node:
                    found = self.send(node, sequence, *values)
            except OSError:
                return None
            return None if found[0] in moved else found

        return eventually(attempt)


def stored(node: RawConnection, topic: str) -> list[tuple[int, bytes | None]]:
    return values_of(fetch(node, topic, 0).records)


def test_ids_are_given_once(cluster: LocalCluster) -> None:
    """By every node, in every version: no two producers have the same."""
    ids = []
    for one in cluster.nodes:
        with RawConnection(one.kafka) as node:
            for version in range(6):
                answer = node.ask("init_producer_id", version, transactional_id=None, transaction_timeout_ms=1)
                assert (answer.error_code, answer.producer_epoch) == (ErrorCode.none, 0)
                ids.append(answer.producer_id)
    assert len(set(ids)) == len(ids) == 18
    assert min(ids) >= 0


def test_a_repeat_is_answered_with_its_first_offset(topic: str, node: RawConnection) -> None:
    """Each of the last five batches may come again, in any order; the log does not grow."""
    producer = Producer(topic, new_producer(node))
    for sequence in range(6):
        assert producer.send(node, 2 * sequence, b"a%d" % sequence, b"b%d" % sequence) == (ErrorCode.none, 2 * sequence)
    for sequence in (1, 5, 3, 4, 2, 1):
        assert producer.send(node, 2 * sequence, b"a%d" % sequence, b"b%d" % sequence) == (ErrorCode.none, 2 * sequence)
    assert len(stored(node, topic)) == 12
    assert producer.send(node, 12) == (ErrorCode.none, 12)


def test_what_is_older_than_the_last_five_is_refused(topic: str, node: RawConnection) -> None:
    """A producer may have five requests under way, so an older repeat is none of its own."""
    producer = Producer(topic, new_producer(node))
    for sequence in range(7):
        producer.send(node, sequence)
    for sequence in (0, 1):
        code, _ = producer.send(node, sequence)
        assert code in (ErrorCode.out_of_order_sequence_number, ErrorCode.duplicate_sequence_number)
    assert len(stored(node, topic)) == 7


def test_a_gap_is_refused(topic: str, node: RawConnection) -> None:
    """A lost batch must not be passed over; when it comes after all, the rest may follow."""
    producer = Producer(topic, new_producer(node))
    assert producer.send(node, 0)[0] == ErrorCode.none
    assert producer.send(node, 2)[0] == ErrorCode.out_of_order_sequence_number
    assert producer.send(node, 1)[0] == ErrorCode.none
    assert producer.send(node, 2) == (ErrorCode.none, 2)


def test_a_part_of_a_batch_is_no_repeat(topic: str, node: RawConnection) -> None:
    """The same first sequence with fewer or more records is another batch, and out of order."""
    producer = Producer(topic, new_producer(node))
    assert producer.send(node, 0, b"a", b"b", b"c")[0] == ErrorCode.none
    for values in ((b"a",), (b"a", b"b", b"c", b"d")):
        assert producer.send(node, 0, *values)[0] == ErrorCode.out_of_order_sequence_number
    assert producer.send(node, 1, b"b", b"c")[0] == ErrorCode.out_of_order_sequence_number


def test_producers_do_not_disturb_each_other(topic: str, node: RawConnection) -> None:
    """Each has its own sequence, and who has none is not counted at all."""
    first, second = Producer(topic, new_producer(node)), Producer(topic, new_producer(node))
    for sequence in range(3):
        assert first.send(node, sequence)[0] == second.send(node, sequence)[0] == ErrorCode.none
        assert produce(node, topic, batch(b"plain")).error_code == ErrorCode.none
    assert first.send(node, 1) == (ErrorCode.none, 3)
    assert second.send(node, 1) == (ErrorCode.none, 4)
    assert len(stored(node, topic)) == 9


def test_sequences_count_per_partition(cluster: LocalCluster) -> None:
    """The same producer begins at zero in each partition."""
    create(cluster, "sequenced", partitions=3)
    with RawConnection(cluster.nodes[0].kafka) as node:
        producer = Producer("sequenced", new_producer(node))
    for partition in range(3):
        with to_leader(cluster, "sequenced", partition) as node:
            for sequence in range(2):
                answer = produce(node, "sequenced", producer.batch(sequence), partition=partition)
                assert (answer.error_code, answer.base_offset) == (ErrorCode.none, sequence)


def test_a_newer_epoch_fences_the_older(topic: str, node: RawConnection) -> None:
    """It begins at sequence zero; from then on the old epoch is refused, repeats included."""
    producer = Producer(topic, new_producer(node))
    assert producer.send(node, 0)[0] == producer.send(node, 1)[0] == ErrorCode.none
    assert producer.send(node, 2, epoch=1)[0] == ErrorCode.out_of_order_sequence_number
    assert producer.send(node, 0, epoch=1) == (ErrorCode.none, 2)
    for sequence in (1, 2):
        assert producer.send(node, sequence, epoch=0)[0] == ErrorCode.invalid_producer_epoch
    assert producer.send(node, 0, epoch=1) == (ErrorCode.none, 2)
    assert producer.send(node, 1, epoch=1) == (ErrorCode.none, 3)


def delete_the_first(node: RawConnection, topic: str) -> None:
    """From then on a producer that is not known may be one whose records are gone, and begins where it likes."""
    produce_values(node, topic, b"first")
    asked = [{"name": topic, "partitions": [{"partition_index": 0, "offset": 1}]}]
    answer = node.ask("delete_records", 2, topics=asked, timeout_ms=10_000)
    assert answer.topics[0].partitions[0].low_watermark == 1, answer


def test_a_new_producer_begins_at_zero_while_the_log_is_whole(topic: str, node: RawConnection) -> None:
    """Else the second of two requests that are under way would overtake the first at a new leader."""
    producer = Producer(topic, new_producer(node))
    assert producer.send(node, 1)[0] == ErrorCode.out_of_order_sequence_number
    assert [producer.send(node, sequence) for sequence in (0, 1)] == [(ErrorCode.none, 0), (ErrorCode.none, 1)]
    delete_the_first(node, topic)
    assert Producer(topic, new_producer(node)).send(node, 7)[0] == ErrorCode.none


def test_sequences_go_on_at_zero_after_the_last(topic: str, node: RawConnection) -> None:
    """2^31-1 is followed by 0, between batches and inside one; repeats are known on both sides."""
    delete_the_first(node, topic)
    producer = Producer(topic, new_producer(node))
    assert producer.send(node, SEQUENCE_MAX - 2, b"a", b"b") == (ErrorCode.none, 1)
    assert producer.send(node, SEQUENCE_MAX, b"c", b"d", b"e") == (ErrorCode.none, 3)
    assert producer.send(node, 2, b"f") == (ErrorCode.none, 6)
    assert producer.send(node, SEQUENCE_MAX, b"c", b"d", b"e") == (ErrorCode.none, 3)
    assert producer.send(node, SEQUENCE_MAX - 2, b"a", b"b") == (ErrorCode.none, 1)
    assert producer.send(node, 4, b"gap")[0] == ErrorCode.out_of_order_sequence_number
    assert [value for _, value in values_of(fetch(node, topic, 1).records)] == [b"a", b"b", b"c", b"d", b"e", b"f"]
    other = Producer(topic, new_producer(node))
    assert other.send(node, SEQUENCE_MAX)[0] == other.send(node, 0)[0] == ErrorCode.none


def test_half_of_an_identity_is_refused(topic: str, node: RawConnection) -> None:
    """A producer id without an epoch or a sequence is no idempotence."""
    for how in ({"producer_epoch": -1, "base_sequence": 0}, {"producer_epoch": 0, "base_sequence": -1}):
        assert produce(node, topic, batch(b"x", producer_id=5, **how)).error_code == ErrorCode.invalid_record


def test_five_under_way_on_one_connection(topic: str, node: RawConnection) -> None:
    """Pipelined, then all again, as after a lost connection: five batches, and the offsets of the first time."""
    producer = Producer(topic, new_producer(node))
    for _ in range(2):
        for sequence in range(5):
            node.send("produce", 9, **produce_body(topic, producer.batch(sequence)))
    answers = [node.receive().responses[0].partition_responses[0] for _ in range(10)]
    assert [answer.error_code for answer in answers] == [ErrorCode.none] * 10
    assert [answer.base_offset for answer in answers] == [0, 1, 2, 3, 4] * 2
    assert len(stored(node, topic)) == 5


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_next_leader_knows_what_the_last_one_knew(cluster: LocalCluster, topic: str, end: str) -> None:
    """After a fail-over a repeat is still a repeat, a gap a gap, and an old epoch fenced."""
    with to_leader(cluster, topic) as node:
        producer = Producer(topic, new_producer(node), epoch=3)
        for sequence in range(4):
            assert producer.send(node, sequence)[0] == ErrorCode.none
    old = leader_of(cluster, topic)
    getattr(cluster, end)(old)
    try:
        assert producer.send_when_led(cluster, 3) == (ErrorCode.none, 3)
        assert leader_of(cluster, topic) != old
        with to_leader(cluster, topic) as node:
            assert producer.send(node, 5)[0] == ErrorCode.out_of_order_sequence_number
            assert producer.send(node, 4, epoch=2)[0] == ErrorCode.invalid_producer_epoch
            assert producer.send(node, 4) == (ErrorCode.none, 4)
            assert len(stored(node, topic)) == 5
    finally:
        cluster.start(old)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_cluster_that_comes_back_knows_its_producers(cluster: LocalCluster, topic: str, end: str) -> None:
    """All nodes down, cleanly or not: what was acknowledged is there, its repeats are known, and ids are not given again."""
    with to_leader(cluster, topic) as node:
        producer = Producer(topic, new_producer(node), epoch=1)
        for sequence in range(3):
            assert producer.send(node, 2 * sequence, b"x%d" % sequence, b"y%d" % sequence)[0] == ErrorCode.none
    for one in cluster.nodes:
        getattr(cluster, end)(one.node_id)
    for one in cluster.nodes:
        cluster.start(one.node_id, wait=False)
    cluster.wait_ready()
    assert producer.send_when_led(cluster, 4, b"x2", b"y2") == (ErrorCode.none, 4)
    with to_leader(cluster, topic) as node:
        assert producer.send(node, 2, b"x1", b"y1") == (ErrorCode.none, 2)
        assert producer.send(node, 8, b"gap")[0] == ErrorCode.out_of_order_sequence_number
        assert producer.send(node, 0, b"old", epoch=0)[0] == ErrorCode.invalid_producer_epoch
        assert producer.send(node, 6, b"next") == (ErrorCode.none, 6)
        assert len(stored(node, topic)) == 7
        assert new_producer(node) > producer.producer_id


def test_a_restarted_replica_that_leads_again_knows_its_producers(cluster: LocalCluster, topic: str) -> None:
    """Killed, caught up from the log, then made the leader by the end of the other two."""
    with to_leader(cluster, topic) as node:
        producer = Producer(topic, new_producer(node))
        for sequence in range(3):
            assert producer.send(node, sequence)[0] == ErrorCode.none
    first = leader_of(cluster, topic)
    cluster.kill(first)
    assert producer.send_when_led(cluster, 3) == (ErrorCode.none, 3)
    cluster.start(first)
    cluster.wait_ready()
    second = leader_of(cluster, topic)
    eventually(lambda: producer.send_when_led(cluster, 3) == (ErrorCode.none, 3) and first in in_sync(cluster, topic))
    cluster.kill(second)
    try:
        assert producer.send_when_led(cluster, 2) == (ErrorCode.none, 2)
        assert producer.send_when_led(cluster, 3) == (ErrorCode.none, 3)
        assert producer.send_when_led(cluster, 4) == (ErrorCode.none, 4)
    finally:
        cluster.start(second)


def in_sync(cluster: LocalCluster, topic: str) -> list[int]:
    with RawConnection(address_of(cluster, leader_of(cluster, topic))) as node:
        return list(node.ask("metadata", 12, topics=[{"name": topic}]).topics[0].partitions[0].isr_nodes)
