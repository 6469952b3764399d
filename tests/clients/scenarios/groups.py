"""Consuming by group: commit and resume, rebalances in both protocols, many groups."""

from functools import partial

from tests.clients.driver import Member
from tests.clients.scenarios import Scenario
from tests.clients.scenarios.records import numbered
from tests.clients.stage import Stage, eventually

PARTITIONS = 6
Assignor = tuple[str, str | None]  # protocol and assignor
PROTOCOLS: dict[str, Assignor] = {
    "range": ("classic", "range"),
    "cooperative-sticky": ("classic", "cooperative-sticky"),
    "KIP-848": ("consumer", None),
}


def fill(at: Stage, topic: str, rounds: int, start: int = 0) -> None:
    """So many records more in each partition."""
    for partition in range(PARTITIONS):
        at.client.produce(topic, numbered(rounds, partition, start), acks="all")


def resume(protocol: str, at: Stage) -> None:
    """A second life of a member begins where the first one committed, and its metadata are kept."""
    topic, group = at.topic(retention_ms="-1"), at.name("g")
    at.client.produce(topic, numbered(30), acks="all")
    first = at.join("a", group, topic, protocol=protocol)
    eventually(lambda: len(first.records) == 30, "30 records are read")
    at.client.call("commit", member=first.name, metadata="so far")
    assert at.group_ends(group, topic) == {0: (30, "so far")}
    at.leave(first)
    at.client.produce(topic, numbered(5, start=30), acks="all")
    second = at.join("b", group, topic, protocol=protocol)
    eventually(lambda: len(second.records) == 5, "5 records are read")
    assert second.places == [(0, offset) for offset in range(30, 35)]
    assert not first.errors + second.errors, first.errors + second.errors


def not_committed(at: Stage) -> None:
    """What was not committed is read again."""
    topic, group = at.topic(retention_ms="-1"), at.name("g")
    at.client.produce(topic, numbered(10), acks="all")
    for turn in ("a", "b"):
        member = at.join(turn, group, topic)
        eventually(lambda: len(member.records) == 10, "10 records are read")  # noqa: B023
        at.leave(member)


def rewinds(at: Stage) -> None:
    """Ten groups on a topic; one rewinds, the others are not disturbed."""
    topic = at.topic(retention_ms="-1")
    at.client.produce(topic, numbered(20), acks="all")
    members = [at.join(f"m{index}", at.name(f"g{index}"), topic) for index in range(10)]
    for member in members:
        eventually(lambda: len(member.records) == 20, f"{member.name} reads 20 records")  # noqa: B023
        at.client.call("commit", member=member.name, metadata="")
    at.client.call("seek", member=members[0].name, topic=topic, partition=0, offset=5)
    eventually(lambda: len(members[0].records) == 35, "15 records are read again")
    at.client.produce(topic, numbered(1, start=20), acks="all")
    for member in members[1:]:
        eventually(lambda: len(member.records) >= 21, f"{member.name} reads the new record")  # noqa: B023
        assert member.places == [(0, offset) for offset in range(21)]


def shares(topic: str, members: list[Member]) -> bool:
    """Whether they have all partitions, each one once, evenly."""
    has = [place for member in members for place in member.assigned]
    even = max(len(member.assigned) for member in members) - min(len(member.assigned) for member in members) <= 1
    return even and sorted(has) == [(topic, partition) for partition in range(PARTITIONS)]


def read_by(members: list[Member], since: dict[str, int]) -> set[tuple[int, int]]:
    return {place for member in members for place in member.places[since.get(member.name, 0) :]}


