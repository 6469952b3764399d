"""What a rebalance moves, and how long partitions pause: a seventh member joins six, and leaves them again.

A pause is the time between two readings of one partition. Partitions that stay where they are should pause no longer than they do
while nothing happens, which is measured too.
"""

import time
from collections.abc import Collection
from itertools import pairwise

import click

from tests.bench.groups_peers import cluster_on, median_and_worst, output_option, peer_option, show, told
from tests.cluster.group_member import MemberConfig
from tests.cluster.group_stage import Load, Members, begin_at_zero
from tests.events import create_topic

PARTITIONS, MEMBERS = 24, 6
TOPIC = "groups-rebalance"
SETTLE_S = 2.0


def measure_change(members: Members, *, joins: bool) -> dict[str, object]:
    """One member joins or leaves; what moves, and the pauses from before to after."""
    before, began_at, given_up = _owners(members), time.monotonic(), len(members.given_up)
    if joins:
        members.start(MEMBERS)
        members.wait_for(lambda: members.share_all(MEMBERS + 1), "the new member has its share")
    else:
        members.leave(MEMBERS)
        members.wait_for(lambda: members.share_all(MEMBERS), "the others have taken over")
    took_s = time.monotonic() - began_at
    time.sleep(SETTLE_S)
    after = _owners(members)
    moved = {partition for partition in range(PARTITIONS) if before[partition] != after[partition]}
    disturbed = {partition for member, partition in members.given_up[given_up:] if member != MEMBERS} | moved
    return {
        "change": "join" if joins else "leave",
        "took_s": round(took_s, 3),
        "moved": len(moved),
        "given_up": len(disturbed),
        "least": PARTITIONS // (MEMBERS + 1),
        "pause_of_kept_s": longest_pause(members, set(range(PARTITIONS)) - disturbed, began_at),
        "pause_of_moved_s": longest_pause(members, disturbed, began_at),
    }


def _owners(members: Members) -> dict[int, int]:
    return {partition: member for member, partitions in members.owned.items() for partition in partitions}


def longest_pause(members: Members, partitions: Collection[int], since: float) -> float:
    """0 if there are no such partitions."""
    longest = 0.0
    for partition in partitions:
        times = [reading.at for reading in list(members.readings) if reading.partition == partition and reading.at >= since]
        times = [since, *times, time.monotonic()]
        longest = max(longest, *(later - earlier for earlier, later in pairwise(times)))
    return round(longest, 3)


@click.command("rebalance")
@click.option("--rounds", default=10, show_default=True, help="Of a member that joins and leaves again.")
@click.option("--protocol", type=click.Choice(["classic", "consumer"]), default="consumer", show_default=True)
@click.option("--assignor", default="", help="Of classic members: range, cooperative-sticky.")
@peer_option
@output_option
def command(rounds: int, protocol: str, assignor: str, peer: str, output: str) -> None:
    """A member joins and leaves: how many partitions move, and how long which pause."""
    with cluster_on(peer, {}) as cluster:
        config = MemberConfig(cluster.bootstrap_servers, f"group-{protocol}", TOPIC, protocol=protocol, assignor=assignor)
        create_topic(config.bootstrap, TOPIC, partitions=PARTITIONS)
        begin_at_zero(config.bootstrap, config.group, TOPIC, PARTITIONS)
        with Load(config.bootstrap, TOPIC, PARTITIONS), Members(config, PARTITIONS) as members:
            members.start(*range(MEMBERS))
            members.wait_for(lambda: members.share_all(MEMBERS), "all members share the partitions")
            time.sleep(SETTLE_S)
            quiet_from = time.monotonic()
            time.sleep(3 * SETTLE_S)
            quiet_s = longest_pause(members, range(PARTITIONS), quiet_from)
            results = told(output, (measure_change(members, joins=joins) for joins in (True, False) * rounds))
            errors = members.errors
    summary: dict[str, object] = {"rounds": rounds, "errors": errors, "pause_without_rebalance_s": quiet_s}
    for name in ("moved", "given_up"):
        summary[f"{name}_most"] = max(int(str(one[name])) for one in results)
    summary |= median_and_worst(results, "took_s", "pause_of_kept_s", "pause_of_moved_s")
    show(output, f"{peer}, {protocol} {assignor}".rstrip(), summary, results)
