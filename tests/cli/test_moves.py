"""What the commands for moving partitions read from their arguments, and make of what the cluster says."""

import click
import pytest

from quorumlog.cli.moves import _share, rate, spread, topic_partitions


def test_a_topic_or_some_of_its_partitions() -> None:
    """Numbers come sorted, each once."""
    assert topic_partitions("orders") == ("orders", ())
    assert topic_partitions("orders:3,0,3") == ("orders", (0, 3))


@pytest.mark.parametrize("text", ["", ":1", "orders:", "orders:x", "orders:-1", "orders:1,,2"])
def test_what_names_no_partitions_is_wrong_usage(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(click.BadParameter, match="TOPIC or TOPIC:PARTITION"):
        topic_partitions(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500000", 500_000), ("1B/s", 1), ("10MB/s", 10_000_000), ("4 MiB", 4 << 20), ("2kb/S", 2_000), ("1GiB/s", 1 << 30)],
)
def test_a_rate_has_a_unit_or_is_in_bytes(text: str, expected: int) -> None:
    """Decimal and binary units, in any case."""
    assert rate(text) == expected


@pytest.mark.parametrize("text", ["", "0", "fast", "10MB/h", "-1MB/s", "1.5MB/s", "MB/s", "10 MB s"])
def test_what_is_no_rate_is_wrong_usage(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(click.BadParameter, match="is no rate"):
        rate(text)


def test_leadership_is_spread_over_several_partitions() -> None:
    """One partition is placed exactly as told."""
    assert spread([4, 2, 1], [5]) == {5: [4, 2, 1]}
    assert spread([4, 2, 1], [0, 1, 2, 3]) == {0: [4, 2, 1], 1: [2, 1, 4], 2: [1, 4, 2], 3: [4, 2, 1]}


def test_the_share_of_what_is_copied() -> None:
    """Over all new replicas, against the largest old one; nothing is known of an empty partition."""
    sizes = {("a", 0, 1): 100, ("a", 0, 2): 90, ("a", 0, 4): 50, ("a", 0, 5): 0, ("b", 0, 9): 1000}
    assert _share(sizes, ("a", 0), [4, 5]) == 0.25
    assert _share(sizes, ("a", 0), [7]) == 0.0
    assert _share(sizes, ("c", 0), [1]) == _share(sizes, ("a", 0), []) == 0.0
