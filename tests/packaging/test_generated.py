"""The generated protobuf modules say what the .proto files say. `make proto` mends a difference; `make verify` runs this file."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"


def generated_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for pattern in ("*_pb2.py", "*_pb2.pyi") for path in sorted(folder.glob(pattern))}


def test_generated_modules_match_the_proto_files(tmp_path: Path) -> None:
    """Nobody edited a generated module by hand, forgot to generate one, or left one behind whose source is gone."""
    pytest.importorskip("grpc_tools", reason="the generator comes with the dev extra")
    sources = sorted(str(path.relative_to(ROOT)) for path in PROTO.glob("*.proto"))
    assert sources, "no .proto file found"
    protoc = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-Iquorumlog/proto=proto",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
    ]
    subprocess.run([*protoc, *sources], cwd=ROOT, check=True, timeout=60)
    assert generated_in(PROTO) == generated_in(tmp_path / "quorumlog" / "proto"), "run: make proto"
