"""The topics in which coordinators keep their state: clients may read them, and nobody else writes them."""

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
INTERNAL_TOPICS = frozenset((OFFSETS_TOPIC, TRANSACTIONS_TOPIC, "__share_group_state"))


def is_internal(topic: str) -> bool:
    return topic in INTERNAL_TOPICS
