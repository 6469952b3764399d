"""The journal: what a barrier made durable is there after any crash, and broken invariants are refused."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorumlog.host.ports import WriteBatch
from quorumlog.raft.errors import Fatal
from quorumlog.raft.journal import Entry, Journal, begin_journal
from tests.raft.unguarded import JournalThatRefusesNothing
from tests.sim.store import SimStore


def empty_store(seed: int = 1) -> SimStore:
    store, batch = SimStore(random.Random(seed)), WriteBatch()
    begin_journal(batch)
    store.write(batch)
    store.sync()
    return store


def entry(index: int, term: int, text: str = "x") -> Entry:
    return Entry(b"\x00" + text.encode(), index, term)


@dataclass
class Twin:
    """A journal without any cleverness."""

    log: dict[int, tuple[bytes, int]] = field(default_factory=lambda: {1: (b"\x01", 0)})
    term: int = 0
    vote: int | None = None

    def copy(self) -> "Twin":
        return Twin(dict(self.log), self.term, self.vote)


def content(journal: Journal) -> Twin:
    return Twin({e.index: (e.command, e.term) for e in journal[:]}, journal.term, journal.vote)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 5)),
        st.tuples(st.just("trim"), st.integers(0, 5)),
        st.tuples(st.just("restart"), st.integers(0, 9)),
        st.tuples(st.just("term"), st.integers(0, 2)),
        st.tuples(st.just("vote"), st.integers(1, 3)),
        st.tuples(st.just("barrier"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 1)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 1000))
def test_a_crash_leaves_what_the_last_barrier_made_durable(steps: list[tuple[str, int]], seed: int) -> None:
    """Against a dict: after a kill or a power cut exactly the state of the last barrier is loaded again."""
    store = empty_store(seed)
    journal, twin = Journal(store), Twin()
    durable = twin.copy()
    for step, value in steps:
        if step == "barrier":
            journal.barrier()
            durable = twin.copy()
        elif step == "kill":
            store.crash(power=bool(value))
            store.reopen()
            journal, twin = Journal(store), durable.copy()
        else:
            change(journal, twin, step, value)
        assert content(journal) == twin


def change(journal: Journal, twin: Twin, step: str, value: int) -> None:
    last = max(twin.log)
    match step:
        case "append":
            for index in range(last + 1, last + 1 + value):
                journal.append(entry(index, twin.term, f"{index}"))
                twin.log[index] = (b"\x00" + f"{index}".encode(), twin.term)
        case "truncate" if last - value > min(twin.log):
            journal.truncate_from(last - value)
            twin.log = {index: held for index, held in twin.log.items() if index < last - value}
        case "trim" if min(twin.log) + value <= last:
            first = min(twin.log) + value
            journal.trim_before(first)
            twin.log = {index: held for index, held in twin.log.items() if index >= first}
        case "restart":
            journal.restart_at(last + value, twin.term)
            twin.log = {last + value: (b"\x01", twin.term)}
        case "term" if value:
            twin.term, twin.vote = twin.term + value, None
            journal.set_vote(twin.term, None)
        case "vote" if twin.vote is None:
            twin.vote = value
            journal.set_vote(twin.term, value)


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_between_write_and_sync_takes_all_of_a_barrier_or_nothing(seed: int) -> None:
    """The batch is atomic: a voter never wakes up with the entries of a term that it does not know."""
    store = empty_store(seed)
    journal = Journal(store)
    journal.set_vote(3, 2)
    journal.append(entry(2, 3))
    store.fail_next("sync")
    with pytest.raises(Fatal, match="could not be written"):
        journal.barrier()
    store.crash(power=True)
    store.reopen()
    assert content(Journal(store)) in (Twin(), Twin({1: (b"\x01", 0), 2: (b"\x00x", 3)}, 3, 2))


REFUSED = [
    ("a second vote in a term", lambda journal: (journal.set_vote(2, 1), journal.set_vote(2, 3))),
    ("a term that goes back", lambda journal: (journal.set_vote(2, None), journal.set_vote(1, None))),
    ("a gap", lambda journal: journal.append(entry(3, 0))),
    (
        "an entry of an older term",
        lambda journal: (journal.set_vote(5, None), journal.append(entry(2, 5)), journal.append(entry(3, 4))),
    ),
    ("truncating what is committed", lambda journal: journal.truncate_from(1)),
    ("trimming what is not there", lambda journal: journal.trim_before(7)),
]
refused = pytest.mark.parametrize("what", [what for _, what in REFUSED], ids=[name for name, _ in REFUSED])


@refused
def test_broken_invariants_are_refused(what: object) -> None:
    """The last line of defence: what would break Raft's promises stops the process before it is durable."""
    with pytest.raises(Fatal):
        what(Journal(empty_store()))  # type: ignore[operator]


@refused
def test_refusing_is_what_stops_them(what: object) -> None:
    """With the guard out (S1) nobody stops them."""
    what(JournalThatRefusesNothing(empty_store()))  # type: ignore[operator]


def damage(store: SimStore, key: bytes, value: bytes | None) -> None:
    batch = WriteBatch()
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
    store.write(batch)


def filled_store() -> SimStore:
    store = empty_store()
    journal = Journal(store)
    journal.set_vote(1, 1)
    for index in range(2, 6):
        journal.append(entry(index, 1, "payload"))
    journal.barrier()
    return store


@given(place=st.integers(0, 18), bit=st.integers(0, 7), index=st.integers(1, 5))
def test_a_flipped_bit_in_an_entry_is_found(place: int, bit: int, index: int) -> None:
    """Every byte of an entry is under its checksum."""
    store, key = filled_store(), b"raft/entry/" + index.to_bytes(8, "big")
    value = bytearray(store.get(key) or b"")
    value[place % len(value)] ^= 1 << bit
    damage(store, key, bytes(value))
    with pytest.raises(Fatal, match=f"entry {index}"):
        Journal(store)


@given(place=st.integers(0, 19), bit=st.integers(0, 7))
def test_a_flipped_bit_in_term_or_vote_is_found(place: int, bit: int) -> None:
    """A voter that misremembers its vote could give a second one."""
    store = filled_store()
    value = bytearray(store.get(b"raft/vote") or b"")
    value[place] ^= 1 << bit
    damage(store, b"raft/vote", bytes(value))
    with pytest.raises(Fatal, match="checksum"):
        Journal(store)


@pytest.mark.parametrize("key", [b"raft/vote", b"raft/entry/" + (3).to_bytes(8, "big")], ids=["vote", "an entry within"])
def test_what_is_missing_is_noticed(key: bytes) -> None:
    """A vote that is gone is not no vote; a hole in the log is not its end."""
    store = filled_store()
    damage(store, key, None)
    with pytest.raises(Fatal):
        Journal(store)
