"""The bound on what all clients together make a node hold."""

from hypothesis import given
from hypothesis import strategies as st

from quorumlog.node.budget import Budget

HOLDINGS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.booleans()), max_size=40)


@given(HOLDINGS)
def test_the_sum_and_the_order_are_those_of_a_list(holdings: list[tuple[str, int, bool]]) -> None:
    """Against a twin that keeps everything in a list: the sum is what all hold, and first comes who made no progress longest."""
    budget: Budget[str] = Budget(100)
    twin: list[tuple[str, int]] = []
    for owner, size, progress in holdings:
        budget.hold(owner, size, progress=progress)
        place = next((index for index, (name, _) in enumerate(twin) if name == owner), None)
        if place is not None and (progress or not size):
            del twin[place]
            place = None
        if place is not None:
            twin[place] = (owner, size)
        elif size:
            twin.append((owner, size))
        assert budget.bytes == sum(size for _, size in twin)
        assert budget.owners == tuple(name for name, _ in twin)
        assert budget.is_exceeded is (budget.bytes > 100)
        assert 0 <= budget.room <= max(0, 100 - budget.bytes)


def test_who_works_is_not_the_first_to_go() -> None:
    """A client whose frames come in full again and again stands behind one that has sent half a frame, however small."""
    budget: Budget[str] = Budget(100)
    budget.hold("half a frame", 3)
    for _ in range(3):
        budget.hold("busy", 90)
        budget.hold("busy", 20, progress=True)
    assert budget.owners[0] == "half a frame"
