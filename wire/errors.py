"""Kafka's error codes, and the one exception that carries them to a client.

The numbers come from kio's table, which is generated from Apache Kafka's protocol definition; nothing else in the house
decides one. `ClusterError` is for what the world does to us (a stale epoch, an unknown topic, a bad request) and becomes an
answer; any other exception is a bug of ours and is reported as one by the dispatcher.
"""

from kio.schema.errors import ErrorCode

__all__ = ["ClusterError", "ErrorCode"]


class ClusterError(Exception):
    """An answer that says no: Kafka's code, and a sentence that names the thing, what was seen and what is allowed."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"
