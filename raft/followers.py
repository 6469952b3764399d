"""What a leader knows of its followers beside the core's next and match index: who is being probed, and who confirmed it when."""


class Followers:
    """One leader's view, forgotten at each election. Ids are voters; times are the clock's seconds.

    The core sends a follower the whole rest of the log whenever it hears from it. While a follower's position is unknown that
    is a storm that can last for ever (each frame is refused, each refusal moves the position), so such a follower is *probed*:
    one frame a period, from a place that only moves back until one matches.
    """

    def __init__(self, peers: tuple[int, ...], period_s: float) -> None:
        self._peers = peers
        self._period_s = period_s
        self._probed_at: dict[int, float] = {}
        self._bounds: dict[int, int] = {}
        self._confirmed: dict[int, tuple[int, int]] = {}

    def begin_term(self) -> None:
        """Elected: nothing is known of anyone's log."""
        self._bounds.clear()
        for peer in self._peers:
            self.probe(peer)

    def probe(self, follower: int) -> None:
        """Its position is in doubt; the next frame may leave at once."""
        self._probed_at[follower] = float("-inf")

    def probe_after(self, follower: int, now: float) -> None:
        """Its position is in doubt; the next frame may leave in a period."""
        self._probed_at[follower] = now

    def may_send(self, follower: int, now: float) -> bool:
        """Whether log entries may be sent now. Saying yes to a probe starts its period."""
        probed_at = self._probed_at.get(follower)
        if probed_at is None:
            return True
        if now - probed_at < self._period_s:
            return False
        self._probed_at[follower] = now
        return True

    def on_match(self, follower: int) -> None:
        self._bounds.pop(follower, None)
        self._probed_at.pop(follower, None)

    def on_mismatch(self, follower: int, next_index: int, *, conflicts: bool, match_index: int) -> int:
        """Where to send from: never behind a place that conflicted, never before what is known to match."""
        if conflicts:
            self._bounds[follower] = next_index
        self.probe(follower)
        return max(min(next_index, self._bounds.get(follower, next_index)), match_index + 1)

    def on_confirmed(self, follower: int, term: int, round_: int) -> None:
        """It answered a message that we sent in this term and read round: it followed us then."""
        self._confirmed[follower] = max(self._confirmed.get(follower, (0, 0)), (term, round_))

    def confirmations(self, term: int, round_: int) -> int:
        """How many followers confirmed us in this read round or a later one."""
        return sum(1 for peer in self._peers if self._confirmed.get(peer, (0, 0)) >= (term, round_))
