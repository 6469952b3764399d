"""Transactions: what is committed is read, what is aborted is not, and of two with one id the second one goes on."""

import base64
from collections.abc import Sequence

from tests.clients.driver import wire_record
from tests.clients.scenarios import Scenario
from tests.clients.stage import Stage, eventually
from tests.cluster.libraries import Message, Refused

FENCED = (47, 90)  # INVALID_PRODUCER_EPOCH, PRODUCER_FENCED: which one depends on the version and on the request
PARTITIONS = 2


class Transactor:
    """A transactional producer of the client."""

    def __init__(self, at: Stage, name: str, topic: str, transactional_id: str) -> None:
        self._at, self._name, self._topic = at, at.name(name), topic
        at.client.call("transactor", transactor=self._name, transactional_id=transactional_id)

    def transact(self, texts: Sequence[str], end: str | None, offset: tuple[str, str, int, int] | None = None) -> None:
        """Each text into each partition."""
        records = [wire_record(Message(text.encode(), partition=number)) for number in range(PARTITIONS) for text in texts]
        self._at.client.call("transact", transactor=self._name, topic=self._topic, records=records, offset=offset, end=end)


def committed(at: Stage, topic: str, partition: int, count: int) -> list[str]:
    found = at.client.call("read_committed", topic=topic, partition=partition, count=count)
    return [base64.b64decode(text).decode() for text in found]


def ended(at: Stage) -> None:
    """Four in turn, over two partitions: every second one is aborted. Who reads everything sees both kinds."""
    topic = at.topic(PARTITIONS, retention_ms="-1")
    producer = Transactor(at, "p", topic, at.name("id"))
    for number in range(4):
        producer.transact([f"{number}a", f"{number}b"], "abort" if number % 2 else "commit")
    for partition in range(PARTITIONS):
        assert committed(at, topic, partition, 4) == ["0a", "0b", "2a", "2b"]
    assert at.reference().ends(topic, 0)[1] >= 8


def offsets(at: Stage) -> None:
    """A group's offset goes with its transaction, or not at all."""
    topic, group = at.topic(PARTITIONS, retention_ms="-1"), at.name("g")
    producer = Transactor(at, "p", topic, at.name("id"))
    producer.transact(["a"], "commit", (group, topic, 0, 7))
    eventually(lambda: at.group_ends(group, topic).get(0, (-1, ""))[0] == 7, "the offset is committed")
    producer.transact(["b"], "abort", (group, topic, 0, 9))
    producer.transact(["c"], "commit", (group, topic, 1, 5))
    eventually(lambda: at.group_ends(group, topic).get(1, (-1, ""))[0] == 5, "the last offset is committed")
    assert at.group_ends(group, topic)[0][0] == 7, "an aborted transaction has moved the group"
    assert committed(at, topic, 0, 2) == ["a", "c"]


def fenced(at: Stage) -> None:
    """The second instance ends what the first had open; the first is told."""
    topic, name = at.topic(PARTITIONS, retention_ms="-1"), at.name("id")
    first = Transactor(at, "first", topic, name)
    first.transact(["first"], None)
    second = Transactor(at, "second", topic, name)
    second.transact(["second"], "commit")
    try:
        first.transact([], "commit")
    except Refused as error:
        assert error.code in FENCED, f"code {error.code} where Kafka says {FENCED}: {error}"
    else:
        raise AssertionError("the first instance could commit after the second had begun")
    second.transact(["third"], "commit")
    assert committed(at, topic, 0, 2) == ["second", "third"]


SCENARIOS = [
    Scenario("transactions", "committed and aborted", ended),
    Scenario("transactions", "offsets of a group in a transaction", offsets),
    Scenario("transactions", "the second instance shuts out the first", fenced),
]
