"""File systems whose power can be cut: ext4 in image files on loop devices. Needs root.

FS_IOC_SHUTDOWN without a log flush drops whatever was not synced, and lets every later write fail with EIO; after the next
mount only synced bytes are there, as after a real power cut.
"""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)
IMAGE_BYTES = 256 << 20
RELEASE_TIMEOUT_S = 20.0


class Images:
    """One mounted image for each directory, from `with` to its end. Whoever uses the directories has let go of them by then."""

    def __init__(self, directory: Path, mount_points: Iterable[Path], *, image_bytes: int = IMAGE_BYTES) -> None:
        self._image_bytes = image_bytes
        self._images = {point: directory / f"{point.name}.ext4" for point in mount_points}
        self._mounted: list[Path] = []

    def __enter__(self) -> Self:
        try:
            for point, image in self._images.items():
                point.mkdir(parents=True, exist_ok=True)
                with image.open("wb") as file:
                    file.truncate(self._image_bytes)
                _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-m", "0", str(image))
                self._mount(point)
        except BaseException:
            self._unmount_all()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self._unmount_all()

    def cut_power(self, *points: Path) -> None:
        """Of these file systems, one right after the other; of all without an argument."""
        descriptors = [os.open(point, os.O_RDONLY | os.O_DIRECTORY) for point in points or self._images]
        try:
            for descriptor in descriptors:
                fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def mount_again(self, *points: Path) -> None:
        """What is there after the power is back. Nobody may have files open."""
        for point in points or tuple(self._images):
            self._unmount(point)
            self._mount(point)

    def _mount(self, point: Path) -> None:
        _run("mount", "-o", "loop", str(self._images[point]), str(point))
        self._mounted.append(point)

    def _unmount(self, point: Path) -> None:
        self._wait_let_go(point)
        self._mounted.remove(point)
        self._wait_released(self._images[point])

    def _wait_let_go(self, point: Path) -> None:
        """Unmount it. Of a process that was killed just now the kernel may still be closing files."""
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while True:
            try:
                _run("umount", str(point))
                return
            except OSError as error:
                if "busy" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def _wait_released(self, image: Path) -> None:
        """A process that was just put into a mount namespace of its own, a container for instance, may hold a copy of the mount
        for a moment. Mounted again before it lets go, the image would be the same file system still, without power."""
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while _run("losetup", "--associated", str(image)):
            if time.monotonic() > deadline:
                raise OSError(f"{image} is unmounted, but still in use after {RELEASE_TIMEOUT_S:g} s")
            time.sleep(0.05)

    def _unmount_all(self) -> None:
        for point in list(self._mounted):
            self._unmount(point)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
