"""A real local cluster, with faults on call, for the tests of whoever uses quorumlog."""
