"""In-sync sets: KIP-966's promises."""

from quorumlog.metadata.image import NO_LEADER

from .copies import Copy
from .model import Model
from .sight import Invariant, News, PartitionKey


class InSyncIsComplete(Invariant):
    """Whoever is in the in-sync set, or eligible (ELR), by the newest committed image, has every committed record on its disk,
    safe from a power cut; a node that is down counts by its disk. Where `flush.policy` is `os` having it is enough.

    Not asked of: a disk that was replaced, until the node has registered with it; a replica that the simulator damaged and that
    shows it; a partition whose complete replicas all lost their disks, or that was led by an incomplete one with leave to.
    """

    name = "in-sync-is-complete"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        model = self._model
        for key in news.keys:
            ledger = model.ledgers[key]
            if ledger.excuse is not None or not ledger.headers:
                continue
            state, copies = model.states[key], model.copies.get(key, {})
            for member in (*state.isr, *state.elr):
                if member not in model.wiped:
                    self._check_member(key, member, copies.get(member))

    def _check_member(self, key: PartitionKey, member: int, copy: Copy | None) -> None:
        model = self._model
        committed = model.ledgers[key].end
        if copy is None:
            name = f"{model.newest.topic_names.get(key[0])}-{key[1]}"
            raise self.broken(f"{name}: node {member} is a complete replica without a log; committed is up to {committed}")
        if model.is_doubtful(copy):
            return
        safe = copy.durable_end() if copy.vouches_by_sync else copy.matched_end()
        if min(copy.matched_end(), safe) < committed:
            raise self.broken(
                f"{copy} has the committed log up to {copy.matched_end()} and on its disk up to {safe}, committed is up to "
                f"{committed}, and {model.states[key]} counts it; {copy.held_at_mismatch()}"
            )


class InSyncIsValid(Invariant):
    """The controller's in-sync set: replicas each once, apart from the eligible ones, with the leader in it; empty only where
    nobody leads.
    """

    name = "in-sync-is-valid"

    def __init__(self, model: Model) -> None:
        pass

    def look(self, news: News) -> None:
        for _, state in news.states:
            members = {*state.isr, *state.elr}
            if len(members) != len(state.isr) + len(state.elr) or not members <= set(state.replicas):
                raise self.broken(f"members are repeated, or no replicas: {state}")
            if state.leader != NO_LEADER and state.leader not in state.isr:
                raise self.broken(f"the leader is not in sync, or nobody is: {state}")


class LeaderCountsAll(Invariant):
    """Within its epoch a leader counts at least the controller's in-sync set, whether it knows it already or has asked for it:
    the set it knows and all it has proposed since cover the controller's.
    """

    name = "leader-counts-all"

    def __init__(self, model: Model) -> None:
        self._model = model

    def look(self, news: News) -> None:
        states = self._model.states
        leading = [copy for copy in news.copies if copy.is_leading]
        for _, state in news.states:
            copy = self._model.copies.get((state.topic_id, state.partition), {}).get(state.leader)
            if copy is not None and copy.is_leading:
                leading.append(copy)
        for copy in leading:
            state = states[copy.key]
            if copy.is_frozen or copy.stand.leader_epoch != state.leader_epoch or state.leader != copy.node_id:
                continue
            counted = copy.effective_isr
            if not counted.issuperset(state.isr):
                raise self.broken(
                    f"{copy} counts {sorted(counted)} at partition epoch {copy.stand.partition_epoch}, in sync are {state}"
                )
