"""produce and consume against librdkafka's mock brokers: keys, start points, limits, and how failures are told."""

import datetime
import json

import pytest
from click import BadParameter
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Producer

from quorumlog.cli.consume import StartTime, start_point
from quorumlog.cli.produce import LineError, key_before, key_from_field
from tests.cli.conftest import Run


@pytest.fixture
def topic(request: pytest.FixtureRequest, mock_cluster: str) -> str:
    """A topic of its own for each test, made by asking for it (the mock makes what is asked for, four partitions)."""
    name = str(request.node.name).replace("[", "-").replace("]", "")
    client = Producer({"bootstrap.servers": mock_cluster})
    assert client.list_topics(name, timeout=10).topics[name].error is None
    return name


def read(run: Run, topic: str, cluster: str, *more: object) -> list[dict[str, object]]:
    result = run("consume", topic, "--bootstrap-server", cluster, "--output", "json", *more)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_lines_come_back_with_their_keys(run: Run, mock_cluster: str, topic: str) -> None:
    """What is sent is what is read, with the key from the JSON field, and one key stays in one partition and in order."""
    lines = [json.dumps({"customer": f"c{number % 3}", "number": number}) for number in range(30)]
    sent = run(
        *("produce", topic, "--key", "customer", "--bootstrap-server", mock_cluster, "--output", "json"), text="\n".join(lines)
    )
    assert sent.exit_code == 0, sent.output
    assert json.loads(sent.output) == {"topic": topic, "acknowledged": 30, "failed": 0}
    records = read(run, topic, mock_cluster, "--until-end")
    for key in ("c0", "c1", "c2"):
        mine = [record for record in records if record["key"] == key]
        assert len({record["partition"] for record in mine}) == 1
        assert [json.loads(str(record["value"]))["number"] for record in mine] == list(range(int(key[1]), 30, 3))


def test_start_points_and_limits(run: Run, mock_cluster: str, topic: str) -> None:
    """--from an offset, the end; --partition, --max: each cuts what it should."""
    numbers = "".join(f"{number}\n" for number in range(10))
    assert run("produce", topic, "--partition", 1, "--bootstrap-server", mock_cluster, text=numbers).exit_code == 0

    def values(*more: object) -> list[object]:
        return [record["value"] for record in read(run, topic, mock_cluster, "--partition", 1, *more)]

    assert values("--until-end") == [str(number) for number in range(10)]
    assert values("--from", 7, "--until-end") == ["7", "8", "9"]
    assert values("--from", 7, "--max", 1) == ["7"]
    assert values("--from", "end", "--until-end") == []
    assert values("--from", "end", "--timeout", 0.3) == []
    assert values("--from", 10, "--until-end") == []


def test_fewer_records_than_asked_for_is_a_failure(run: Run, mock_cluster: str, topic: str) -> None:
    """A script that waits for three records learns that there were two."""
    run("produce", topic, "--bootstrap-server", mock_cluster, text="a\nb\n")
    result = run("consume", topic, "--bootstrap-server", mock_cluster, "--max", 3, "--timeout", 1)
    assert result.exit_code == 1 and "2 of 3 records within 1 s" in result.output


def test_bytes_that_are_no_text_survive(run: Run, mock_cluster: str, topic: str) -> None:
    """JSON output loses no byte: what is not UTF-8 comes in base64; a table shows it escaped."""
    assert run("produce", topic, "--bootstrap-server", mock_cluster, text=b"\xff\x00\n").exit_code == 0
    (record,) = read(run, topic, mock_cluster, "--until-end")
    assert (record["value_base64"], record["key"]) == ("/wA=", None)
    table = run("consume", topic, "--bootstrap-server", mock_cluster, "--until-end").output
    assert table.count("\t") == 3 and "\\xff" in table


def test_a_line_without_a_key_stops_with_its_number(run: Run, mock_cluster: str, topic: str) -> None:
    """The lines before it are sent and counted, the operator knows where to go on."""
    result = run("produce", topic, "--key", "id", "--bootstrap-server", mock_cluster, text='{"id": 1}\nnonsense\n')
    assert result.exit_code == 1
    assert "line 2 is not JSON" in result.output and "the 1 lines before it were sent" in result.output
    assert [record["key"] for record in read(run, topic, mock_cluster, "--until-end")] == ["1"]


