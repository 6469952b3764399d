"""What it was measured on: a figure without its machine and versions says nothing."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import confluent_kafka
import psutil


def describe(data_directory: Path) -> dict[str, str]:
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "disk": _file_system(data_directory),
        "system": f"{_distribution()}, Linux {platform.release()}",
        "Python": platform.python_version(),
        "client": f"librdkafka {confluent_kafka.libversion()[0]} (confluent-kafka {version('confluent-kafka')})",
    }


def java_version() -> str:
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return told.splitlines()[0].replace('"', "") if told else "no java"


def load_average() -> float:
    """What was running in the last minute: much of it before a run makes its figures worthless."""
    return os.getloadavg()[0]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "an unknown distribution")


def _file_system(directory: Path) -> str:
    """The type of the file system: on a tmpfs an fsync costs nothing."""
    place = directory.resolve()
    mounts = [each for each in psutil.disk_partitions(all=True) if place.is_relative_to(each.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype
