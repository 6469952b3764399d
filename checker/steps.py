"""Steps between records that were read or sent one after the other: over 1 is a skip, under 1 goes backwards."""

from quorumlog.checker.log import PartitionLog

SHOWN_MAX = 3


def describe_skip(log: PartitionLog, index: int, other: int) -> str:
    """The records strictly between two indexes, for a message: "2 records ('b' at 2, 'c' at 3)"."""
    skipped = [f"{log.at[offset]!r} at {offset}" for offset in log.offsets[index + 1 : min(other, index + 1 + SHOWN_MAX)]]
    count = other - index - 1
    more = ", ..." if count > SHOWN_MAX else ""
    return f"{count} record{'s' * (count > 1)} ({', '.join(skipped)}{more})"


def skipped_values(log: PartitionLog, index: int, other: int) -> tuple[str, ...]:
    """The first few of the values strictly between two indexes."""
    return tuple(log.at[offset] for offset in log.offsets[index + 1 : min(other, index + 1 + SHOWN_MAX)])
