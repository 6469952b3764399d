"""When to stand for election and whom to encourage: pre-votes, and what is known of the last leader."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _PreVoteRound:
    term: int
    asked_at: float
    granted: set[int] = field(default_factory=set)


class Elections:
    """One voter's election manners. A voter first asks whether it would be elected; a voter that hears its leader says no.

    So a voter that was cut off can neither unseat a leader that the others still hear, nor burn terms while it is alone.
    """

    def __init__(self, node_id: int, voters: tuple[int, ...], *, sticky_s: float, retry_s: float, step_s: float) -> None:
        self._node_id = node_id
        self._voters = tuple(sorted(voters))
        self._sticky_s = sticky_s
        self._retry_s = retry_s
        self._step_s = step_s
        self._round: _PreVoteRound | None = None
        self._counted: tuple[int, set[int]] = (0, set())
        self._gone: set[int] = set()
        self._met: set[int] = set()  # in this life
        self._heard: tuple[int, float] | None = None

    def on_leader_heard(self, leader: int, now: float) -> None:
        self._heard, self._round = (leader, now), None
        self._gone.discard(leader)

    def on_process_gone(self, peer: int) -> None:
        self._gone.add(peer)

    def on_connected(self, peer: int) -> None:
        self._gone.discard(peer)
        self._met.add(peer)

    def may_begin(self) -> bool:
        """Whether it is time to see if there is a leader, once after a start: enough voters are there for an election, and none
        has shown itself. Where there is one, they refuse their pre-votes.
        """
        return self._heard is None and len(self._met) == len(self._voters) // 2

    def last_heard_leader(self) -> int | None:
        return self._heard[0] if self._heard else None

    def hears_leader(self, now: float) -> bool:
        """Whether a leader may still be there. One whose process we saw end is not, however fresh its last word."""
        if self._heard is None or self._heard[0] in self._gone:
            return False
        return now - self._heard[1] < self._sticky_s

    def early_delay_s(self) -> float:
        """The survivors of a dead leader start one after the other, so that they do not split the vote."""
        alive = [voter for voter in self._voters if voter not in self._gone]
        return alive.index(self._node_id) * self._step_s

    def majority_granted(self, term: int) -> bool:
        """Whether a majority would elect us in `term`; ends the round if so."""
        if self._round is None or self._round.term != term or len(self._round.granted) + 1 <= len(self._voters) // 2:
            return False
        self._round = None
        return True

    def should_ask(self, term: int, now: float) -> bool:
        """Whether to send pre-votes for `term` now; begins a round if so."""
        if self._round is not None and self._round.term == term and now - self._round.asked_at < self._retry_s:
            return False
        self._round = _PreVoteRound(term, now)
        return True

    def on_granted(self, voter: int, term: int) -> None:
        if self._round is not None and self._round.term == term:
            self._round.granted.add(voter)

    def is_first_vote(self, voter: int, term: int) -> bool:
        """Whether this is the voter's first vote in the term: a frame delivered twice is still one vote."""
        if self._counted[0] != term:
            self._counted = (term, set())
        if voter in self._counted[1]:
            return False
        self._counted[1].add(voter)
        return True
