"""Settings: what is allowed, which layer counts, and what an alteration brings about."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorumlog.metadata.broker_config import BROKER_SETTINGS, describe_broker_config
from quorumlog.metadata.image import NO_LEADER, Image
from quorumlog.metadata.records import ConfigRecord, PartitionChange, Record, ResourceKind
from quorumlog.metadata.replay import replay
from quorumlog.metadata.requests import AlterConfigs, AlterConfigsReply, ConfigChange, ConfigOperation, ResourceChanges
from quorumlog.metadata.settings import Setting, SettingSource, SettingType, Synonym
from quorumlog.metadata.topic_config import TOPIC_SETTINGS, TopicConfig, describe_topic_config, effective_topic_config
from quorumlog.wire.errors import ClusterError, ErrorCode

from .conftest import ControllerOf
from .given import TOPIC_ID, broker_record, image_of, state

SET, DELETE, APPEND, SUBTRACT = ConfigOperation
EVENTS = image_of(partitions=[state((1, 2, 3))], min_isr=2)


def topic_set(key: str, value: str | None, operation: ConfigOperation = SET) -> ResourceChanges:
    return ResourceChanges(ResourceKind.TOPIC, "events", (ConfigChange(key, operation, value),))


def broker_set(name: str, key: str, value: str | None, operation: ConfigOperation = SET) -> ResourceChanges:
    return ResourceChanges(ResourceKind.BROKER, name, (ConfigChange(key, operation, value),))


def topic_record(key: str, value: str | None) -> ConfigRecord:
    return ConfigRecord(ResourceKind.TOPIC, "events", key, value)


def codes(reply: object) -> list[ErrorCode]:
    assert isinstance(reply, AlterConfigsReply)
    assert all((resource.error_message is None) == (resource.error_code is ErrorCode.none) for resource in reply.resources)
    return [resource.error_code for resource in reply.resources]


# --- the tables


def test_table_and_dataclass_say_the_same() -> None:
    """Each field is a setting with the same default. Settings without a field are those that say so in their sentence."""
    fieldless = {name for name in TOPIC_SETTINGS if name.replace(".", "_") not in {field.name for field in fields(TopicConfig)}}
    said = ("Kept and shown", "without effect", "not offered", "throttled")
    assert all(any(words in TOPIC_SETTINGS[name].documentation for words in said) for name in fieldless)
    assert effective_topic_config(Image("test"), "any", {}) == TopicConfig()


@pytest.mark.parametrize("setting", [*TOPIC_SETTINGS.values(), *BROKER_SETTINGS.values()], ids=lambda setting: setting.name)
def test_defaults_are_allowed_and_documented(setting: Setting) -> None:
    """A default that its own bounds refuse could never be set back by hand."""
    setting.parse(setting.default)
    assert setting.documentation.endswith(".")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("retention.ms", "-2", "from -1 to"),
        ("retention.ms", "5.0", "whole number"),
        ("retention.ms", "", "whole number"),
        ("retention.ms", "9" * 10_000, "whole number"),
        ("retention.ms", "٣", "whole number"),
        ("retention.ms", "--1", "whole number"),
        ("retention.ms", "+", "whole number"),
        ("segment.bytes", str(2**31), "to 2147483647"),
        ("min.insync.replicas", "0", "from 1 to"),
        ("unclean.leader.election.enable", "yes", "true or false"),
        ("message.timestamp.type", "createtime", "CreateTime, LogAppendTime"),
        ("cleanup.policy", "shred", "expected compact, delete, or nothing"),
        ("compression.type", "brotli", "expected uncompressed, zstd, lz4, snappy, gzip, producer"),
        ("compression.gzip.level", "0", "from -1 to 9, but not 0"),
        ("segment.bytes", "1048575", "from 1048576 to"),
        ("remote.storage.enable", "true", "only false is offered yet"),
        ("min.cleanable.dirty.ratio", "1.1", "a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", "nan", "a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", "0x1p-1", "a number from 0 to 1"),
        ("leader.replication.throttled.replicas", "0:1,all", "partition:broker pairs"),
    ],
)
def test_refusals_name_the_setting_and_what_is_allowed(name: str, value: str, sentence: str) -> None:
    """The one who typed it learns what to type."""
    with pytest.raises(ClusterError, match=sentence) as refused:
        TOPIC_SETTINGS[name].parse(value)
    assert refused.value.code is ErrorCode.invalid_config
    assert refused.value.message.startswith(name) and len(refused.value.message) < 300


@given(st.sampled_from(list(TOPIC_SETTINGS.values())), st.text(max_size=30))
def test_any_text_is_taken_or_refused(setting: Setting, text: str) -> None:
    """No input raises anything but INVALID_CONFIG, and what is taken has the setting's type."""
    try:
        value = setting.parse(text)
    except ClusterError as error:
        assert error.code is ErrorCode.invalid_config
    else:
        kinds = {SettingType.INT: int, SettingType.LONG: int, SettingType.DOUBLE: float, SettingType.BOOLEAN: bool}
        assert type(value) is kinds.get(setting.type, str)
        assert setting.value_of(text.strip()) == value or isinstance(value, str)  # as it is stored