def rebalance(assignor: Assignor, at: Stage) -> None:
    """Three members come and go; each partition has one owner, and every record is read."""
    protocol, name = assignor
    topic, group = at.topic(PARTITIONS, retention_ms="-1"), at.name("g")
    fill(at, topic, 5)
    members: list[Member] = []
    sticky = name != "range"
    for turn in ("a", "b", "c"):
        before = {member.name: member.assigned for member in members}
        members.append(at.join(turn, group, topic, protocol=protocol, assignor=name))
        eventually(lambda: shares(topic, members), f"{len(members)} members share {PARTITIONS} partitions")
        for member in members[:-1]:
            assert not sticky or member.assigned <= before[member.name], (
                f"{member.name} got what it had not: {member.assignments}"
            )
    eventually(lambda: len(read_by(members, {})) == 5 * PARTITIONS, "all records are read")
    for member in members:
        at.client.call("commit", member=member.name, metadata="")
    seen = {member.name: len(member.records) for member in members}
    kept = members[0].assigned
    at.leave(members[2])
    eventually(lambda: shares(topic, members[:2]), f"two members share {PARTITIONS} partitions")
    assert not sticky or kept <= members[0].assigned, "a partition moved that need not"
    fill(at, topic, 5, start=5)
    new = {(partition, offset) for partition in range(PARTITIONS) for offset in range(5, 10)}
    eventually(lambda: new <= read_by(members[:2], seen), "all new records are read")
    assert not [error for member in members for error in member.errors]


def undisturbed(at: Stage) -> None:
    """While a member joins with KIP-848, a partition that stays is never taken away."""
    topic, group = at.topic(PARTITIONS), at.name("g")
    first = at.join("a", group, topic, protocol="consumer")
    eventually(lambda: shares(topic, [first]), "one member has all")
    second = at.join("b", group, topic, protocol="consumer")
    eventually(lambda: shares(topic, [first, second]), "two members share")
    kept = first.assigned
    assert all(kept <= assigned for assigned in first.assignments if assigned), first.assignments


def static_member(protocol: str, at: Stage) -> None:
    """A static member that comes back gets what it had; nobody else notices."""
    topic, group = at.topic(PARTITIONS), at.name("g")
    how = {"protocol": protocol, "session_ms": 20_000}
    first = at.join("a", group, topic, instance="one", **how)
    second = at.join("b", group, topic, instance="two", **how)
    eventually(lambda: shares(topic, [first, second]), "two members share")
    had, told = second.assigned, len(first.assignments)
    at.leave(second)
    again = at.join("c", group, topic, instance="two", **how)
    eventually(lambda: again.assigned == had, f"the static member has {sorted(had)} again")
    assert len(first.assignments) == told, f"the other member was disturbed: {first.assignments}"


def member_dies(at: Stage) -> None:
    """kill -9 of a member's process: after its session the other has everything, from what was committed."""
    topic, group = at.topic(PARTITIONS, retention_ms="-1"), at.name("g")
    how = {"protocol": "classic", "session_ms": 6000}
    another = at.start_another()
    try:
        fill(at, topic, 5)
        first = at.join("a", group, topic, **how)
        second = another.join(at.name("b"), group, [topic], **how)
        eventually(lambda: shares(topic, [first, second]), "two members share")
        eventually(lambda: len(read_by([first, second], {})) == 5 * PARTITIONS, "all is read")
    finally:
        another.kill()
    fill(at, topic, 5, start=5)
    every = {(partition, offset) for partition in range(PARTITIONS) for offset in range(10)}
    eventually(lambda: shares(topic, [first]), "the member that lives has all")
    eventually(lambda: every <= read_by([first], {}), "it reads all, as nothing was committed")


SCENARIOS = [
    Scenario("group", "commit, with metadata, and resume", partial(resume, "classic")),
    Scenario("group", "what is not committed comes again", not_committed),
    Scenario("group", "ten groups; one rewinds alone", rewinds),
    *(Scenario("group", f"three members come and go: {name}", partial(rebalance, how)) for name, how in PROTOCOLS.items()),
    Scenario("group", "a static member returns", partial(static_member, "classic")),
    Scenario("group", "a member is killed", member_dies),
    Scenario("group", "KIP-848: commit and resume", partial(resume, "consumer")),
    Scenario("group", "KIP-848: what stays is not disturbed", undisturbed),
    Scenario("group", "KIP-848: a static member returns", partial(static_member, "consumer")),
]
