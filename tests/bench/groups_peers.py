"""The cluster that groups are measured on: ours, or Apache Kafka for a comparison; and how figures are put."""

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import click

from quorumlog.testing import LocalCluster
from tests.clients.kafka_peer import KafkaCluster

F = TypeVar("F", bound=Callable[..., Any])
Round = dict[str, object]


class Cluster(Protocol):
    @property
    def bootstrap_servers(self) -> str: ...
    def kill(self, node_id: int) -> None: ...
    def start(self, node_id: int) -> None: ...


@contextmanager
def cluster_on(peer: str, settings: Mapping[str, object]) -> Iterator[Any]:
    """Three nodes with settings by Kafka's names; everything else as each has it by default."""
    if peer == "kafka":
        common = {"auto.leader.rebalance.enable": "false", "offsets.topic.num.partitions": "50"}
        with KafkaCluster(settings=common | {name: str(value) for name, value in settings.items()}) as kafka:
            yield kafka
    else:
        ours = {name.replace(".", "_"): value for name, value in settings.items()}
        with LocalCluster(nodes=3, settings={"leader_rebalance_interval_s": 0} | ours) as cluster:
            yield cluster


def peer_option(command: F) -> F:
    return click.option("--on", "peer", type=click.Choice(["quorumlog", "kafka"]), default="quorumlog", show_default=True)(
        command
    )


def output_option(command: F) -> F:
    return click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)(command)


def told(output: str, rounds: Iterable[Round]) -> list[Round]:
    """The rounds, each shown when it is measured if somebody looks on."""
    results: list[Round] = []
    for one in rounds:
        results.append(one)
        if output == "table":
            click.echo(f"round {len(results):2}: {one}")
    return results


def show(output: str, title: str, summary: Round, rounds: Sequence[Round] = ()) -> None:
    """What all comes to."""
    found = {"measured": title, "summary": summary, "rounds": list(rounds)}
    click.echo(json.dumps(found) if output == "json" else f"{title}: {summary}")


def median_and_worst(rounds: Iterable[Mapping[str, Any]], *names: str) -> dict[str, float]:
    """Of each figure `x_s`: its `x_median_s` and `x_worst_s`."""
    rounds = list(rounds)
    summary: dict[str, float] = {}
    for name in names:
        figures = [float(one[name]) for one in rounds]
        stem = name.removesuffix("_s")
        summary[f"{stem}_median_s"] = round(statistics.median(figures), 3)
        summary[f"{stem}_worst_s"] = round(max(figures), 3)
    return summary
