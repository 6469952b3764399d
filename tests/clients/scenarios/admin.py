"""Administration: topics, settings, groups and their offsets, where partitions live."""

from functools import partial

from tests.clients.scenarios import Scenario
from tests.clients.scenarios.records import numbered
from tests.clients.stage import Stage, eventually, refused
from tests.cluster.libraries import Message


def topics(at: Stage) -> None:
    """Made, shown, grown, deleted."""
    call, name = at.client.call, at.name("life")
    call("create_topic", name=name, partitions=2, replicas=3, configs={"retention.ms": "123456"})
    eventually(lambda: call("topics").get(name) == 2, f"{name} has 2 partitions")
    refused(36, lambda: call("create_topic", name=name, partitions=2, replicas=3, configs={}))
    call("grow_topic", name=name, partitions=5)
    eventually(lambda: call("topics").get(name) == 5, f"{name} has 5 partitions")
    at.known_everywhere(name, 5)
    refused(37, lambda: call("grow_topic", name=name, partitions=3))
    assert at.client.produce(name, [Message(b"x", partition=4)], acks="all") == [(4, 0)]
    call("delete_topic", name=name)
    eventually(lambda: name not in call("topics"), f"{name} is gone")
    refused(3, lambda: call("delete_topic", name=name))


def wrong_topics(at: Stage) -> None:
    call = at.client.call
    wrong = {"name": at.name("wrong"), "partitions": 1, "replicas": 3, "configs": {}}
    refused(17, lambda: call("create_topic", **wrong | {"name": "not/a/name"}))
    refused(37, lambda: call("create_topic", **wrong | {"partitions": 0}))
    refused(38, lambda: call("create_topic", **wrong | {"replicas": 4}))
    refused(40, lambda: call("create_topic", **wrong | {"configs": {"no.such": "1"}}))
    refused(40, lambda: call("create_topic", **wrong | {"configs": {"retention.ms": "long"}}))


def topic_configs(at: Stage) -> None:
    topic, key = at.topic(), "max.message.bytes"
    assert at.client.call("configs", type="topic", name=topic)[key] == "1048588"
    at.client.call("set_config", type="topic", name=topic, key=key, value="2000")
    eventually(lambda: at.client.call("configs", type="topic", name=topic)[key] == "2000", f"{key} is 2000")
    refused(40, lambda: at.client.call("set_config", type="topic", name=topic, key=key, value="many"))
    refused(10, lambda: at.client.produce(topic, [Message(b"x" * 3000)], acks="all"))


def configs_shown(at: Stage) -> None:
    topic = at.topic(retention_ms="123456")
    found = at.client.call("configs", type="topic", name=topic)
    assert found["retention.ms"] == "123456"
    assert found["cleanup.policy"] == "delete"
    assert {"compression.type", "min.insync.replicas", "message.timestamp.type", "segment.bytes"} <= set(found)


def broker_configs(at: Stage) -> None:
    """Shown, and one that takes effect at once."""
    found = at.client.call("configs", type="broker", name="1")
    assert found["num.partitions"] == "2", found["num.partitions"]
    assert {"log.retention.ms", "log.segment.bytes", "auto.create.topics.enable", "offsets.retention.minutes"} <= set(found)
    at.client.call("set_config", type="broker", name="1", key="log.retention.ms", value="604800000")
    eventually(
        lambda: at.client.call("configs", type="broker", name="1")["log.retention.ms"] == "604800000", "log.retention.ms is set"
    )
    refused(42, lambda: at.client.call("set_config", type="broker", name="1", key="log.retention.ms", value="long"))


def group_configs(at: Stage) -> None:
    group, key = at.name("configured"), "consumer.session.timeout.ms"
    at.client.call("set_config", type="group", name=group, key=key, value="46000")
    eventually(lambda: at.client.call("configs", type="group", name=group).get(key) == "46000", f"{key} is set")
    refused(40, lambda: at.client.call("set_config", type="group", name=group, key=key, value="1"))


def cluster(at: Stage) -> None:
    _, brokers, controller = at.client.call("cluster")
    assert sorted(brokers.values()) == sorted(at.peer.bootstrap_servers.split(",")), brokers
    assert str(controller) in brokers


def a_group(at: Stage) -> tuple[str, str]:
    """A group with an offset and without members, and its topic."""
    topic, group = at.topic(retention_ms="-1"), at.name("g")
    at.client.produce(topic, numbered(10), acks="all")
    member = at.join("a", group, topic)
    eventually(lambda: len(member.records) == 10, "10 records are read")
    at.client.call("commit", member=member.name, metadata="kept")
    return topic, group


