"""A node's settings: sources, precedence, refusals."""

from pathlib import Path

import pytest

from quorumlog.node.config import ConfigError, load_config, parse_voters

LEAST = {"node_id": "1", "cluster_id": "c", "data_dir": "d", "voters": "1@127.0.0.1:1"}


def test_later_sources_win(tmp_path: Path) -> None:
    """Arguments beat the environment, which beats the file, which beats the default."""
    file = tmp_path / "node.toml"
    file.write_text("num_partitions = 2\nsession_timeout_ms = 3000\nrack = 'file'\n")
    environment = {"QUORUMLOG_NUM_PARTITIONS": "3", "QUORUMLOG_RACK": "environment"}
    config = load_config(file=str(file), environment=environment, overrides=LEAST | {"rack": "argument"})
    assert (config.num_partitions, config.session_timeout_ms, config.rack) == (3, 3000, "argument")
    assert config.heartbeat_interval_ms == 300


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"sesion_timeout_ms": "1"}, "unknown setting 'sesion_timeout_ms'"),
        ({"session_timeout_ms": "soon"}, "session_timeout_ms is 'soon'; expected int"),
        ({"session_timeout_ms": "5"}, "session_timeout_ms is 5; the least allowed is 200"),
        ({"flush_policy": "never"}, "allowed are fsync, os"),
        ({"auto_create_topics": "perhaps"}, "auto_create_topics is 'perhaps'; expected bool"),
        ({"kafka_listen": "nowhere"}, "kafka_listen is 'nowhere'; expected host:port"),
        ({"voters": "1@a:1,2@b:2"}, "voters names 2 nodes"),
        ({"voters": "1@a:1,1@b:2,3@c:3"}, "voters names node 1 twice"),
        ({"voters": ""}, "voters names 0 nodes"),
        ({"election_timeout_max_ms": "400"}, "must be more than election_timeout_min_ms"),
        ({"heartbeat_interval_ms": "1500"}, "at least twice heartbeat_interval_ms"),
    ],
)
def test_a_wrong_setting_is_named(setting: dict[str, str], message: str) -> None:
    """A refusal says which setting, what was seen and what is allowed."""
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        load_config(environment={}, overrides=LEAST | setting)


def test_a_missing_setting_is_named() -> None:
    """Without a node id nothing can start."""
    with pytest.raises(ConfigError, match="node_id is not set"):
        load_config(environment={}, overrides={name: value for name, value in LEAST.items() if name != "node_id"})


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    """The error names the file."""
    file = tmp_path / "node.toml"
    file.write_text("node_id 1")
    with pytest.raises(ConfigError, match=r"node\.toml is not TOML"):
        load_config(file=str(file), environment={}, overrides=LEAST)


def test_voters_are_read_in_order() -> None:
    """Ids and addresses come as written, brackets of IPv6 hosts aside."""
    voters = parse_voters("3@c:3, 1@[::1]:1,2@b:2")
    assert list(voters) == [3, 1, 2]
    assert voters[1].host == "::1"


def test_replicas_by_default_follow_the_voters() -> None:
    """Three replicas, or fewer where there are fewer nodes."""
    one = load_config(environment={}, overrides=LEAST)
    five = load_config(environment={}, overrides=LEAST | {"voters": ",".join(f"{n}@h:{n}" for n in range(1, 6))})
    assert (one.replication_factor_default, five.replication_factor_default) == (1, 3)
