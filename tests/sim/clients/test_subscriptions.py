"""What members of classic groups tell each other, and how they share out."""

from .subscriptions import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
    share_in_turn,
    share_keeping,
)

KEYS = [("a", 0), ("a", 1), ("b", 0)]


def test_subscriptions_and_assignments_are_kafkas_bytes() -> None:
    """Of version 2, by the schemas ConsumerProtocolSubscription and ConsumerProtocolAssignment."""
    subscription = Subscription(("a", "b"), (("a", 1),), 7)
    data = encode_subscription(subscription)
    assert data.hex() == "000200000002000161000162ffffffff000000010001610000000100000001" + "00000007"
    assert decode_subscription(data) == subscription
    data = encode_assignment(KEYS)
    assert data.hex() == "000200000002000161000000020000000000000001000162" + "0000000100000000ffffffff"
    assert decode_assignment(data) == tuple(KEYS)
    assert decode_assignment(b"") == ()


def test_partitions_are_dealt_in_turn() -> None:
    assert share_in_turn(["y", "x"], KEYS) == {"x": [("a", 0), ("b", 0)], "y": [("a", 1)]}


def test_what_changes_hands_is_nobodys_in_between() -> None:
    """First the owner has to hear that it lost it; an old claim is none."""
    claims = {
        "x": Subscription(("a", "b"), tuple(KEYS), 4),
        "y": Subscription(("a", "b"), (("a", 0),), 3),
        "z": Subscription(("a", "b"), (), -1),
    }
    shares = share_keeping(claims, KEYS)
    assert shares == {"x": [("a", 0)], "y": [], "z": []}
    claims["x"] = Subscription(("a", "b"), (("a", 0),), 5)
    assert share_keeping(claims, KEYS) == {"x": [("a", 0)], "y": [("a", 1)], "z": [("b", 0)]}
