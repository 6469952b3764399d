"""What a node and its compacting process tell each other through two pipes.

    frame    size of the head uint32, size of the rest uint32, the head as JSON, the rest

    node to process     {"job": ..., "bytes_per_s": ...}
    process to node     {"group": ..., "blocks": [[first offset, size], ...]} and the index blocks one after the other
                        {"log": ...}, the last of a job
                        {"failed": sentence}, or {"damaged": [segment's base offset, position, offset, reason]}: also the last

Both ends are one version of this program, started by one user: the frames are trusted.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import asdict
from itertools import accumulate
from typing import IO, Any

from quorumlog.partitions.aborted import AbortedTransaction
from quorumlog.partitions.cleaning import CleanedGroup, CleanedLog, CleaningJob, ProducerEnd, Source

_SIZES = struct.Struct(">II")


class Closed(Exception):
    """The other end of the pipe is gone."""


def write_frame(pipe: IO[bytes], head: dict[str, Any], rest: bytes = b"") -> None:
    """Raises OSError where nobody reads any more."""
    encoded = json.dumps(head).encode()
    pipe.write(_SIZES.pack(len(encoded), len(rest)) + encoded + rest)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Raises Closed."""
    head_size, rest_size = _SIZES.unpack(_exactly(pipe, _SIZES.size))
    head: dict[str, Any] = json.loads(_exactly(pipe, head_size))
    return head, _exactly(pipe, rest_size)


def job_head(job: CleaningJob, bytes_per_s: float) -> dict[str, Any]:
    return {"job": asdict(job), "bytes_per_s": bytes_per_s}


def job_of(head: dict[str, Any]) -> CleaningJob:
    fields = head["job"]
    return CleaningJob(
        **{
            **fields,
            "sources": tuple(Source(**one) for one in fields["sources"]),
            "producers": tuple(ProducerEnd(**one) for one in fields["producers"]),
            "epoch_starts": tuple(fields["epoch_starts"]),
            "aborted": tuple(AbortedTransaction(*one) for one in fields["aborted"]),
        }
    )


def tell(write: Callable[[dict[str, Any], bytes], None], done: CleanedGroup | CleanedLog) -> None:
    if isinstance(done, CleanedLog):
        write({"log": asdict(done)}, b"")
        return
    fields = asdict(done)
    blocks = fields.pop("index_blocks")
    write({"group": fields, "blocks": [[offset, len(block)] for offset, block in blocks]}, b"".join(b for _, b in blocks))


def done_of(head: dict[str, Any], rest: bytes) -> CleanedGroup | CleanedLog:
    if "log" in head:
        return CleanedLog(**head["log"])
    ends = list(accumulate(size for _, size in head["blocks"]))
    blocks = tuple((offset, rest[end - size : end]) for (offset, size), end in zip(head["blocks"], ends, strict=True))
    fields = head["group"]
    return CleanedGroup(**{**fields, "marks_gone": tuple(fields["marks_gone"])}, index_blocks=blocks)


def _exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise Closed
    return data
