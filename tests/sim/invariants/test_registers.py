"""The judge of committed offsets is compared with a search through all orders; and what it says."""

import random
from itertools import permutations

from .registers import Register

Seen = tuple[str, int, float, float, bool]  # kind, number of the write, when it began and ended, was it answered


def _explained(operations: list[Seen]) -> bool:
    """By trying every order in which what was answered, and any of the rest, can have happened."""
    answered = [one for one in operations if one[4]]
    doubtful = [one for one in operations if not one[4]]
    for chosen in range(1 << len(doubtful)):
        some = answered + [one for place, one in enumerate(doubtful) if chosen >> place & 1]
        if any(_is_history(order) for order in permutations(some)):
            return True
    return False


def _is_history(order: tuple[Seen, ...]) -> bool:
    held = 0
    for place, (kind, number, _, end, is_answered) in enumerate(order):
        if is_answered and any(end < earlier[2] for earlier in order[:place]):
            return False
        if kind == "write":
            held = number
        elif held != number:
            return False
    return True


def _judged(operations: list[Seen]) -> bool:
    """By the register."""
    register, complaints = Register(), []
    for kind, number, begin, _, _ in operations:
        if kind == "write":
            register.write(str(number), number, begin)
    for kind, number, begin, end, is_answered in sorted(operations, key=lambda one: one[3]):
        if kind == "read":
            complaints.append(register.read(str(number or ""), number or -1, begin, end))
        elif is_answered:
            register.acknowledge(str(number), end)
    return not any(complaints) and register.judge() is None


def test_it_agrees_with_a_search_through_all_orders() -> None:
    """Over small random histories, of which both kinds come up often."""
    verdicts = []
    for seed in range(1000):
        rng = random.Random(seed)
        times = iter(rng.sample(range(100), 12))
        operations: list[Seen] = []
        for place in range(6):
            begin, end = sorted((next(times), next(times)))
            writes = [number for kind, number, *_ in operations if kind == "write"]
            if rng.random() < 0.5:
                operations.append(("write", place + 1, begin, end, rng.random() < 0.7))
            else:
                operations.append(("read", rng.choice([0, *writes]), begin, end, True))
        expected = _explained(operations)
        assert _judged(operations) == expected, (seed, operations)
        verdicts.append(expected)
    assert 200 < sum(verdicts) < 800


def test_a_forgotten_commit_is_told_at_once() -> None:
    register = Register()
    register.write("a", 5, 1.0)
    register.acknowledge("a", 2.0)
    assert register.read("", -1, 1.5, 3.0) is None
    assert "a later commit is offset 5 (a, sent at 1.000 s" in (register.read("", -1, 2.5, 3.0) or "")


def test_an_unanswered_commit_may_show_or_not() -> None:
    """Once it was seen, it stays."""
    register = Register()
    register.write("a", 5, 1.0)
    register.acknowledge("a", 2.0)
    register.write("b", 6, 3.0)
    assert register.read("a", 5, 4.0, 5.0) is None
    assert register.read("b", 6, 6.0, 7.0) is None
    assert register.judge() is None
    assert register.read("a", 5, 8.0, 9.0) is None
    assert "was there all the time" in (register.judge() or "")


def test_what_nobody_stored_is_told() -> None:
    """A token from nowhere, a refused one, another offset than was committed."""
    register = Register()
    register.write("a", 5, 1.0)
    register.refuse("a")
    register.write("b", 6, 1.0)
    assert "which nobody has stored" in (register.read("x", 5, 2.0, 3.0) or "")
    assert "which nobody has stored" in (register.read("a", 5, 2.0, 3.0) or "")
    assert "of which offset 6" in (register.read("b", 5, 2.0, 3.0) or "")
