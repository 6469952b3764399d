"""What is sent goes where every client puts it, and each key has one process."""

import functools
import gzip
import itertools
import random
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner

from .pieces import NO_KEY_GIVEN, REAL_EVENTS, keyed, partition_of, share_of, unkeyed

PARTITIONS = 7


@pytest.fixture
def no_real_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REAL_EVENTS, raising=False)


def test_keys_go_where_clients_put_them() -> None:
    """Before an answer, or without one, the history must name the partition."""
    everywhere = list(range(PARTITIONS))
    for key in (b"key-%d" % number for number in range(200)):
        assert partition_of(key, PARTITIONS) == DefaultPartitioner()(key, everywhere, everywhere)


def is_of_share(share: int, key: bytes) -> bool:
    return share_of(key, 4) == share


@pytest.mark.usefixtures("no_real_events")
def test_each_key_has_one_process() -> None:
    """And each process has keys in more than one partition."""
    keys: list[set[bytes]] = []
    for share in range(4):
        sent = list(itertools.islice(keyed(PARTITIONS, functools.partial(is_of_share, share)), 300))
        assert len({piece.partition for piece in sent}) > 1
        keys.append({piece.key or b"" for piece in sent})
    assert len(set[bytes]().union(*keys)) == sum(len(some) for some in keys)


def test_real_order_lines_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines, one of them without a customer, again and again."""
    with gzip.open(tmp_path / "lines.csv.gz", "wt") as file:
        file.write("CustomerID,Quantity\n17850,6\n,2\n")
    monkeypatch.setenv(REAL_EVENTS, str(tmp_path / "lines.csv.gz"))
    sent = list(itertools.islice(keyed(PARTITIONS, lambda key: True), 5))
    assert [piece.key for piece in sent] == [b"17850", NO_KEY_GIVEN, b"17850", NO_KEY_GIVEN, b"17850"]
    assert sent[0].body == b'{"CustomerID": "17850", "Quantity": "6"}'


def test_the_seed_draws_what_is_sent() -> None:
    """The same again with the same seed; only to the partitions that were named."""
    first, again, other = (list(itertools.islice(unkeyed(random.Random(seed), [2, 5]), 50)) for seed in (1, 1, 2))
    assert first == again != other
    assert {piece.partition for piece in first} == {2, 5}
