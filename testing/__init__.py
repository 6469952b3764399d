"""A real local cluster, with faults on call, for the tests of whoever uses quorumlog.

`LocalCluster` is the cluster; the pytest fixture `quorumlog_cluster` (plugin.py) is one that lives for a test.
"""

from quorumlog.host.local_cluster import NodeStatus
from quorumlog.host.local_layout import LocalClusterError, LocalNode
from quorumlog.testing.local import LocalCluster

__all__ = ["LocalCluster", "LocalClusterError", "LocalNode", "NodeStatus"]
