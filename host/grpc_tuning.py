"""Which of its two pollers gRPC uses, decided before it is imported."""

import os

# With its event engine, every message that arrives passes through a thread more: two wake-ups of threads instead of one, which
# is most of what a small message costs. A quiet cluster took a seventh less processor time for each record without it.
_EXPERIMENTS = "-event_engine_client,-event_engine_listener"


def tune_grpc() -> None:
    """Call before the first import of grpc; later it has no effect. What the environment says goes first."""
    os.environ.setdefault("GRPC_EXPERIMENTS", _EXPERIMENTS)
