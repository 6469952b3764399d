"""Bugs of the controller and of the image: who may lead, who is in sync, what is remembered."""

from .mutant import Mutant, edit
from .unit_tests import UNIT_TESTS

BROKERS = "quorumlog.metadata.brokers"
ELECTIONS = "quorumlog.metadata.elections"

CONTROLLER: tuple[Mutant, ...] = (
    Mutant(
        name="takes-an-old-proposal",
        breaks="The controller accepts a change of the in-sync set only with the right partition epoch.",
        needs="A proposal that reaches the controller after it has itself taken a member out, who was only fenced, not "
        "restarted (a pause or a cut of a follower beyond the session timeout, a slow way from the leader to the "
        "controller).",
        edits=(
            edit(
                "quorumlog.metadata.isr:_check_epochs",
                "31aa4c4c3551",
                ("if proposal.partition_epoch != state.partition_epoch:", "if proposal.partition_epoch > state.partition_epoch:"),
            ),
        ),
        seeds=len(UNIT_TESTS),
        judge="unit",
    ),
    Mutant(
        name="elects-anyone",
        breaks="Only a complete replica is elected where unclean elections are off.",
        needs="The in-sync set dies while a replica outside it lives: one node lags or restarts, then the others go.",
        edits=(edit(f"{ELECTIONS}:elected", "866db77c1f78", ("if unclean and candidates:", "if candidates:")),),
        seeds=100,
    ),
    Mutant(
        name="keeps-the-eligible",
        breaks="Eligible replicas are no longer eligible once the in-sync set is large enough to commit without them (KIP-966).",
        needs="A node that is away while the two others commit; then those two go and it comes back.",
        edits=(edit(f"{ELECTIONS}:with_isr", "365ad9619443", ("set() if len(isr) >= min_isr else ", "")),),
        seeds=40,
    ),
    Mutant(
        name="keeps-a-lost-disk-in-sync",
        breaks="A broker that comes back with another disk leaves every in-sync set before it may serve.",
        needs="A disk wiped and replaced under a broker that is in sync (the storage id is another one), and its quick return.",
        edits=(
            edit(
                f"{ELECTIONS}:release_disk",
                "883adb537418",
                (
                    "settle(draft, topic, state, without_disk(state, node_id))",
                    "settle(draft, topic, state, state, shunned=node_id)",
                ),
            ),
        ),
        seeds=500,
    ),
    Mutant(
        name="restarted-leader-goes-on",
        breaks="A broker that registers again leads nothing in its old epochs.",
        needs="A leader that loses power with unsynced records that followers have, and is back before it is fenced.",
        edits=(edit(f"{BROKERS}:register", "37f8dcefe800", ("elections.release(draft, request.node_id)", "pass")),),
        seeds=40,
    ),
    Mutant(
        name="gives-producer-ids-twice",
        breaks="No two producers have one id.",
        needs="Two producers that got their ids from two nodes and write to one partition.",
        edits=(
            edit(
                f"{BROKERS}:allocate_producer_ids",
                "416e7f538239",
                ("draft.add(ProducerIds(first + PRODUCER_ID_BLOCK, request.node_id))", "pass"),
            ),
        ),
        seeds=40,
    ),
    Mutant(
        name="snapshot-drops-producer-ids",
        breaks="A snapshot of the metadata holds all that the image holds.",
        needs="Metadata snapshots every few entries, and a node that starts from one, or takes one from the leader, and "
        "then becomes the controller while producers ask for ids.",
        edits=(
            edit(
                "quorumlog.metadata.machine:records_that_make",
                "1f9572104015",
                ("if image.next_producer_id:", "if image.next_producer_id < 0:"),
            ),
        ),
        seeds=40,
    ),
)
