"""A file system of its own for every node: what fills up, and what loses power. Needs root."""

import os
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.images import Images

IMAGE_BYTES = 2 << 30  # sparse: only what is written takes room on this machine
SMALLEST_PIECE_BYTES = 4096


class LocalDisks:
    """One mounted image a node, from its making to `close`. Implements `targets.Disks`."""

    def __init__(self, directory: Path, points: Mapping[int, Path]) -> None:
        """Raises OSError if this machine lets us mount nothing; nothing is left behind then."""
        self._points = dict(points)
        self._images = Images(directory, self._points.values(), image_bytes=IMAGE_BYTES)
        self._images.__enter__()

    def fill(self, node: int) -> None:
        """Allocates without writing, so that it takes no time and no room outside the image."""
        descriptor = os.open(self._filler(node), os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            _allocate_all(descriptor, self._points[node])
        finally:
            os.close(descriptor)

    def free(self, node: int) -> None:
        self._filler(node).unlink(missing_ok=True)

    def cut_power(self, *nodes: int) -> None:
        self._images.cut_power(*(self._points[node] for node in nodes))

    def mount_again(self, *nodes: int) -> None:
        self._images.mount_again(*(self._points[node] for node in nodes))

    def close(self) -> None:
        self._images.__exit__(None, None, None)

    def _filler(self, node: int) -> Path:
        return self._points[node] / "lost+found" / "filler"


def _allocate_all(descriptor: int, point: Path) -> None:
    piece = IMAGE_BYTES
    while piece >= SMALLEST_PIECE_BYTES:
        end = os.fstat(descriptor).st_size
        try:
            os.posix_fallocate(descriptor, end, piece)
        except OSError:
            left = os.statvfs(point)
            piece = min(piece // 2, max(left.f_bfree * left.f_frsize, SMALLEST_PIECE_BYTES // 2))