def groups_shown(at: Stage) -> None:
    _, group = a_group(at)
    assert group in at.client.call("groups")
    eventually(lambda: at.client.call("group", group=group) == ["stable", 1], "the group is stable with one member")
    at.clear()
    eventually(lambda: at.client.call("group", group=group) == ["empty", 0], "the group is empty")


def group_offsets(at: Stage) -> None:
    topic, group = a_group(at)
    assert at.client.call("group_offsets", group=group) == [[topic, 0, 10, "kept"]]


def group_offsets_set(at: Stage) -> None:
    """Refused while there are members; taken when they are gone, and obeyed by the next one."""
    topic, group = a_group(at)
    change = partial(at.client.call, "set_group_offset", group=group, topic=topic, partition=0, offset=4)
    refused(25, change)
    at.clear()
    eventually(lambda: _is_empty(at, group), "the group is empty")
    change()
    assert at.group_ends(group, topic)[0][0] == 4
    member = at.join("b", group, topic)
    eventually(lambda: len(member.records) == 6, "6 records are read")
    assert member.places[0] == (0, 4)


def _is_empty(at: Stage, group: str) -> bool:
    found = at.peer.admin.describe_consumer_groups([group])[group].result(30)
    return len(found.members) == 0


def group_offsets_forgotten(at: Stage) -> None:
    topic, group = a_group(at)
    forget = partial(at.client.call, "forget_group_offset", group=group, topic=topic, partition=0)
    refused(86, forget)
    at.clear()
    eventually(lambda: _is_empty(at, group), "the group is empty")
    forget()
    assert at.group_ends(group, topic).get(0, (-1001, ""))[0] < 0


def groups_deleted(at: Stage) -> None:
    _, group = a_group(at)
    refused(68, lambda: at.client.call("delete_group", group=group))
    at.clear()
    eventually(lambda: _is_empty(at, group), "the group is empty")
    at.client.call("delete_group", group=group)
    found = [listing.group_id for listing in at.peer.admin.list_consumer_groups().result(30).valid]
    assert group not in found
    refused(69, lambda: at.client.call("delete_group", group=group))


def reassigned(at: Stage) -> None:
    """A partition moves, with its data, and its first replica can be made to lead."""
    topic = at.name("moved")
    at.client.call("create_topic", name=topic, partitions=1, replicas=2, configs={"retention.ms": "-1"})
    at.client.produce(topic, numbered(20), acks="all")
    (replicas, _, leader) = at.client.call("replicas", topic=topic, partition=0)
    assert leader in replicas
    target = [({1, 2, 3} - set(replicas)).pop(), leader]
    at.client.call("reassign", topic=topic, partition=0, replicas=target)
    moved = [target, sorted(target)]
    eventually(lambda: _where(at, topic) == moved, f"{topic} is on {target}")
    refused(39, lambda: at.client.call("reassign", topic=topic, partition=0, replicas=[1, 1]))
    ((*found,),) = at.client.read(topic, 0, (0, 20))
    assert len(found) == 20


def _where(at: Stage, topic: str) -> list[list[int]]:
    replicas, in_sync, _ = at.client.call("replicas", topic=topic, partition=0)
    return [replicas, sorted(in_sync)]


def elected(at: Stage) -> None:
    """The preferred leader leads already: ELECTION_NOT_NEEDED. An unknown partition is refused."""
    topic = at.topic()
    refused(84, lambda: at.client.call("elect_leader", topic=topic, partition=0))
    refused(3, lambda: at.client.call("elect_leader", topic=topic, partition=7))


SCENARIOS = [
    Scenario("admin", "topics: made, grown, deleted", topics),
    Scenario("admin", "wrong topics are refused", wrong_topics),
    Scenario("admin", "settings of topics are shown", configs_shown),
    Scenario("admin", "settings of topics take effect", topic_configs),
    Scenario("admin", "settings of brokers", broker_configs),
    Scenario("admin", "settings of groups", group_configs),
    Scenario("admin", "the cluster", cluster),
    Scenario("admin", "groups: listed, described", groups_shown),
    Scenario("admin", "offsets of a group: shown", group_offsets),
    Scenario("admin", "offsets of a group: set", group_offsets_set),
    Scenario("admin", "offsets of a group: forgotten", group_offsets_forgotten),
    Scenario("admin", "groups: deleted", groups_deleted),
    Scenario("admin", "a partition is moved", reassigned),
    Scenario("admin", "the preferred leader is elected", elected),
]
