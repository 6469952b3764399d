"""The command group: what it lists, what it hands over to the node program, how fast it answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quorumlog.cli.main import COMMANDS
from tests.cli.conftest import Run


def test_help_lists_every_command(run: Run) -> None:
    """An operator finds all commands, those that are imported late too."""
    result = run("--help")
    assert result.exit_code == 0
    for command in [*COMMANDS, "format", "node", "rebuild"]:
        assert f"  {command} " in result.output


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_late_import_leads_to_a_command(run: Run, command: str) -> None:
    """The table of commands names no module or attribute that is not there."""
    result = run(command, "--help")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: quorumlog {command}")


def test_version(run: Run) -> None:
    """The version is the installed one."""
    assert "quorumlog, version " in run("--version").output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    """Each shell gets a script that asks this program for completions."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_QUORUMLOG_COMPLETE" in result.output


def test_unknown_words_are_usage_errors(run: Run) -> None:
    """Usage errors have status 2, as everywhere."""
    assert run("nonsense").exit_code == 2
    assert run("topics", "create").exit_code == 2


@pytest.mark.parametrize(
    ("words", "handed_over"),
    [
        (
            ["format", "--data-dir", "D", "--cluster-id", "C", "--node-id", "1"],
            ["format", "--data-dir", "D", "--cluster-id", "C", "--node-id", "1"],
        ),
        (["node", "--config", "F", "--set", "rack=a"], ["run", "--config", "F", "--set", "rack=a"]),
        (["rebuild", "--data-dir", "D"], ["rebuild", "--data-dir", "D"]),
        (["node", "--help"], ["run", "--help"]),
    ],
)
def test_node_commands_become_the_node_program(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], handed_over: list[str]
) -> None:
    """The same process turns into the node, with the words as they were given."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, command: calls.append((program, command)))
    run(*words)
    assert calls == [(sys.executable, [sys.executable, "-P", "-m", "quorumlog.node", *handed_over])]


def test_help_imports_nothing_heavy() -> None:
    """Completion at each key press needs a quick start: no Kafka client, no rich, no certificates, no asyncio."""
    script = "import sys, quorumlog.cli.main; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert not {"confluent_kafka", "rich", "cryptography", "asyncio", "tenacity"} & set(output.split())


def test_known_failures_are_one_line(tmp_path: Path) -> None:
    """No traceback for what an operator can get wrong; status 1."""
    command = [sys.executable, "-m", "quorumlog.cli.main", "local", "status", "--dir", str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: no cluster in ") and result.stderr.count("\n") == 1