def test_unknown_topics_and_partitions_are_named(run: Run, mock_cluster: str, topic: str) -> None:
    """Reading never makes a topic."""
    missing = run("consume", "no-such-topic", "--bootstrap-server", mock_cluster, "--until-end")
    assert missing.exit_code == 1 and "there is no topic 'no-such-topic'" in missing.output
    wrong = run("consume", topic, "--bootstrap-server", mock_cluster, "--partition", 9, "--until-end")
    assert wrong.exit_code == 1 and "partitions 0 to 3, not 9" in wrong.output


def test_usage_errors(run: Run) -> None:
    """Status 2 for words that make no sense, before any cluster is asked."""
    assert run("produce", "t", "--key", "a", "--key-separator", ":").exit_code == 2
    assert run("produce", "t", "--key-separator", "").exit_code == 2
    assert run("produce", "t", "--acks", "2").exit_code == 2
    assert run("consume", "t", "--from", "yesterday").exit_code == 2
    assert run("consume", "t", "--max", "0").exit_code == 2


@pytest.mark.slow
def test_an_unreachable_cluster_is_one_line(run: Run) -> None:
    """No traceback and no library's log lines."""
    result = run("topics", "list", "--bootstrap-server", "127.0.0.1:1")
    assert (result.exit_code, result.output) == (1, "Error: no node answers at 127.0.0.1:1\n")


def test_lists_and_status_of_the_mock(run: Run, mock_cluster: str, topic: str) -> None:
    """Tables and JSON carry the same rows."""
    rows = json.loads(run("topics", "list", "--bootstrap-server", mock_cluster, "--output", "json").output)
    assert {"name": topic, "partitions": 4, "replication_factor": 3, "under_replicated": 0, "leaderless": 0} in rows
    assert topic in run("topics", "list", "--bootstrap-server", mock_cluster).output
    status = json.loads(run("cluster", "status", "--bootstrap-server", mock_cluster, "--output", "json").output)
    assert [node["id"] for node in status["nodes"]] == [1, 2, 3]
    assert sum(node["leads"] for node in status["nodes"]) == status["partitions"]
    assert "127.0.0.1" in run("cluster", "status", "--bootstrap-server", mock_cluster).output


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("beginning", OFFSET_BEGINNING),
        ("end", OFFSET_END),
        ("0", 0),
        ("20250131", 20250131),
        ("2025-01-31T12:00:00Z", StartTime(1738324800000)),
        ("2025-01-31T12:00:00.5+01:00", StartTime(1738321200500)),
    ],
)
def test_start_point(text: str, meant: object) -> None:
    """Digits are always an offset; times carry their zone."""
    assert start_point(text) == meant


def test_a_time_without_a_zone_is_local() -> None:
    """As an operator reads it on the clock."""
    local = datetime.datetime(2025, 1, 31, 12).astimezone()
    assert start_point("2025-01-31T12:00:00") == StartTime(round(local.timestamp() * 1000))


@pytest.mark.parametrize("text", ["", "-5", "1.5", "2025-13-01"])
def test_start_points_that_are_none(text: str) -> None:
    """The error says what is allowed."""
    with pytest.raises(BadParameter, match="neither 'beginning', 'end', an offset, nor a time"):
        start_point(text)


def test_keys_of_lines() -> None:
    """A text is the key as it is, other values in JSON's spelling; null is no key; separators split once."""
    assert key_from_field("id")(b'{"id": "x y"}') == (b"x y", b'{"id": "x y"}')
    assert key_from_field("id")(b'{"id": 7}')[0] == b"7"
    assert key_from_field("id")(b'{"id": null}')[0] is None
    assert key_before(":")(b"a:b:c") == (b"a", b"b:c")
    assert key_before("::")(b"::v") == (b"", b"v")
    for line in (b"[1]", b'{"other": 1}', b"{", b"\xff"):
        with pytest.raises(LineError):
            key_from_field("id")(line)
    with pytest.raises(LineError, match="has no separator ':'"):
        key_before(":")(b"abc")