@pytest.mark.parametrize("value", ["compact", "delete,compact", " compact , delete,compact"])
def test_both_ways_of_cleaning_are_taken(value: str) -> None:
    """In any order, each once."""
    parsed = TOPIC_SETTINGS["cleanup.policy"].parse(value)
    config = TopicConfig(cleanup_policy=str(parsed))
    assert (config.is_compacted, config.is_deleting) == (True, "delete" in value)


def test_a_topic_may_be_cleaned_in_no_way() -> None:
    """As in Kafka since 4.2: its records stay."""
    config = TopicConfig(cleanup_policy=str(TOPIC_SETTINGS["cleanup.policy"].parse(" ")))
    assert not config.is_compacted and not config.is_deleting


def test_settings_that_contradict_each_other_are_refused(controller_of: ControllerOf) -> None:
    """Nothing could ever be compacted: a record would have to wait longer than it may."""
    controller = controller_of(EVENTS)
    changes = (ConfigChange("min.compaction.lag.ms", SET, "10"), ConfigChange("max.compaction.lag.ms", SET, "9"))
    refused = controller.decide(AlterConfigs((ResourceChanges(ResourceKind.TOPIC, "events", changes),)), 0.1)
    assert codes(refused.reply) == [ErrorCode.invalid_config] and refused.records == ()


# --- layers


def test_the_nearest_layer_counts() -> None:
    """Topic over broker over all brokers over static over default, seen as the layers come one by one."""
    image, static = EVENTS, {"log.retention.ms": "2"}
    record = ConfigRecord
    seen = [effective_topic_config(image, "events", {}, 1), effective_topic_config(image, "events", static, 1)]
    for layer in (
        record(ResourceKind.BROKER, "", "log.retention.ms", "3"),
        record(ResourceKind.BROKER, "1", "log.retention.ms", "4"),
        record(ResourceKind.TOPIC, "events", "retention.ms", "5"),
    ):
        image = replay(image, layer)
        seen.append(effective_topic_config(image, "events", static, 1))
    assert [config.retention_ms for config in seen] == [604800000, 2, 3, 4, 5]
    assert effective_topic_config(image, "other", static).retention_ms == 3, "without a node id no single broker counts"


def test_describing_shows_where_a_value_comes_from() -> None:
    """The value that counts, its source, and every other layer that has one."""
    image = replay(EVENTS, topic_record("retention.ms", "5"))
    (entry,) = describe_topic_config(image, "events", {"log.retention.ms": "2"}, names=["retention.ms", "colour"])
    assert (entry.value, entry.source, entry.is_default, entry.type) == ("5", SettingSource.TOPIC, False, SettingType.LONG)
    assert entry.synonyms == (
        Synonym("retention.ms", "5", SettingSource.TOPIC),
        Synonym("log.retention.ms", "2", SettingSource.STATIC),
    )
    everything = describe_topic_config(EVENTS, "events", {})
    assert [entry.name for entry in everything] == sorted(TOPIC_SETTINGS)
    assert {entry.name for entry in everything if not entry.is_default} == {"min.insync.replicas"}


def test_synonyms_are_what_brokers_have_of_their_own_accord() -> None:
    """Kafka takes log.retention.ms from log.retention.hours; remote.storage.enable is of topics alone: no layer, but a value."""
    for name, synonyms in (("retention.ms", []), ("remote.storage.enable", []), ("segment.bytes", ["log.segment.bytes"])):
        (entry,) = describe_topic_config(EVENTS, "events", {}, names=[name])
        assert (entry.value, entry.source) == (TOPIC_SETTINGS[name].default, SettingSource.DEFAULT)
        assert [one.name for one in entry.synonyms] == synonyms
    brokers = {entry.name: entry for entry in describe_broker_config(EVENTS, 1, {"log.roll.ms": "7"})}
    assert (brokers["log.retention.ms"].value, brokers["log.retention.ms"].synonyms) == (None, ())
    assert (brokers["broker.rack"].value, brokers["broker.rack"].source) == (None, SettingSource.DEFAULT)
    assert brokers["log.roll.ms"].value == "7"


