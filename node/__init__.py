"""Assembles one node from a config and a host: listeners, handlers, replication, the quorum's thread."""
