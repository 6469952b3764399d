"""What the tests of the commands share: a runner that sees the errors as main() prints them, and librdkafka's mock cluster."""

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from quorumlog.cli.main import quorumlog

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs `quorumlog` with words, and optionally a standard input."""

    def call(*words: object, text: str | bytes | None = None) -> Result:
        return CliRunner().invoke(quorumlog, [str(word) for word in words], input=text, prog_name="quorumlog")

    return call


@pytest.fixture(scope="module")
def mock_cluster() -> Iterator[str]:
    """Bootstrap servers of librdkafka's own mock brokers, which live as long as this producer: produce, fetch, list offsets."""
    owner = Producer({"test.mock.num.brokers": 3, "log_level": 2})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.flush(5)
