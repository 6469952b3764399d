"""The compose target tells when the containers did not do what they must."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import compose_target
from tests.chaos.compose_target import ComposeTarget
from tests.chaos.targets import Target, TargetError

NODES = (1, 2, 3)


class FakeStack:
    """Containers as the engine would describe them."""

    def __init__(self, _compose: Sequence[str], *, overrides: Path, **_: object) -> None:
        self.settings = json.loads(overrides.read_text())
        self.found: dict[int, dict[str, Any]] = {
            node: {"RestartCount": 0, "State": {"Running": False, "Paused": False, "ExitCode": 0}} for node in NODES
        }
        self.code_of_stop = 0
        self.killed: list[int] = []

    def up(self) -> None:
        self.start(*NODES)

    def build(self) -> None: ...

    def down(self) -> None: ...

    def http(self, node: int) -> str:
        return f"node-{node}"

    def inspect(self, nodes: Sequence[int]) -> dict[int, dict[str, Any]]:
        return {node: self.found[node] for node in nodes}

    def start(self, *nodes: int) -> None:
        self._set(nodes, Running=True)

    def stop(self, *nodes: int) -> None:
        self._set(nodes, Running=False, ExitCode=self.code_of_stop)

    def kill(self, *nodes: int) -> None:
        assert all(self.found[node]["State"]["Running"] for node in nodes), "the engine refuses to kill what does not run"
        self.killed += nodes
        self._set(nodes, Running=False, Paused=False, ExitCode=137)

    def pause(self, node: int) -> None:
        self._set([node], Paused=True)

    def unpause(self, node: int) -> None:
        assert self.found[node]["State"]["Paused"], "the engine refuses to resume what was not paused"
        self._set([node], Paused=False)

    def log_tail(self, node: int, _lines: int) -> str:
        return f"last words of {node}"

    def _set(self, nodes: Sequence[int], **state: object) -> None:
        for node in nodes:
            self.found[node]["State"] |= state


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    """The fake that the next target takes."""
    made: list[FakeStack] = []

    def make(*arguments: Any, **options: Any) -> FakeStack:
        if not made:
            made.append(FakeStack(*arguments, **options))
        return made[0]

    monkeypatch.setattr(compose_target, "compose_command", lambda: ["compose"])
    monkeypatch.setattr(compose_target, "Stack", make)
    monkeypatch.setattr(compose_target, "unreadiness", lambda _address: "")
    target = ComposeTarget({"segment_bytes": "4096"})
    target.close()
    return made[0]


@pytest.fixture
def target(stack: FakeStack) -> Iterator[Target]:
    """Three containers that run and are ready."""
    target = ComposeTarget({"segment_bytes": "4096"})
    target.start()
    yield target
    target.close()


def test_every_node_has_the_settings(stack: FakeStack) -> None:
    """As the environment variables that a container reads."""
    environment = {"QUORUMLOG_SEGMENT_BYTES": "4096"}
    assert stack.settings["services"] == {f"node-{node}": {"environment": environment} for node in NODES}


@pytest.mark.parametrize("state", [{"RestartCount": 2}, {"State": {"Running": False, "Paused": False, "ExitCode": 3}}])
def test_a_node_that_ended_by_itself_does_not_pass_unseen(target: Target, stack: FakeStack, state: dict[str, Any]) -> None:
    """Whether the engine has started it again or not, before the next fault on another node hides it."""
    stack.found[2] |= state
    with pytest.raises(TargetError, match=r"node 2 ended by itself.*\nlast words of 2"):
        target.wait_ready(1)
    with pytest.raises(TargetError, match="node 2 ended by itself"):
        target.kill(1)


def test_what_was_killed_or_stopped_may_lie(target: Target, stack: FakeStack) -> None:
    """And what lies already is not killed again."""
    target.kill(1, 2)
    target.kill(2, 3)
    target.wait_ready(1)
    assert stack.killed == [1, 2, 3]
    assert [target.is_running(node) for node in NODES] == [False, False, False]


def test_a_node_is_resumed_only_if_it_was_paused(target: Target) -> None:
    """Healing resumes every node, and a killed one is not paused any more."""
    target.pause(1)
    target.pause(2)
    target.kill(2)
    for node in NODES:
        target.resume(node)
    assert target.is_running(1)
    assert not target.is_running(2)


@pytest.mark.parametrize("code", [137, 1])
def test_a_stop_that_was_not_clean_is_told(target: Target, stack: FakeStack, code: int) -> None:
    """137 is the engine's SIGKILL after the grace period."""
    stack.code_of_stop = code
    with pytest.raises(TargetError, match=rf"exit codes after a clean stop: .*{code}"):
        target.stop()


@pytest.mark.parametrize("code", [0, 143])
def test_a_clean_stop_is_silent(target: Target, stack: FakeStack, code: int) -> None:
    """143 is a node that SIGTERM met before it had started."""
    stack.code_of_stop = code
    target.stop_node(2)
    target.stop()
    assert not any(target.is_running(node) for node in NODES)


def test_without_an_engine_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is left out in silence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match="no container engine"):
        ComposeTarget()
