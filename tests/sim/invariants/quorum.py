"""What Raft promises of the metadata log."""

from quorumlog.raft.journal import Entry, Journal

from .model import Model
from .sight import Invariant, Life, News
from .voters import VoterStand, VoterTrack


class OneLeaderATerm(Invariant):
    """In a term one process of one voter leads, and no other ever does."""

    name = "one-raft-leader-a-term"

    def __init__(self, model: Model) -> None:
        self._leaders: dict[int, Life] = {}

    def look(self, news: News) -> None:
        for life, voter in news.voters:
            stand = voter.stand
            if stand is not None and stand.is_leader:
                first = self._leaders.setdefault(stand.term, life)
                if first != life:
                    raise self.broken(f"{life} leads in term {stand.term}, and so did {first}")


class CommittedEntriesStay(Invariant):
    """An entry once committed anywhere is the same everywhere, for ever; who comes to lead has all of them; what a process has
    committed and applied never falls.
    """

    name = "committed-entries-stay"

    def __init__(self, model: Model) -> None:
        self._entries: dict[int, Entry] = {}
        self._compared: dict[int, tuple[Life, int]] = {}  # by node: up to which index, in which process
        self._last = 0
        self._newest_term = 0

    def look(self, news: News) -> None:
        for life, voter in news.voters:
            assert voter.stand is not None
            self._check_rising(life, voter.before, voter.stand)
            self._compare(life, voter.journal, voter.stand)
            self._check_leader(life, voter)

    def _check_rising(self, life: Life, before: VoterStand | None, stand: VoterStand) -> None:
        if stand.applied_index > stand.commit_index:
            raise self.broken(f"{life} has applied up to {stand.applied_index}, committed up to {stand.commit_index}")
        if before is not None and (stand.commit_index < before.commit_index or stand.applied_index < before.applied_index):
            raise self.broken(
                f"{life} went from {before.commit_index} committed, {before.applied_index} applied "
                f"back to {stand.commit_index}, {stand.applied_index}"
            )

    def _compare(self, life: Life, journal: Journal, stand: VoterStand) -> None:
        seen_life, seen = self._compared.get(life.node_id, (life, 0))
        if seen_life != life:
            seen = 0
        if stand.commit_index <= seen:
            return
        self._compared[life.node_id] = (life, stand.commit_index)
        for index in range(max(seen + 1, stand.first.index), stand.commit_index + 1):
            self._compare_entry(life, journal, index)
        self._last = max(self._last, stand.commit_index)

    def _compare_entry(self, life: Life, journal: Journal, index: int) -> None:
        entry = journal.entry(index)
        if entry is None:
            raise self.broken(f"{life} counts entry {index} as committed and does not have it")
        is_mark = index == journal.first.index  # where a snapshot begins, a mark without content stands for its last entry
        expected = self._entries.get(index)
        if expected is None:
            if not is_mark:
                self._entries[index] = entry
        elif entry.term != expected.term or not (is_mark or entry.command == expected.command):
            raise self.broken(
                f"{life} has committed entry {index} of term {entry.term}, not the one of {expected.term} that was committed"
            )

    def _check_leader(self, life: Life, voter: VoterTrack) -> None:
        stand, before = voter.stand, voter.before
        assert stand is not None
        if not stand.is_leader or stand.term < self._newest_term:
            return  # one that was replaced already may be elected late, by votes that were long under way
        if before is not None and before.is_leader and before.term == stand.term:
            return
        self._newest_term = stand.term
        expected = self._entries.get(self._last)
        if self._last < stand.first.index or expected is None:
            return
        held = voter.journal.entry(self._last)
        if held is None or held.term != expected.term:
            raise self.broken(
                f"{life} leads in term {stand.term} without the committed entry {self._last} of term {expected.term}"
            )

    def on_quorum_wiped(self, node_id: int) -> None:
        self._compared.pop(node_id, None)


class PromisesSurvive(Invariant):
    """What a voter had made durable (its term, its vote, the end of its log) is there when it comes back on the same disk."""

    name = "raft-promises-survive"

    def __init__(self, model: Model) -> None:
        self._promised: dict[int, VoterStand] = {}

    def look(self, news: News) -> None:
        for life, voter in news.voters:
            stand = voter.stand
            assert stand is not None
            promised = self._promised.get(life.node_id)
            if voter.before is None and promised is not None:
                self._check_vote(life, promised, stand)
                # A sync that failed may have left a truncation behind that nobody waited for.
                if not voter.follows_failure:
                    self._check_log(life, promised, voter.journal)
            # One that has failed may hold in memory what it could not make durable; nothing has left it since.
            if not stand.has_pending and not voter.has_failed:
                self._promised[life.node_id] = stand

    def _check_vote(self, life: Life, promised: VoterStand, stand: VoterStand) -> None:
        is_forgotten = stand.term == promised.term and promised.vote is not None and stand.vote != promised.vote
        if stand.term < promised.term or is_forgotten:
            raise self.broken(
                f"{life} came back in term {stand.term} with vote {stand.vote}, it was in {promised.term} with {promised.vote}"
            )

    def _check_log(self, life: Life, promised: VoterStand, journal: Journal) -> None:
        last = promised.last
        held = journal.entry(last.index)
        if last.index >= journal.first.index and (held is None or held.term != last.term):
            raise self.broken(f"{life} came back without entry {last.index} of term {last.term}")

    def on_quorum_wiped(self, node_id: int) -> None:
        self._promised.pop(node_id, None)
