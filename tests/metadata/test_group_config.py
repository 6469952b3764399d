"""The settings of groups: which value counts, and what is refused."""

from dataclasses import fields

import pytest
from immutables import Map

from quorumlog.metadata.group_config import (
    COORDINATOR_SETTINGS,
    GroupConfig,
    check_coordinator_config,
    describe_group_config,
    effective_group_config,
)
from quorumlog.metadata.image import Image
from quorumlog.metadata.machine import dump_image, load_image
from quorumlog.metadata.records import ConfigRecord, ResourceKind
from quorumlog.metadata.requests import AlterConfigs, AlterConfigsReply, ConfigChange, ConfigOperation, ResourceChanges
from quorumlog.metadata.settings import SettingSource
from quorumlog.wire.errors import ClusterError, ErrorCode

from .conftest import ControllerOf
from .given import image_of

SET, DELETE, APPEND, _ = ConfigOperation
SESSION, HEARTBEAT = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"


def with_group(**given: str) -> Image:
    return Image("test", group_configs=Map({"readers": Map({name.replace("_", "."): value for name, value in given.items()})}))


def group_set(*pairs: tuple[str, str | None], operation: ConfigOperation = SET) -> AlterConfigs:
    changes = tuple(ConfigChange(key, operation, value) for key, value in pairs)
    return AlterConfigs((ResourceChanges(ResourceKind.GROUP, "readers", changes),))


def test_table_and_dataclass_say_the_same() -> None:
    """Each field is a setting of coordinators, with the same default."""
    assert {field.name.replace("_", ".") for field in fields(GroupConfig)} <= set(COORDINATOR_SETTINGS)
    assert effective_group_config(Image("test"), "any", {}, 1) == GroupConfig()


def test_the_nearest_value_counts() -> None:
    """The group's own, else the broker's, else the default; other groups do not see it."""
    static = {"group.consumer.session.timeout.ms": "50000", "group.max.size": "7", "group.consumer.assignors": "range"}
    image = with_group(consumer_session_timeout_ms="55000")
    readers, others = (effective_group_config(image, name, static, 1) for name in ("readers", "others"))
    assert (readers.group_consumer_session_timeout_ms, others.group_consumer_session_timeout_ms) == (55_000, 50_000)
    assert readers.group_max_size == others.group_max_size == 7
    assert others.group_consumer_assignors == ("range",)
    assert others.group_consumer_heartbeat_interval_ms == 5_000


def test_a_value_beyond_this_brokers_bounds_becomes_the_nearest_within() -> None:
    """Bounds can change with a restart; a group that was given a value before must still be served."""
    image = with_group(consumer_session_timeout_ms="55000")
    static = {"group.consumer.max.session.timeout.ms": "50000"}
    assert effective_group_config(image, "readers", static, 1).group_consumer_session_timeout_ms == 50_000


def test_a_group_has_its_settings_altered(controller_of: ControllerOf) -> None:
    """Also one that does not exist yet; what is taken back is gone, and a snapshot holds what is left."""
    controller = controller_of(image_of())
    set_both = controller.decide(group_set((SESSION, "60000"), (HEARTBEAT, "6000")), 0.1)
    assert set_both.records == (
        ConfigRecord(ResourceKind.GROUP, "readers", SESSION, "60000"),
        ConfigRecord(ResourceKind.GROUP, "readers", HEARTBEAT, "6000"),
    )
    controller.decide(group_set((SESSION, None), operation=DELETE), 0.2)
    assert controller.image.group_configs == Map({"readers": Map({HEARTBEAT: "6000"})})
    assert load_image(dump_image(controller.image)).group_configs == controller.image.group_configs
    controller.decide(group_set((HEARTBEAT, None), operation=DELETE), 0.3)
    assert controller.image.group_configs == Map()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        (SESSION, "44999", "45000 to 60000"),
        (SESSION, "60001", "45000 to 60000"),
        (HEARTBEAT, "4999", "5000 to 15000"),
        (HEARTBEAT, "soon", "whole number"),
        ("share.session.timeout.ms", "50000", f"known are {HEARTBEAT}, {SESSION}"),
    ],
)
def test_refusals_name_what_is_allowed(controller_of: ControllerOf, key: str, value: str, sentence: str) -> None:
    """Bounds are the brokers'."""
    decision = controller_of(image_of()).decide(group_set((key, value)), 0.1)
    assert isinstance(decision.reply, AlterConfigsReply) and decision.records == ()
    (result,) = decision.reply.resources
    assert result.error_code is ErrorCode.invalid_config and sentence in (result.error_message or "")


def test_a_node_with_contradictions_does_not_start() -> None:
    """A default that groups could not be given, and a session that ends before its first heartbeat."""
    check_coordinator_config({})
    for static in (
        {"group.consumer.session.timeout.ms": "10000"},
        {"group.consumer.min.session.timeout.ms": "1000", "group.consumer.session.timeout.ms": "5000"},
        {"group.consumer.assignors": "sticky"},
        {"group.max.size": "0"},
    ):
        with pytest.raises(ClusterError) as refused:
            check_coordinator_config(static)
        assert refused.value.code is ErrorCode.invalid_config


def test_descriptions_say_where_a_value_comes_from() -> None:
    """GROUP for the group's own; what the broker has is the default, as Kafka shows it."""
    image = with_group(consumer_session_timeout_ms="55000")
    entries = describe_group_config(image, "readers", {"group.consumer.heartbeat.interval.ms": "6000"})
    assert [(entry.name, entry.value, entry.source) for entry in entries] == [
        (HEARTBEAT, "6000", SettingSource.DEFAULT),
        (SESSION, "55000", SettingSource.GROUP),
    ]
    assert [one.source for one in entries[1].synonyms] == [SettingSource.GROUP, SettingSource.DEFAULT]
