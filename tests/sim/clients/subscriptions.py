"""What members of classic groups tell each other through the coordinator, to which it is only bytes: subscriptions and
assignments of Kafka's consumers, and how a leader shares out partitions.
"""

import struct
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple

Key = tuple[str, int]
VERSION = 2  # owned partitions since 1, their generation since 2


class Subscription(NamedTuple):
    topics: tuple[str, ...]
    owned: tuple[Key, ...]
    generation: int  # in which they were assigned


def encode_subscription(subscription: Subscription) -> bytes:
    """int16 version | topics | ?bytes user data | owned | int32 generation"""
    topics = struct.pack(">i", len(subscription.topics)) + b"".join(map(_text, subscription.topics))
    no_user_data = struct.pack(">i", -1)
    owned = _encode_keys(subscription.owned)
    return struct.pack(">h", VERSION) + topics + no_user_data + owned + struct.pack(">i", subscription.generation)


def decode_subscription(data: bytes) -> Subscription:
    (version, count), position = struct.unpack_from(">hi", data), 6
    assert version == VERSION, version
    topics = []
    for _ in range(count):
        topic, position = _read_text(data, position)
        topics.append(topic)
    owned, position = _decode_keys(data, position + 4)
    (generation,) = struct.unpack_from(">i", data, position)
    return Subscription(tuple(topics), owned, generation)


def encode_assignment(keys: Iterable[Key]) -> bytes:
    """int16 version | partitions | ?bytes user data"""
    return struct.pack(">h", VERSION) + _encode_keys(keys) + struct.pack(">i", -1)


def decode_assignment(data: bytes) -> tuple[Key, ...]:
    """No bytes at all is an empty assignment."""
    return _decode_keys(data, 2)[0] if data else ()


def _encode_keys(keys: Iterable[Key]) -> bytes:
    by_topic = [(topic, [key[1] for key in ones]) for topic, ones in groupby(sorted(keys), key=lambda key: key[0])]
    parts = [_text(topic) + struct.pack(f">{len(numbers) + 1}i", len(numbers), *numbers) for topic, numbers in by_topic]
    return struct.pack(">i", len(by_topic)) + b"".join(parts)


def _decode_keys(data: bytes, position: int) -> tuple[tuple[Key, ...], int]:
    (count,) = struct.unpack_from(">i", data, position)
    position += 4
    keys: list[Key] = []
    for _ in range(count):
        topic, position = _read_text(data, position)
        (size,) = struct.unpack_from(">i", data, position)
        numbers = struct.unpack_from(f">{size}i", data, position + 4)
        position += 4 + 4 * size
        keys += [(topic, number) for number in numbers]
    return tuple(keys), position


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _read_text(data: bytes, position: int) -> tuple[str, int]:
    (size,) = struct.unpack_from(">h", data, position)
    return data[position + 2 : position + 2 + size].decode(), position + 2 + size


# --- sharing out


def share_in_turn(members: Iterable[str], partitions: Iterable[Key]) -> dict[str, list[Key]]:
    """As dealing cards: for members that have given up everything."""
    names = sorted(members)
    shares: dict[str, list[Key]] = {name: [] for name in names}
    for place, key in enumerate(sorted(partitions)):
        shares[names[place % len(names)]].append(key)
    return shares


def share_keeping(claims: Mapping[str, Subscription], partitions: Iterable[Key]) -> dict[str, list[Key]]:
    """Cooperatively: everybody keeps what it has up to a fair share. What has to change hands is given to nobody this time: its
    owner gives it up when it hears so, and everybody joins again.
    """
    shares: dict[str, list[Key]] = {name: [] for name in sorted(claims)}
    everything = sorted(partitions)
    owner = _owners(claims, everything)
    most = -(-len(everything) // len(shares))
    for key, name in owner.items():
        if len(shares[name]) < most:
            shares[name].append(key)
    for key in everything:
        if key not in owner:
            min(shares.values(), key=len).append(key)
    return shares


def _owners(claims: Mapping[str, Subscription], partitions: list[Key]) -> dict[Key, str]:
    """Who claims it by the latest generation."""
    owner: dict[Key, str] = {}
    for name in sorted(claims, key=lambda name: (claims[name].generation, name)):
        owner.update(dict.fromkeys(claims[name].owned, name))
    return {key: owner[key] for key in partitions if key in owner}
