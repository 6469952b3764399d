"""What a client may do with a thing, as bits: everything that Kafka knows for it, for there is no authorizer (KIP-430)."""

from enum import IntEnum

NOT_ASKED = -(2**31)


class Operation(IntEnum):
    """With Kafka's numbers."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


def _bits(*operations: Operation) -> int:
    return sum(1 << operation for operation in operations)


_EVERYWHERE = (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS)
_OF_GROUPS = (*_EVERYWHERE, Operation.READ, Operation.DELETE)
GROUP_OPERATIONS = _bits(*_OF_GROUPS)
TOPIC_OPERATIONS = _bits(*_OF_GROUPS, Operation.WRITE, Operation.CREATE, Operation.ALTER)
CLUSTER_OPERATIONS = _bits(*_EVERYWHERE, Operation.CREATE, Operation.CLUSTER_ACTION, Operation.IDEMPOTENT_WRITE, Operation.ALTER)
