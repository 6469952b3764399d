"""What the core sees in place of its own parts: our journal, our transport, no sockets, and settings of ours."""

from typing import Any, Protocol

from pysyncobj import SyncObjConf
from pysyncobj.transport import Transport

from quorumlog.raft.config import QuorumConfig
from quorumlog.raft.errors import Fatal
from quorumlog.raft.journal import Entry, Journal
from quorumlog.raft.messages import AppendOutcome, AppendReply, Message, RequestVote, TimeoutNow, Vote


class CoreOwner(Protocol):
    """Whoever sends the core's messages."""

    def send_from_core(self, peer: int, message: Message) -> bool: ...


class CoreJournal:
    """The journal as the core calls it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._journal.append(Entry(bytes(command), idx, term))

    def deleteEntriesFrom(self, position: int) -> None:  # noqa: N802
        if position < len(self._journal):
            self._journal.truncate_from(self._journal[position].index)

    def __getitem__(self, position: Any) -> Any:
        return self._journal[position]

    def __len__(self) -> int:
        return len(self._journal)

    def setCurrentTerm(self, term: int, vote: int | None) -> None:  # noqa: N802
        self._journal.set_vote(term, vote)

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._journal.term

    def getVotedForNodeId(self) -> int | None:  # noqa: N802
        return self._journal.vote

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        # Volatile in Raft, and never trusted after a crash: what a leader commits again is applied again.
        return self._journal.first.index

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        pass

    def onOneSecondTimer(self) -> None:  # noqa: N802
        pass


class CoreTransport(Transport):  # type: ignore[misc]
    """Where the core's messages leave it."""

    def __init__(self, owner: CoreOwner, own: Any, others: Any) -> None:
        super().__init__(owner, own, others)
        self._owner = owner

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        return self._owner.send_from_core(int(node.id), _from_core(message))


class NothingToPoll:
    """The core's poller: it has no sockets to look at."""

    def poll(self, _: float) -> None:
        pass


def _from_core(core_message: dict[str, Any]) -> Message:
    match core_message:
        case {"type": "request_vote"}:
            return RequestVote(core_message["last_log_index"], core_message["last_log_term"])
        case {"type": "response_vote"}:
            return Vote()
        case {"type": "next_node_idx", "success": True}:
            return AppendReply(core_message["next_node_idx"], AppendOutcome.MATCHES)
        case {"type": "timeout_now"}:
            return TimeoutNow()
        case _:
            raise Fatal(f"the raft core would send {core_message['type']!r}, which is not part of the protocol")


def core_settings(config: QuorumConfig) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        dynamicMembershipChange=False,
        useFork=False,
        journalFile=None,
        fullDumpFile=None,
        commandsWaitLeader=False,
        appendEntriesUseBatch=True,
        pollerType="select",
        raftMinTimeout=config.election_timeout_min_s,
        raftMaxTimeout=config.election_timeout_max_s,
        # A leader that hears no majority for as long as the others need to elect another one is none.
        leaderFallbackTimeout=config.election_timeout_max_s,
        connectionTimeout=max(3.5, config.election_timeout_max_s),
        appendEntriesPeriod=config.heartbeat_s,
        # Above the largest command: the core's path for larger ones pickles.
        appendEntriesBatchSizeBytes=config.append_batch_bytes,
    )
