"""The container's command passes signals on and ends as the node ends, whenever the signal comes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.compose.stack import ROOT

FAKE = f"""#!{sys.executable} -S
# In the place of python: takes `-m quorumlog.node format ...` and `-m quorumlog.node run`.
import os, signal, sys
step = sys.argv[3]
if step == "run":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print(step, flush=True)
if os.environ["WAITS_IN"] == step:
    signal.pause()
sys.exit(int(os.environ["STATUS"]) if step == "run" else 0)
"""


@contextmanager
def container(tmp_path: Path, *, waits_in: str = "", status: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """The command, with a node that waits for a signal in one of its two steps, or ends by itself with a status."""
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "WAITS_IN": waits_in, "STATUS": str(status)}
    environment |= {f"QUORUMLOG_{name}": "x" for name in ("DATA_DIR", "CLUSTER_ID", "NODE_ID")}
    with subprocess.Popen(["sh", str(ROOT / "container.sh")], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_step(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("status", [0, 3])
def test_it_formats_and_runs_and_ends_as_the_node_ends(tmp_path: Path, status: int) -> None:
    """A node that ends by itself decides the container's status."""
    with container(tmp_path, status=status) as process:
        assert [next_step(process), next_step(process)] == ["format", "run"]
        assert process.wait(10) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_node_is_stopped_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """The node hears of the signal, and the command waits for it."""
    with container(tmp_path, waits_in="run") as process:
        assert [next_step(process), next_step(process)] == ["format", "run"]
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_stop_before_the_node_runs_is_heard(tmp_path: Path) -> None:
    """No node is started any more, and nobody has to wait for the engine's SIGKILL."""
    with container(tmp_path, waits_in="format") as process:
        assert next_step(process) == "format"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
        assert next_step(process) == ""
