"""Parts and cycles of graphs, beside the simplest way to find them."""

from hypothesis import given
from hypothesis import strategies as st

from quorumlog.checker.graph import cyclic_parts, shortest_cycle

NODES = 7
Graphs = st.dictionaries(st.integers(0, NODES - 1), st.sets(st.integers(0, NODES - 1)), max_size=NODES)


def reachable(graph: dict[int, set[int]], node: int) -> set[int]:
    found: set[int] = set()
    pending = [node]
    while pending:
        new = graph.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def without_loops(graph: dict[int, set[int]]) -> dict[int, set[int]]:
    return {node: successors - {node} for node, successors in graph.items()}


@given(Graphs.map(without_loops))
def test_parts_are_what_reaches_each_other(graph: dict[int, set[int]]) -> None:
    """Two nodes are in one part if each can be reached from the other."""
    reach = {node: reachable(graph, node) for node in range(NODES)}
    expected = {tuple(other for other in range(NODES) if other in reach[node] and node in reach[other]) for node in range(NODES)}
    assert {tuple(part) for part in cyclic_parts(graph)} == {part for part in expected if len(part) > 1}


@given(Graphs.map(without_loops))
def test_a_shortest_cycle_is_one_and_none_is_shorter(graph: dict[int, set[int]]) -> None:
    """Its edges are there, no node comes twice, and no node of the part comes back to itself by fewer edges."""
    for part in cyclic_parts(graph):
        cycle = shortest_cycle(graph, part)
        assert len(set(cycle)) == len(cycle)
        assert all(after in graph[before] for before, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        for node in part:
            ring = {node}
            for _ in range(len(cycle) - 1):
                ring = set().union(*(graph.get(each, set()) for each in ring))
                assert node not in ring


def test_a_long_chain_needs_no_recursion() -> None:
    """As many nodes as no recursion would bear."""
    count = 10_000
    graph = {node: {(node + 1) % count} for node in range(count)}
    (part,) = cyclic_parts(graph)
    assert len(shortest_cycle(graph, part)) == count
