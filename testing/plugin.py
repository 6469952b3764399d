"""The pytest plugin: the fixture `quorumlog_cluster`, set up by the marker `quorumlog`.

@pytest.mark.quorumlog(nodes=1, settings={"num_partitions": 6})
def test_orders(quorumlog_cluster):
    producer = Producer({"bootstrap.servers": quorumlog_cluster.bootstrap_servers})
"""

from collections.abc import Generator, Iterator

import pytest

from quorumlog.testing import LocalCluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "quorumlog(nodes, directory, base_port, settings): how LocalCluster makes the fixture quorumlog_cluster"
    )


@pytest.fixture
def quorumlog_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster of real node processes, three unless the marker `quorumlog` says otherwise, for one test."""
    marker = request.node.get_closest_marker("quorumlog")
    with LocalCluster(**(marker.kwargs if marker else {})) as cluster:
        yield cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last lines of each node's log with a failed test: the directory is gone when the reader looks for it."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("quorumlog_cluster")
    if report.when == "call" and report.failed and isinstance(cluster, LocalCluster):
        report.sections += [(f"log of quorumlog node {node.node_id}", node.log_tail()) for node in cluster.nodes]
    return report
