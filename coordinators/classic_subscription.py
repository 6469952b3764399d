"""What a member of the "consumer" protocol type says it reads: the beginning of its metadata, alike in all versions.

int16 version | int32 topics of: int16 length and UTF-8 | ...what later versions add, and who assigns partitions reads
"""

from quorumlog.wire.cursor import Cursor, DecodeError

CONSUMER_PROTOCOL_TYPE = "consumer"


def subscribed_topics(metadata: bytes) -> frozenset[str] | None:
    """None if these bytes are no subscription: they are the members' affair, and we only look on."""
    cursor = Cursor(metadata, items_max=len(metadata))
    try:
        if cursor.int16("version") < 0:
            return None
        count = cursor.count(flexible=False, item_bytes_min=2, name="topics")
        return frozenset(cursor.required_text(flexible=False, name="topic") for _ in range(count))
    except DecodeError:
        return None