def test_brokers_are_described_whole_and_their_defaults_as_set() -> None:
    """One broker shows every setting; "all brokers" shows what was set for them."""
    one = {entry.name: entry for entry in describe_broker_config(EVENTS, 1, {"num.partitions": "6"})}
    assert (one["num.partitions"].value, one["num.partitions"].read_only) == ("6", True)
    assert one["min.insync.replicas"].source is SettingSource.ALL_BROKERS
    (of_all,) = describe_broker_config(EVENTS, None, {})
    assert of_all.synonyms == (Synonym("min.insync.replicas", of_all.value or "", SettingSource.ALL_BROKERS),)


# --- altering


def test_settings_are_set_and_deleted(controller_of: ControllerOf) -> None:
    """What is so already needs no record."""
    controller = controller_of(EVENTS)
    first = controller.decide(AlterConfigs((topic_set("retention.ms", " 5 "),)), 0.1)
    assert first.records == (topic_record("retention.ms", "5"),) and codes(first.reply) == [ErrorCode.none]
    assert controller.decide(AlterConfigs((topic_set("retention.ms", "5"),)), 0.2).records == ()
    gone = controller.decide(AlterConfigs((topic_set("retention.ms", None, DELETE),)), 0.3)
    assert gone.records == (topic_record("retention.ms", None),)
    assert controller.decide(AlterConfigs((topic_set("retention.ms", None, DELETE),)), 0.4).records == ()


def test_lists_are_added_to_and_taken_from(controller_of: ControllerOf) -> None:
    """APPEND starts from the value that counts; what is in the list already is not doubled."""
    controller = controller_of(EVENTS)
    appended = controller.decide(AlterConfigs((topic_set("cleanup.policy", "delete", APPEND),)), 0.1)
    assert appended.records == (topic_record("cleanup.policy", "delete"),)
    both = controller.decide(AlterConfigs((topic_set("cleanup.policy", "compact,delete", APPEND),)), 0.2)
    assert both.records == (topic_record("cleanup.policy", "delete,compact"),)
    taken = controller.decide(AlterConfigs((topic_set("cleanup.policy", "delete", SUBTRACT),)), 0.3)
    assert taken.records == (topic_record("cleanup.policy", "compact"),)


def test_a_replacement_takes_back_what_it_does_not_name(controller_of: ControllerOf) -> None:
    """The older AlterConfigs says all that is to be set; the least in-sync set of all brokers stays, whoever forgets it."""
    controller = controller_of(image_of([1], [state((1,))], min_isr=1, topic_configs={"retention.ms": "5", "segment.ms": "6"}))
    keeps_one = (ConfigChange("segment.ms", SET, "6"), ConfigChange("retention.bytes", SET, "7"))
    topic = ResourceChanges(ResourceKind.TOPIC, "events", keeps_one, replaces=True)
    brokers = ResourceChanges(ResourceKind.BROKER, "", (), replaces=True)
    decision = controller.decide(AlterConfigs((topic, brokers)), 0.1)
    assert codes(decision.reply) == [ErrorCode.none, ErrorCode.none]
    assert decision.records == (topic_record("retention.bytes", "7"), topic_record("retention.ms", None))


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (topic_set("colour", "red"), ErrorCode.invalid_config),
        (topic_set("retention.ms", None), ErrorCode.invalid_request),
        (topic_set("retention.ms", "1", APPEND), ErrorCode.invalid_config),
        (topic_set("cleanup.policy", None, APPEND), ErrorCode.invalid_request),
        (topic_set("colour", None), ErrorCode.invalid_request),
        (ResourceChanges(ResourceKind.TOPIC, "no", ()), ErrorCode.unknown_topic_or_partition),
        (
            ResourceChanges(
                ResourceKind.TOPIC, "events", (ConfigChange("retention.ms", SET, "1"), ConfigChange("retention.ms", SET, "2"))
            ),
            ErrorCode.invalid_request,
        ),
        (
            ResourceChanges(
                ResourceKind.TOPIC, "events", (ConfigChange("retention.ms", SET, "1"), ConfigChange("colour", SET, "2"))
            ),
            ErrorCode.invalid_config,
        ),
        (broker_set("7", "log.retention.ms", "1"), ErrorCode.invalid_request),
        (broker_set("01", "log.retention.ms", "1"), ErrorCode.invalid_request),
        (broker_set("1", "log.retention.ms", "soon"), ErrorCode.invalid_request),
        (broker_set("", "num.partitions", "3"), ErrorCode.invalid_request),
        (broker_set("", "retention.ms", "3"), ErrorCode.invalid_request),
        (broker_set("1", "min.insync.replicas", "1"), ErrorCode.invalid_config),
        (broker_set("1", "unclean.leader.election.enable", "true"), ErrorCode.invalid_config),
        (broker_set("", "min.insync.replicas", None, DELETE), ErrorCode.invalid_config),
    ],
)
def test_a_bad_alteration_is_refused_whole_and_alone(
    controller_of: ControllerOf, resource: ResourceChanges, code: ErrorCode
) -> None:
    """None of a refused resource's changes is made; another resource of the same request is altered."""
    good = broker_set("2", "log.retention.ms", "9")
    decision = controller_of(EVENTS).decide(AlterConfigs((resource, good)), 0.1)
    assert codes(decision.reply) == [code, ErrorCode.none]
    assert decision.records == (ConfigRecord(ResourceKind.BROKER, "2", "log.retention.ms", "9"),)


