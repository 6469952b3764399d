"""How the quorum says no: a frame it cannot accept, storage it must not use, and the end of the process."""


class BadFrame(ValueError):
    """A peer's frame does not follow the schema or its bounds. It was dropped and changed nothing."""


class StorageRefused(ValueError):
    """The node's storage is not formatted, or was formatted for another cluster, node or set of voters."""


class Fatal(BaseException):
    """Storage failed or an invariant broke: the process must stop before it answers anyone.

    A BaseException, so that no `except Exception` on the way out can keep a node alive whose durable state is unknown.
    """
