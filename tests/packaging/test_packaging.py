"""What a user gets who installs the wheel: one package, complete, typed, with its command."""

import configparser
import importlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(marker.parent.name for marker in ROOT.glob("*/py.typed"))
SHIPPED = ("*.py", "*.pyi", "*.proto", "py.typed")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from a copy of the sources so that the build leaves nothing in the working tree."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(target),
        ".",
    ]
    subprocess.run(build, cwd=source, check=True, timeout=100)
    [path] = target.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_only_one_top_level_package(wheel: zipfile.ZipFile) -> None:
    """Installing puts no package called node or cli into anyone's site-packages."""
    top_level = {name.split("/")[0] for name in wheel.namelist()}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"quorumlog"}


def test_every_source_file_is_shipped(wheel: zipfile.ZipFile) -> None:
    """A folder missing from pyproject.toml would work in the working tree and fail for the user."""
    sources = {path for package in PACKAGES for pattern in SHIPPED for path in (ROOT / package).rglob(pattern)}
    expected = {f"quorumlog/{path.relative_to(ROOT)}" for path in sources}
    shipped = {name for name in wheel.namelist() if name.startswith("quorumlog/")}
    assert shipped == expected


def test_type_markers_and_generated_code_are_shipped(wheel: zipfile.ZipFile) -> None:
    """Type checkers see our types, and nobody needs protoc to install."""
    names = wheel.namelist()
    assert {f"quorumlog/{package}/py.typed" for package in PACKAGES} <= set(names)
    for source in (ROOT / "proto").glob("*.proto"):
        assert f"quorumlog/proto/{source.stem}_pb2.py" in names
        assert f"quorumlog/proto/{source.stem}_pb2.pyi" in names


def test_licence_is_shipped(wheel: zipfile.ZipFile) -> None:
    """The wheel carries the licence it is under."""
    [licence] = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_console_script_leads_to_a_function(wheel: zipfile.ZipFile) -> None:
    """The quorumlog command starts something that exists."""
    [entry_points] = [name for name in wheel.namelist() if name.endswith("/entry_points.txt")]
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(entry_points).decode())
    assert set(parser["console_scripts"]) == {"quorumlog"}
    module, _, function = parser["console_scripts"]["quorumlog"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
