"""Time from `kill -9` of a group's coordinator to its members' next records and commits.

Six members with their client's default timeouts read 24 partitions under load, each committing what it has read. A record counts
when it was appended after the kill, a commit when it was asked for after the kill and accepted. The node that dies also leads a
third of the partitions, and every now and then it is the active controller.
"""

import time
from typing import Any

import click

from quorumlog.testing import LocalCluster
from tests.bench.groups_peers import cluster_on, median_and_worst, output_option, peer_option, show, told
from tests.cluster.group_member import MemberConfig
from tests.cluster.group_stage import Load, Members, begin_at_zero, coordinator_of
from tests.cluster.leaders import active_controller, wait_in_sync
from tests.events import create_topic

PARTITIONS, MEMBERS = 24, 6
TOPIC = "groups-failover"


def measure_round(cluster: Any, group: str, load: Load, members: Members) -> dict[str, object]:
    coordinator = coordinator_of(cluster.bootstrap_servers, group)
    controller = active_controller(cluster) if isinstance(cluster, LocalCluster) else None
    owned, given_up = {member: list(partitions) for member, partitions in members.owned.items()}, len(members.given_up)
    killed_at = time.monotonic()
    cluster.kill(coordinator)
    ends = dict(load.ends)  # the process is gone: what it answered has come
    members.wait_for(lambda: len(members.read_behind(ends, killed_at)) == PARTITIONS, "all partitions are read on")
    members.wait_for(lambda: all(members.commits[member][-1].began_at > killed_at for member in owned), "all commit again")
    read_at = members.read_behind(ends, killed_at)
    next_record = {member: min(read_at[partition] for partition in mine) for member, mine in owned.items()}
    result = {
        "victim": coordinator,
        "was_controller": coordinator == controller,
        "next_record_s": _since(killed_at, max(next_record.values())),
        "every_partition_s": _since(killed_at, max(read_at.values())),
        "next_commit_s": _since(killed_at, max(_accepted_at(members, member, killed_at) for member in owned)),
        "partitions_moved": len(members.given_up) - given_up,
    }
    cluster.start(coordinator)
    for topic in ("__consumer_offsets", TOPIC):
        wait_in_sync(cluster.bootstrap_servers, topic, timeout_s=90)
    return result


def _since(start: float, at: float) -> float:
    return round(at - start, 3)


def _accepted_at(members: Members, member: int, killed_at: float) -> float:
    return next(commit.heard_at for commit in members.commits[member] if commit.began_at > killed_at)


@click.command("failover")
@click.option("--rounds", default=20, show_default=True)
@click.option("--protocol", type=click.Choice(["classic", "consumer"]), default="consumer", show_default=True)
@click.option("--client", type=click.Choice(["confluent", "kafka-python"]), default="confluent", show_default=True)
@click.option("--worst-max", type=float, help="Exit with 1 if a member or a commit waited longer, in seconds.")
@peer_option
@output_option
def command(rounds: int, protocol: str, client: str, worst_max: float | None, peer: str, output: str) -> None:
    """kill -9 of a group's coordinator: how long until every member reads and commits again."""
    with cluster_on(peer, {}) as cluster:
        config = MemberConfig(cluster.bootstrap_servers, f"group-{protocol}", TOPIC, client=client, protocol=protocol)
        create_topic(config.bootstrap, TOPIC, partitions=PARTITIONS)
        begin_at_zero(config.bootstrap, config.group, TOPIC, PARTITIONS)
        with Load(config.bootstrap, TOPIC, PARTITIONS) as load, Members(config, PARTITIONS) as members:
            members.start(*range(MEMBERS))
            members.wait_for(lambda: members.share_all(MEMBERS), "all members share the partitions")
            results = told(output, (measure_round(cluster, config.group, load, members) for _ in range(rounds)))
            load.stop()
            last = {partition: end - 1 for partition, end in load.ends.items()}
            members.wait_for(lambda: len(members.read_behind(last)) == PARTITIONS, "everything is read to its end")
            skipped, errors = sum(map(len, members.skipped(load.ends).values())), members.errors
    summary: dict[str, object] = {"rounds": rounds, "skipped_records": skipped, "errors": errors}
    worsts = median_and_worst(results, "next_record_s", "every_partition_s", "next_commit_s")
    show(output, f"{peer}, {protocol} group of {client}, after kill -9 of its coordinator", summary | worsts, results)
    slowest = max(worsts["every_partition_worst_s"], worsts["next_commit_worst_s"])
    if skipped or errors or (worst_max is not None and slowest > worst_max):
        raise SystemExit(1)
