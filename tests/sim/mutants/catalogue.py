"""All planted bugs. Each breaks one promise in a way that a tired author could have written, and none shows in a healthy run of
a few seconds; `needs` says what has to happen for it to show.

Some guards stand behind one another: with one of them missing nothing can be seen, so they have no mutant of their own:
- the epoch in `Partition.on_diverging` and `apply_fetched`: a stream's handles are fresh for each epoch;
- the epoch in `ReplicaCore.on_acknowledged`: a new epoch forgets its followers (`keeps-old-acknowledgments` takes that away);
- the start of the epoch in `ReplicaCore._may_join`: whoever is outside the in-sync set lags, too, until it had all there
  was at some moment of this epoch;
- the sync of a cut: at the next beginning epochs are compared again;
- the broker epochs of a proposed in-sync set: only a lost disk makes them matter;
- read rounds and the freshness of a session: they protect acks=1, of which nothing is judged here;
- the rule of Raft's figure 8: entries of an old term travel in one message with the new leader's mark, and commit with it;
- pre-votes and check-quorum: without them elections are many, not wrong.
"""

from .compaction import COMPACTION
from .controller import CONTROLLER
from .dedup import DEDUP
from .groups import GROUPS
from .mutant import Mutant
from .raft import RAFT
from .replication import REPLICATION
from .requests import REQUESTS
from .storage import STORAGE
from .transactions import TRANSACTIONS

CATALOGUE: tuple[Mutant, ...] = (
    *REPLICATION,
    *STORAGE,
    *REQUESTS,
    *CONTROLLER,
    *RAFT,
    *GROUPS,
    *COMPACTION,
    *TRANSACTIONS,
    *DEDUP,
)


def find(name: str) -> Mutant:
    """Raises KeyError with what there is."""
    by_name = {mutant.name: mutant for mutant in CATALOGUE}
    if name not in by_name:
        raise KeyError(f"there is no mutant {name!r}; there are {', '.join(by_name)}")
    return by_name[name]
