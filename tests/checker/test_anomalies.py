"""Each anomaly by hand, present and absent: what the checker names, and that it names nothing else."""

import pytest

from quorumlog.checker.analysis import check
from tests.checker.given import given

CLEAN = ""

# What the case shows -> (the history in the notation of given.py, the anomalies expected, a bar before those that are allowed)
CASES = {
    # inconsistent-offsets: two values at one offset
    "two sends are told one offset": ("1 send ok x:a@0 \n 2 send ok x:b@0", "inconsistent-offsets"),
    "two readers find different values": (
        "1 send unknown x:a \n 2 send unknown x:b \n 3 poll ok x:[0a] \n 4 poll ok x:[0b]",
        "inconsistent-offsets",
    ),
    "a reader finds another value than was sent there, and so the one sent is lost": (
        "1 send ok x:a@0 \n 2 send unknown x:b \n 3 poll ok x:[0b]",
        "lost-write inconsistent-offsets",
    ),
    "what a failed transaction polled counts": (
        "1 send ok x:a@0 \n 2 send unknown x:b \n 3 txn fail x:[0b]",
        "inconsistent-offsets",
    ),
    "one offset in two keys is two places": ("1 send ok x:a@0 \n 2 send ok y:b@0", CLEAN),
    "a send of unknown outcome that nobody saw may not have been": ("1 send unknown x:a@0 y:a \n 2 send ok x:b@0", CLEAN),
    "another of its values was read, so that it was": (
        "1 send unknown x:a@0 y:c \n 2 send ok x:b@0 \n 3 poll ok y:[5c]",
        "inconsistent-offsets",
    ),
    "a failed send was told nothing true": ("1 send fail x:a@0 \n 2 send ok x:b@0", CLEAN),
    # duplicate: one value at two offsets
    "a value is read twice at different offsets": ("1 send ok x:a@0 \n 2 poll ok x:[0a,1a]", "duplicate"),
    "a value is read elsewhere than it was acknowledged": (
        "1 send ok x:a@1 \n 2 send unknown x:b \n 3 poll ok x:[2b,3a]",
        "duplicate",
    ),
    "a duplicate is no skip: readers go by offsets": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 poll ok x:[2a]",
        "duplicate",
    ),
    "a value is read by two readers at one offset": ("1 send ok x:a@0 \n 2 poll ok x:[0a] \n 3 poll ok x:[0a]", CLEAN),
    "a send without an offset is found by a poll": ("1 send ok x:a \n 2 poll ok x:[7a]", CLEAN),
    # aborted-read: an ok read of a value whose write failed
    "the value of a failed send is read": ("1 send fail x:a \n 2 poll ok x:[0a]", "aborted-read"),
    "the value of an aborted transaction is read": ("1 txn fail x:a@0 y:b@0 \n 2 poll ok y:[0b]", "aborted-read"),
    "the reader's transaction aborted too": ("1 send fail x:a \n 2 txn fail x:[0a]", CLEAN),
    "the reader's outcome is unknown": ("1 send fail x:a \n 2 poll unknown x:[0a]", CLEAN),
    "a failed send that was tried again under the same value": ("1 send fail x:a \n 1 send ok x:a@0 \n 2 poll ok x:[0a]", CLEAN),
    "a send of unknown outcome is read": ("1 send unknown x:a \n 2 poll ok x:[0a]", CLEAN),
    # torn-transaction: a value of it was read, another is not where it should be
    "of an unknown transaction half is there, and a reader who started over finds no more": (
        "1 txn unknown x:a y:b \n 2 poll ok x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        "torn-transaction",
    ),
    "half of it in one key": (
        "1 txn unknown x:a x:b@1 \n 3 send ok x:c@2 \n 2 poll ok x:[0a,2c]",
        "lost-write torn-transaction int-poll-skip",
    ),
    "half of an acknowledged one": (
        "1 txn ok x:a@0 y:b@0 \n 2 poll ok x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        "unseen torn-transaction",
    ),
    "half of it, of which the reader's outcome is unknown": (
        "1 txn unknown x:a y:b \n 2 poll unknown x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        CLEAN,
    ),
    "nobody has looked for the other half": ("1 txn unknown x:a y:b \n 2 poll ok x:[0a]", CLEAN),
    "somebody looked for it before anything was there": (
        "2 assign ok y \n 1 txn unknown x:a y:b \n 2 poll ok y:[] \n 2 poll ok x:[0a]",
        CLEAN,
    ),
    "somebody looked for it before the first half was read": (
        "1 txn unknown x:a y:b @0..1 \n 3 assign ok y @2..3 \n 3 poll ok y:[] @4..5 \n 2 poll ok x:[0a] @2..6",
        CLEAN,
    ),
    "an unknown one of which nothing is there": (
        "1 txn unknown x:a y:b \n 2 assign ok x y \n 2 poll ok x:[] y:[]",
        CLEAN,
    ),
    "of an aborted one half is there": (
        "1 txn fail x:a y:b \n 2 poll ok x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        "aborted-read",
    ),
    "sends of one operation are no transaction": (
        "1 send unknown x:a y:b \n 2 poll ok x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        CLEAN,
    ),
    "the other half was sent again by another, and lost": (
        "1 txn unknown x:a y:b \n 3 txn ok y:b@0 \n 2 poll ok x:[0a] \n 2 assign ok y \n 2 poll ok y:[]",
        "unseen",
    ),
    # intermediate-read: read before the commit was asked for
    "a value is read before its transaction is asked to commit": (
        "1 txn ok x:a@0 @0..9 !8 \n 2 poll ok x:[0a] @6..7",
        "intermediate-read",
    ),
    "a value is read before a commit of which the end is unknown": (
        "1 txn unknown x:a@0 @0.. !8 \n 2 poll ok x:[0a] @6..7",
        "intermediate-read",
    ),
    "a value is read while the commit is under way": ("1 txn ok x:a@0 @0..9 !8 \n 2 poll ok x:[0a] @6..8", CLEAN),
    "nobody wrote down when the commit was asked for": ("1 txn ok x:a@0 @0..9 \n 2 poll ok x:[0a] @6..7", CLEAN),
    "it was read early, by one who aborted": ("1 txn ok x:a@0 @0..9 !8 \n 2 txn fail x:[0a] @6..7", CLEAN),
    # precommitted-read: an operation polls its own send
    "a transaction polls what it sent": ("1 txn ok x:a@0 x:[0a]", "precommitted-read"),
    "a transaction polls what it sent, then aborts": ("1 txn fail x:a@0 x:[0a]", "precommitted-read"),
    "a transaction polls what the one before it sent": ("1 txn ok x:a@0 \n 1 txn ok x:[0a] x:b@1", CLEAN),
    "a transaction polls the same value in another key": ("1 txn ok x:a@0 y:[0a] \n 2 send ok y:a@0", CLEAN),
    # lost-write: committed, last index at most the largest first index read, and never read
    "a value before one that was read is read by nobody": ("1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[1b,2c]", "lost-write"),
    "the value is read by another reader": ("1 send ok x:a@0 x:b@1 \n 2 poll ok x:[1b] \n 3 poll ok x:[0a]", CLEAN),
    "nobody has read so far yet": ("1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a]", CLEAN),
    "only a failed transaction has read so far": ("1 send ok x:a@0 x:b@1 \n 2 txn fail x:[1b]", CLEAN),
    "the lost send had no known outcome": ("1 send unknown x:a@0 \n 1 send ok x:b@1 \n 2 poll ok x:[1b]", CLEAN),
    "the lost send had no known outcome, but another value of it was read": (
        "1 txn unknown x:a@0 y:c \n 1 send ok x:b@1 \n 2 poll ok x:[1b] y:[0c]",
        "lost-write torn-transaction",
    ),
    "the lost send failed": ("1 send fail x:a@0 \n 1 send ok x:b@1 \n 2 poll ok x:[1b]", CLEAN),
    "a duplicate far behind is no proof that readers came so far": (
        "1 send ok x:a@0 x:b@1 \n 3 poll ok x:[0a] \n 4 poll ok x:[9a]",
        "duplicate",
    ),
    "a duplicate of which the last copy lies behind the bound need not have been read": (
        "1 send ok x:a@0 x:b@1 \n 1 send ok x:a@5 \n 3 poll ok x:[1b]",
        "duplicate",
    ),
    # unseen: acknowledged, never polled, though a reader started over and read to the known end
    "the last value is not found by a reader who starts over": (
        "1 send ok x:a@0 x:b@1 \n 2 assign ok x \n 2 poll ok x:[0a]",
        "unseen",
    ),
    "nothing is found in a key at all": ("1 send ok x:a@0 \n 2 assign ok x \n 2 poll ok x:[] \n 2 poll ok", "unseen"),
    "a value in the middle is lost and unseen": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 assign ok x \n 2 poll ok x:[0a] \n 3 assign ok x \n 3 poll ok x:[0a,2c]",
        "lost-write unseen int-poll-skip",
    ),
    "it starts over by seeking": (
        "2 assign ok x \n 1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 seek ok x \n 2 poll ok x:[0a]",
        "unseen",
    ),
    "it starts over by subscribing to the topic": (
        "1 send ok x-0:a@0 x-0:b@1 \n 2 subscribe ok x \n 2 poll ok x-0:[0a]",
        "unseen",
    ),
    "it never assigns, but polls from the beginning until nothing comes": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 poll ok x:[]",
        "unseen",
    ),
    "it never assigns, and may have meant to read on": ("1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a]", CLEAN),
    "it started over before the acknowledgment": (
        "2 assign ok x \n 1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 poll ok x:[]",
        CLEAN,
    ),
    "it started over, but did not come as far as others": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 3 poll ok x:[0a,1b] \n 2 assign ok x \n 2 poll ok x:[0a]",
        CLEAN,
    ),
    "it started in the middle": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 3 poll ok x:[0a,1b] \n 2 assign ok x \n 2 poll ok x:[1b] \n 2 poll ok x:[]",
        CLEAN,
    ),
    "it was given the key, but never polled": ("1 send ok x:a@0 \n 2 assign ok x", CLEAN),
    "its polls had no known outcome": ("1 send ok x:a@0 \n 2 assign ok x \n 2 poll unknown \n 2 poll fail", CLEAN),
    "its empty poll came after it had left the key": (
        "1 send ok x:a@0 \n 2 assign ok x \n 2 assign ok y \n 2 poll ok y:[] \n 2 poll ok",
        CLEAN,
    ),
    "it was read before, by another": (
        "1 send ok x:a@0 x:b@1 \n 3 poll ok x:[0a,1b] \n 2 assign ok x \n 2 poll ok x:[0a] \n 2 poll ok x:[]",
        CLEAN,
    ),
    "it was not acknowledged": ("1 send unknown x:a@0 \n 1 send fail x:b@1 \n 2 assign ok x \n 2 poll ok x:[]", CLEAN),
    # int-poll-skip and int-nonmonotonic-poll: steps within one operation
    "a poll jumps over a known record": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,2c] \n 3 poll ok x:[1b]",
        "int-poll-skip",
    ),
    "two polls of one transaction jump over a known record": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 txn ok x:[0a] x:[2c] \n 3 poll ok x:[1b]",
        "int-poll-skip",
    ),
    "a poll jumps over offsets at which nobody knows a record": ("1 send ok x:a@0 x:c@9 \n 2 poll ok x:[0a,9c]", CLEAN),
    "a poll jumps over a send of unknown outcome": (
        "1 send ok x:a@0 x:c@2 \n 3 send unknown x:b@1 \n 2 poll ok x:[0a,2c]",
        CLEAN,
    ),
    "the key was rebalanced meanwhile": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,2c] ~x \n 3 poll ok x:[1b] \n 3 poll ok x:[2c,1b] ~x",
        CLEAN,
    ),
    "another key was rebalanced meanwhile": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,2c] ~y \n 3 poll ok x:[1b]",
        "int-poll-skip",
    ),
    "a poll goes backwards": ("1 send ok x:a@0 x:b@1 \n 2 poll ok x:[1b,0a]", "int-nonmonotonic-poll"),
    "a poll returns a record twice": ("1 send ok x:a@0 \n 2 poll ok x:[0a,0a]", "int-nonmonotonic-poll"),
    "two polls of a transaction return a record twice": ("1 send ok x:a@0 \n 2 txn ok x:[0a] x:[0a]", "int-nonmonotonic-poll"),
    "keys go forward each by itself": ("1 send ok x:a@5 y:b@0 x:c@6 \n 2 txn ok x:[5a] y:[0b] x:[6c]", CLEAN),
    # poll-skip and nonmonotonic-poll: steps between operations
    "the next poll jumps over a known record": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a] \n 2 poll ok x:[2c] \n 3 poll ok x:[1b]",
        "poll-skip",
    ),
    "the next poll goes backwards": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 poll ok x:[0a,1b]",
        "nonmonotonic-poll",
    ),
    "the next poll returns the same record": ("1 send ok x:a@0 \n 2 poll ok x:[0a] \n 2 poll ok x:[0a]", "nonmonotonic-poll"),
    "another process reads the same": ("1 send ok x:a@0 \n 2 poll ok x:[0a] \n 3 poll ok x:[0a]", CLEAN),
    "polls between bring nothing": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 poll ok \n 2 poll ok x:[] \n 2 poll ok x:[1b]",
        CLEAN,
    ),
    "a skip under subscribe": (
        "1 send ok x-0:a@0 x-0:b@1 x-0:c@2 \n 2 subscribe ok x \n 2 poll ok x-0:[0a] \n 2 poll ok x-0:[2c] \n 3 poll ok x-0:[1b]",
        "| poll-skip",
    ),
    "a step back under subscribe": (
        "1 send ok x-0:a@0 \n 2 subscribe ok x \n 2 poll ok x-0:[0a] \n 2 poll ok x-0:[0a]",
        "| nonmonotonic-poll",
    ),
    "a step back within one operation under subscribe": (
        "1 send ok x-0:a@0 \n 2 subscribe ok x \n 2 poll ok x-0:[0a,0a]",
        "int-nonmonotonic-poll",
    ),
    "assign after subscribe": (
        "1 send ok x-0:a@0 \n 2 subscribe ok x \n 2 assign ok x-0 \n 2 poll ok x-0:[0a] \n 2 poll ok x-0:[0a]",
        "nonmonotonic-poll",
    ),
    "assign to other keys and back": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 assign ok y \n 2 assign ok x y \n 2 poll ok x:[1b]",
        CLEAN,
    ),
    "assign keeps the key and the place": (
        "1 send ok x:a@0 x:b@1 x:c@2 x:d@3 \n 2 poll ok x:[0a,1b,2c] \n 2 assign ok x y \n 2 poll ok x:[1b,2c,3d]",
        "nonmonotonic-poll",
    ),
    "assign keeps the key, and it goes on": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 assign ok x y \n 2 poll ok x:[1b]",
        CLEAN,
    ),
    "assign keeps the key, and it starts over": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 assign ok x \n 2 poll ok x:[0a,1b]",
        CLEAN,
    ),
    "assign keeps the key, and it starts over with a poll of unknown outcome": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,1b,2c] \n 2 assign ok x \n 2 poll unknown x:[0a] \n 2 poll ok x:[1b]",
        CLEAN,
    ),
    "assign keeps the key, and a poll of unknown outcome may have started over": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,1b,2c] \n 2 assign ok x \n 2 poll unknown \n 2 poll ok x:[1b,2c]",
        CLEAN,
    ),
    "assign failed": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 assign fail x \n 2 poll ok x:[0a,1b]",
        "nonmonotonic-poll",
    ),
    "assign has no known outcome": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a,1b] \n 2 assign unknown y \n 2 poll ok x:[1b]",
        CLEAN,
    ),
    "seek to somewhere": ("1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a,1b,2c] \n 2 seek ok x \n 2 poll ok x:[1b,2c]", CLEAN),
    "seek in another key": ("1 send ok x:a@0 \n 2 poll ok x:[0a] \n 2 seek ok y \n 2 poll ok x:[0a]", "nonmonotonic-poll"),
    "rebalanced between": ("1 send ok x:a@0 \n 2 poll ok x:[0a] \n 2 poll ok x:[0a] ~x", CLEAN),
    "a failed transaction is read again": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 txn fail x:[1b] \n 2 txn ok x:[1b]",
        CLEAN,
    ),
    "a failed transaction is not read again": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a] \n 2 txn fail x:[1b] \n 2 txn ok x:[2c] \n 3 poll ok x:[1b]",
        CLEAN,
    ),
    "behind a failed transaction there is a skip": (
        "1 send ok x:a@0 x:b@1 x:c@2 x:d@3 \n 2 poll ok x:[0a] \n 2 txn fail x:[1b] \n 2 txn ok x:[3d] \n 3 poll ok x:[1b,2c]",
        "poll-skip",
    ),
    "before a failed transaction there is a step back": (
        "1 send ok x:a@0 x:b@1 \n 2 poll ok x:[0a] \n 2 txn fail x:[1b] \n 2 txn ok x:[0a]",
        "nonmonotonic-poll",
    ),
    "an unknown poll that came back with nothing may have passed anything": (
        "1 send ok x:a@0 x:b@1 x:c@2 \n 2 poll ok x:[0a] \n 2 poll unknown \n 2 poll ok x:[2c] \n 3 poll ok x:[1b]",
        CLEAN,
    ),
    "but it cannot have gone back": (
        "1 send ok x:a@0 \n 2 poll ok x:[0a] \n 2 poll unknown \n 2 poll ok x:[0a]",
        "nonmonotonic-poll",
    ),
    # int-nonmonotonic-send, nonmonotonic-send, int-send-skip
    "an operation's second send lies first": ("1 send ok x:a@3 x:b@1", "int-nonmonotonic-send"),
    "a reader shows that the second send lies first": (
        "1 send unknown x:b x:a \n 2 poll ok x:[0a,1b]",
        "int-nonmonotonic-send",
    ),
    "sends of an operation to two keys": ("1 send ok x:a@3 y:b@1", CLEAN),
    "sends of a failed operation": ("1 send fail x:a@3 x:b@1", CLEAN),
    "a process's next send lies before": ("1 send ok x:b@3 \n 1 send ok x:a@1", "nonmonotonic-send"),
    "the next send, of unknown outcome, lies before": (
        "1 send ok x:b@1 \n 1 send unknown x:a \n 2 poll ok x:[0a,1b]",
        "nonmonotonic-send",
    ),
    "a send of unknown outcome comes late": ("1 send unknown x:a \n 1 send ok x:b@0 \n 2 poll ok x:[0b,1a]", CLEAN),
    "sends of one process that overlap": ("1 send ok x:b@3 @0..5 \n 1 send ok x:a@1 @2..4", CLEAN),
    "the file has a later operation first": ("1 send ok x:b@3 @7..8 \n 1 send ok x:a@1 @2..4", CLEAN),
    "sends of two processes": ("1 send ok x:b@3 \n 2 send ok x:a@1", CLEAN),
    "others send between": ("1 send ok x:a@0 x:c@2 \n 2 send ok x:b@1", "| int-send-skip"),
    "a send of unknown offset may lie between": ("1 send ok x:a@0 x:b x:c@2 \n 2 send ok x:d@1", CLEAN),
    # G0 and G1c
    "two operations send to two keys in different order": (
        "1 send ok x:a@0 y:b@1 \n 2 send ok x:c@1 y:d@0",
        "| G0",
    ),
    "two operations send to two keys in one order": ("1 send ok x:a@0 y:b@0 \n 2 send ok x:c@1 y:d@1", CLEAN),
    "three operations in a circle of writes": (
        "1 send ok x:a@0 z:b@1 \n 2 send ok x:c@1 y:d@0 \n 3 send ok y:e@1 z:f@0",
        "| G0",
    ),
    "two transactions read each other": ("1 txn ok x:a@0 y:[0b] \n 2 txn ok y:b@0 x:[0a]", "G1c"),
    "one transaction reads the other": ("1 txn ok x:a@0 y:[] \n 2 txn ok y:b@0 x:[0a]", CLEAN),
    "one of two that read each other failed": ("1 txn fail x:a@0 y:[0b] \n 2 txn ok y:b@0 x:[]", CLEAN),
    "one of two that read each other has no known outcome: its reads prove nothing": (
        "1 txn unknown x:a@0 y:[0b] \n 2 txn ok y:b@0 x:[0a]",
        CLEAN,
    ),
    "three transactions read each other in a circle": (
        "1 txn ok x:a@0 z:[0c] \n 2 txn ok y:b@0 x:[0a] \n 3 txn ok z:c@0 y:[0b]",
        "G1c",
    ),
    "a transaction reads one who sends before it": ("1 txn ok x:a@0 y:c@2 \n 2 txn ok x:[0a] y:b@1", "| G1c"),
    "the circle leads over a single send between": (
        "1 txn ok x:a@0 y:c@2 \n 2 txn ok x:[0a] y:b@0 \n 3 send ok y:d@1",
        "| G1c",
    ),
    "the circle leads over a single send that was read": (
        "1 txn ok x:a@0 z:[0d] \n 3 send ok x:b@1 \n 2 txn ok x:[1b] z:d@0 \n 4 poll ok x:[0a]",
        "| G1c",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_names_what_is_there_and_nothing_else(name: str) -> None:
    """A hand-made history has the anomalies expected of it, each once for each time it occurs."""
    text, expected = CASES[name]
    verdict = check(given(text))
    anomalies, _, allowed = expected.partition("|")
    assert [anomaly.kind for anomaly in verdict.anomalies] == anomalies.split(), verdict
    assert [anomaly.kind for anomaly in verdict.allowed] == allowed.split(), verdict
    assert verdict.is_clean == (not anomalies.split())
