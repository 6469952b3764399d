"""A node is killed: leaders under producers and consumers, coordinators under groups. One kill strikes all clients."""

from collections.abc import Iterator

from tests.clients.driver import Member
from tests.clients.scenarios import FaultScenario
from tests.clients.scenarios.groups import PARTITIONS, fill, read_by, shares
from tests.clients.stage import Stage, eventually

COUNT = 600
PAUSE_MS = 5


def leader_dies(at: Stage, victim: int) -> Iterator[None]:
    """Everything is acknowledged, and everything acknowledged is read, once and in order."""
    topic = at.topic(3)
    eventually(lambda: victim in at.leaders(topic).values(), f"node {victim} leads a partition of {topic}")
    yield
    reads = [at.client.start_reading(topic, partition, [(0, COUNT // 3)]) for partition in range(3)]
    flow = at.client.start("flow", topic=topic, partitions=3, count=COUNT, pause_ms=PAUSE_MS)
    reference = at.reference()
    eventually(lambda: reference.ends(topic, 0)[1] >= 10, "records arrive")
    yield
    places = flow.result(120)
    assert all(offset >= 0 for _, offset in places), f"{sum(offset < 0 for _, offset in places)} records got no acknowledgment"
    for partition, read in enumerate(reads):
        (found,) = read()
        got = [(offset, message.value) for offset, message in found]
        sent = sorted((offset, b"%d" % number) for number, (held, offset) in enumerate(places) if held == partition)
        assert got == sent, (
            f"partition {partition}: {len(got)} read, {len(sent)} acknowledged, first difference {_differ(got, sent)}"
        )


def _differ(got: list[tuple[int, bytes | None]], sent: list[tuple[int, bytes]]) -> object:
    return next(((one, other) for one, other in zip(got, sent, strict=False) if one != other), "none")


def coordinator_dies(at: Stage, victim: int) -> Iterator[None]:
    """The group goes on from what it committed: no record is skipped, no offset is reset."""
    topic, group = at.topic(PARTITIONS, retention_ms="-1"), at.group_on(victim)
    yield
    members = [at.join(name, group, topic) for name in ("a", "b")]
    eventually(lambda: shares(topic, members), "two members share")
    fill(at, topic, 20)
    eventually(lambda: len(read_by(members, {})) == 20 * PARTITIONS, "all records are read")
    for member in members:
        at.client.call("commit", member=member.name, metadata="")
    seen = {member.name: len(member.records) for member in members}
    yield
    fill(at, topic, 20, start=20)
    new = {(partition, offset) for partition in range(PARTITIONS) for offset in range(20, 40)}
    eventually(lambda: new <= read_by(members, seen), "all new records are read")
    assert read_by(members, seen) == new, "offsets were reset: what had been committed was read again"
    eventually(lambda: shares(topic, members), "two members share")
    eventually(lambda: _committed(at, members, group, topic) == {40}, "all is committed")


def _committed(at: Stage, members: list[Member], group: str, topic: str) -> set[int]:
    """Whoever owns a partition since a moment ago may have to read on before it can commit the end."""
    for member in members:
        at.client.call("commit", member=member.name, metadata="")
    return {offset for offset, _ in at.group_ends(group, topic).values()}


LEADER = FaultScenario("a leader is killed under a producer and consumers", leader_dies)
SCENARIOS = [LEADER, FaultScenario("a coordinator is killed under a group", coordinator_dies)]
