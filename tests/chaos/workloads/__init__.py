"""Work for a cluster under faults, by real client libraries, recorded so that the checker can judge it.

    with HistoryWriter(path) as history:
        running = start(bootstrap, history=history, seed=7)
        ...                                   # faults
        running.finish(timeout_s=60)          # healed: every answer comes, every reader reads everything once more

A *kind* is a topic of its own with its producers and readers (`kinds.py`); any Kafka-compatible cluster will do. Consumer groups
(`groups.py`) read some of the topics, and are judged beside the history by what their members are told. Transactional clients
(`transactions.py`) have two topics, and move records from one to the other exactly once. Each client has a thread, and each
*process* of the history does one thing at a time, though several processes may share a client.
"""

from .groups import GROUPS
from .record import Counts
from .running import KINDS, WORKLOADS, Running, WorkloadError, start

__all__ = ["GROUPS", "KINDS", "WORKLOADS", "Counts", "Running", "WorkloadError", "start"]
