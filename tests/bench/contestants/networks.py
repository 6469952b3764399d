"""Whether this machine lets us give every node a network of its own."""

from tests.chaos.network import Network, NetworkError


def offered() -> bool:
    try:
        Network((1,)).close()
    except (NetworkError, OSError):
        return False
    return True
