"""What a node's process says when it cannot start."""

import subprocess
import sys
from pathlib import Path


def test_a_damaged_snapshot_of_the_quorum_is_refused_in_one_sentence(tmp_path: Path) -> None:
    node = [sys.executable, "-m", "quorumlog.node"]
    made = [*node, "format", "--data-dir", str(tmp_path), "--cluster-id", "c", "--node-id", "1"]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    (tmp_path / "raft").mkdir()
    (tmp_path / "raft" / "snapshot").write_bytes(b"rotten")
    settings = {"node_id": "1", "cluster_id": "c", "data_dir": str(tmp_path), "voters": "1@127.0.0.1:9"}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    ended = subprocess.run([*node, "run", *words], check=False, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "raft/snapshot is unreadable" in ended.stderr
    assert "Traceback" not in ended.stderr
