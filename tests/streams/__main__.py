"""`python -m tests.streams`: stream engines judge exactly-once. Exits with 1 when something was wrong, or not run and CI=true."""

import argparse
import os
import random
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clients.cache import LackingError
from tests.clients.peers import PEERS
from tests.streams.engines import ENGINES
from tests.streams.lines import work
from tests.streams.run import Plan, Result, run

KEPT = Path(__file__).parents[2] / ".run" / "streams"
ENDLESS = 1_000_000
QUICK = {"rows": 3_000, "minutes": 0.2, "kills": 1}
USUAL = {"rows": 20_000, "minutes": 1.0, "kills": ENDLESS}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.streams", description=__doc__)
    parser.add_argument("--engine", default="", help=f"of {','.join(ENGINES)}; all by default, side by side")
    parser.add_argument("--rows", type=int, help=f"so many order lines, {USUAL['rows']} by default")
    parser.add_argument("--minutes", type=float, help=f"over which they are produced, {USUAL['minutes']} by default")
    parser.add_argument("--kills", type=int, help="at most so many, while lines are produced; 0 for none, no limit by default")
    parser.add_argument("--seed", type=int, help="draws who is killed and when")
    parser.add_argument("--peer", choices=PEERS, default="quorumlog", help="the cluster that they work on")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK['rows']} lines in {QUICK['minutes'] * 60:.0f} s, one kill")
    chosen = parser.parse_args()
    for name, value in (QUICK if chosen.quick else USUAL).items():
        if getattr(chosen, name) is None:
            setattr(chosen, name, value)
    return chosen


def main() -> int:
    chosen = arguments()
    names = [name for name in chosen.engine.split(",") if name] or list(ENGINES)
    if unknown := sorted(set(names) - set(ENGINES)):
        print(f"no such engine: {', '.join(unknown)}; there are {', '.join(ENGINES)}", file=sys.stderr)
        return 2
    # A time limit ends us by SIGTERM: the nodes must go with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(random.randrange(1 << 32) if chosen.seed is None else chosen.seed, chosen.minutes * 60, chosen.kills)
    directory = KEPT / f"{chosen.peer}-{plan.seed}"
    shutil.rmtree(directory, ignore_errors=True)
    print(f"seed {plan.seed}; logs in {directory}", file=sys.stderr, flush=True)
    try:
        result = played(chosen.peer, names, chosen.rows, plan, directory)
    except LackingError as error:
        print(f"NOT RUN: {error}", file=sys.stderr)
        return int(os.environ.get("CI") == "true")
    show(result)
    return int(not result.is_clean)


def played(peer_name: str, names: Sequence[str], rows: int, plan: Plan, directory: Path) -> Result:
    orders = work(rows, random.Random(plan.seed))
    with PEERS[peer_name]() as peer:
        result = run(peer, [ENGINES[name] for name in names], orders, plan, directory)
        if not result.is_clean:
            for node_id in (1, 2, 3):
                (directory / f"node-{node_id}.log").write_text(peer.log(node_id))
    for state in directory.glob("state-*"):
        shutil.rmtree(state, ignore_errors=True)
    return result


def show(result: Result) -> None:
    print(f"{result.peer}, seed {result.seed}: {len(result.work.lines)} {result.work.source} in {result.fed_s:.0f} s, ", end="")
    print(f"{len(result.strikes)} killed, {result.took_s:.0f} s in all")
    for course in result.courses:
        engine = course.engine
        when = "never done" if course.ready_s is None else f"done after {course.ready_s:.0f} s"
        print(
            f"{engine.name} {engine.version}: {when}; ended by itself {engine.died} times, stood still {course.standstills} times"
        )
        for complaint in sorted(set(engine.complaints)):
            print(f"  a thread of it began anew after {engine.complaints.count(complaint)} x {complaint}")
        for sentence in course.wrong:
            print(f"WRONG: {engine.name}: {sentence}")
    for sentence in result.wrong:
        print(f"WRONG: {sentence}")
    if result.is_clean:
        print("equal to the batch computation: none lost, none twice")


if __name__ == "__main__":
    sys.exit(main())
