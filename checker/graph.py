"""Directed graphs of operations: their strongly connected parts, and a shortest cycle in one."""

from collections import deque
from collections.abc import Iterable, Mapping

Graph = Mapping[int, Iterable[int]]

STARTS_MAX = 20
SHORTEST = 2  # nodes: nothing comes before itself


def cyclic_parts(graph: Graph) -> list[list[int]]:
    """The strongly connected components of more than one node, each sorted. (Tarjan 1972, without recursion.)"""
    order: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    parts: list[list[int]] = []
    for root in graph:
        if root in order:
            continue
        path = [(root, iter(graph.get(root, ())))]
        order[root] = lowest[root] = len(order)
        stack.append(root)
        on_stack.add(root)
        while path:
            node, successors = path[-1]
            for successor in successors:
                if successor not in order:
                    order[successor] = lowest[successor] = len(order)
                    stack.append(successor)
                    on_stack.add(successor)
                    path.append((successor, iter(graph.get(successor, ()))))
                    break
                if successor in on_stack:
                    lowest[node] = min(lowest[node], order[successor])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == order[node]:
                    part = _unwind(stack, node)
                    on_stack.difference_update(part)
                    if len(part) > 1:
                        parts.append(sorted(part))
    return sorted(parts)


def _unwind(stack: list[int], node: int) -> list[int]:
    part = [stack.pop()]
    while part[-1] != node:
        part.append(stack.pop())
    return part


def shortest_cycle(graph: Graph, part: list[int]) -> list[int]:
    """A cycle in a strongly connected part, as short as any through its first nodes; the node where it begins is not repeated."""
    inside = set(part)
    best: list[int] = []
    for start in part[:STARTS_MAX]:
        path = shortest_path(graph, inside, start, start)
        assert path is not None, start  # the part is strongly connected
        if not best or len(path) - 1 < len(best):
            best = path[:-1]
        if len(best) == SHORTEST:
            break
    return best


def shortest_path(graph: Graph, inside: set[int], begin: int, end: int) -> list[int] | None:
    """The nodes from `begin` to `end` by the fewest edges, at least one, within `inside`."""
    came_from: dict[int, int] = {}
    queue = deque([begin])
    while queue:
        node = queue.popleft()
        for successor in graph.get(node, ()):
            if successor not in inside or successor in came_from:
                continue
            came_from[successor] = node
            if successor == end:
                return _way_back(came_from, begin, end)
            queue.append(successor)
    return None


def _way_back(came_from: Mapping[int, int], begin: int, end: int) -> list[int]:
    path = [end]
    while path[-1] != begin or len(path) == 1:
        path.append(came_from[path[-1]])
    return path[::-1]
