"""Benchmarks: commands that print what they measured. `python -m tests.bench failover | throughput | start | groups`."""

import sys

import click

from tests.bench import failover, groups, start, throughput


@click.group()
def main() -> None:
    """Measure quorumlog on this machine."""


main.add_command(failover.command)
main.add_command(throughput.command)
main.add_command(start.command)
main.add_command(groups.command)

if __name__ == "__main__":
    main(prog_name="python -m tests.bench") if len(sys.argv) > 1 else main(["failover"], prog_name="python -m tests.bench")