@pytest.mark.parametrize("resource", [topic_set("colour", None, DELETE), broker_set("1", "colour", None, DELETE)])
def test_deleting_what_nobody_knows_does_nothing(controller_of: ControllerOf, resource: ResourceChanges) -> None:
    """As Kafka does, so that a setting of another release can be taken back."""
    decision = controller_of(EVENTS).decide(AlterConfigs((resource,)), 0.1)
    assert (decision.records, codes(decision.reply)) == ((), [ErrorCode.none])


def test_unknown_settings_are_told_the_known_ones(controller_of: ControllerOf) -> None:
    """The sentence lists what could have been meant."""
    reply = controller_of(EVENTS).decide(AlterConfigs((topic_set("retention", "1"),)), 0.1).reply
    assert isinstance(reply, AlterConfigsReply) and "retention.ms" in (reply.resources[0].error_message or "")


def test_a_resource_named_twice_and_validation_change_nothing(controller_of: ControllerOf) -> None:
    """Doubled resources are ambiguous; validate_only answers without doing."""
    controller = controller_of(EVENTS)
    doubled = controller.decide(AlterConfigs((topic_set("retention.ms", "1"), topic_set("segment.ms", "1"))), 0.1)
    assert (doubled.records, codes(doubled.reply)) == ((), [ErrorCode.invalid_request] * 2)
    checked = controller.decide(AlterConfigs((topic_set("retention.ms", "1"),), validate_only=True), 0.1)
    assert (checked.records, codes(checked.reply)) == ((), [ErrorCode.none])


@pytest.mark.parametrize(
    ("resource", "record"),
    [
        (topic_set("min.insync.replicas", "1"), topic_record("min.insync.replicas", "1")),
        (
            broker_set("", "min.insync.replicas", "1"),
            ConfigRecord(ResourceKind.BROKER, "", "min.insync.replicas", "1"),
        ),
    ],
)
def test_another_min_isr_ends_eligibility(controller_of: ControllerOf, resource: ResourceChanges, record: Record) -> None:
    """From now on the ISR may commit what ELR members lack; where the ISR is empty nobody commits, and the ELR stays."""
    partitions = [
        state((1, 2), (1,), elr=(2,)),
        state((1, 3), (), elr=(3,), leader=NO_LEADER, partition=1),
        state((1, 2), partition=2),
    ]
    controller = controller_of(image_of([1, 2, broker_record(3, 3, fenced=True)], partitions, min_isr=2))
    decision = controller.decide(AlterConfigs((resource,)), 0.1)
    assert decision.records == (record, PartitionChange(TOPIC_ID, 0, 1, elr=()))


def test_min_isr_of_the_cluster_leaves_topics_with_their_own_alone(controller_of: ControllerOf) -> None:
    """What does not change for a topic does not touch its partitions; nor does the same value set anew."""
    own = image_of([1, 2], [state((1, 2), (1,), elr=(2,))], min_isr=1, topic_configs={"min.insync.replicas": "2"})
    assert len(controller_of(own).decide(AlterConfigs((broker_set("", "min.insync.replicas", "3"),)), 0.1).records) == 1
    assert controller_of(own).decide(AlterConfigs((topic_set("min.insync.replicas", "2"),)), 0.1).records == ()


def test_allowing_unclean_election_elects(controller_of: ControllerOf) -> None:
    """Who allows records to be lost wants the partition back now."""
    image = image_of([1, broker_record(2, 2, fenced=True)], [state((1, 2), (2,), leader=NO_LEADER)], min_isr=1)
    decision = controller_of(image).decide(AlterConfigs((topic_set("unclean.leader.election.enable", "true"),)), 0.1)
    assert decision.records == (
        topic_record("unclean.leader.election.enable", "true"),
        PartitionChange(TOPIC_ID, 0, 1, isr=(1,), leader=1, leader_epoch=1),
    )
