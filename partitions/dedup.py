"""What a log remembers of event ids, in memory and in the store, where its topic has a window (`quorumlog.dedup.window.ms`).

Made from the batches alone, on leaders and followers alike, so a new leader knows what the old one knew. With each snapshot of
the producers what was learned since the last one goes into the store as a *chunk*, in the same write: whatever a crash leaves,
chunks have the ids below a snapshot, and the batches behind it are read again. A truncation takes the ids at and above the cut,
in memory and in the store, in the same write that notes it: an id without its record would swallow that record for ever.

    key    d + offset int64: behind all that is in the chunk
    value  version uint8, mark count uint32, id count uint32, for each mark (see event_ids.py) first offset int64, begun ms int64,
           last ms int64; then the hashes of the ids, 16 bytes each; then the offsets of their records, int64 each

Records of transactions are left out: an aborted one must not swallow the one that replaces it.
"""

import struct
from collections import deque
from collections.abc import Sequence

from quorumlog.host.ports import KVStore, WriteBatch
from quorumlog.metadata.internal_topics import is_internal
from quorumlog.metadata.topic_config import TopicConfig
from quorumlog.wire.batches import CONTROL, HEADER_SIZE, TRANSACTIONAL, BatchError, BatchHeader, Buffer
from quorumlog.wire.compression import decompress
from quorumlog.wire.event_ids import EVENT_ID, marked_records
from quorumlog.wire.ids import TopicPartition

from .event_ids import ID_BYTES, EventIds, Mark, Pair, hashed
from .keys import Keys
from .topic_rules import RECORDS_MAX

VERSION = 1
_HEAD = struct.Struct(">BII")
_MARK = struct.Struct(">qqq")
_KIND = b"d"


class Dedup:
    """Owned by its log, which calls `load` when it is opened."""

    def __init__(self, store: KVStore, keys: Keys, *, window_ms: int, ids_max: int, decompressed_bytes_max: int) -> None:
        self._store = store
        self._keys = keys
        self.ids = EventIds(window_ms=window_ms, ids_max=ids_max)
        self.decompressed_bytes_max = decompressed_bytes_max
        self.dropped = 0  # records that came again, on this leader
        self._chunks = deque(keys.number_of(key) for key, _ in store.scan(*_range(keys)))  # by offset
        self._saved_to = 0  # what was learned below is in the chunks
        self._forgotten_told = 0

    def load(self, offset: int, wall_ms: int) -> None:
        """Take back what was known of the records before `offset`, where there is a snapshot of the producers."""
        for _, value in self._store.scan(self._keys.event_ids(0), self._keys.event_ids(offset + 1)):
            self.ids.restore(*_decoded(value))
        self._saved_to = offset
        self.ids.expire(wall_ms)

    def learn(self, batch: Buffer, header: BatchHeader, wall_ms: int) -> None:
        """The batch is in the log. One that cannot be read has no ids: the leader takes none while it looks for them."""
        if header.attributes & (TRANSACTIONAL | CONTROL) or not header.record_count:
            return
        try:
            data = payload_of(batch, header, self.decompressed_bytes_max)
            marked = marked_records(data, header) if EVENT_ID in data else ()
        except BatchError:
            return
        base = header.base_offset
        if pairs := [(hashed(event_id), base + delta) for delta, event_id, _, _ in marked if event_id]:
            self.ids.learn(pairs, wall_ms)

    def put(self, batch: WriteBatch, offset: int) -> None:
        """Save what was learned since the last time; all of it is of records before `offset`."""
        marks, pairs = self.ids.since(self._saved_to)
        if pairs:
            batch.put(self._keys.event_ids(offset), _encoded(marks, pairs))
            self._chunks.append(offset)
        self._saved_to = offset
        while self._chunks and self._chunks[0] <= self.ids.floor:
            batch.delete(self._keys.event_ids(self._chunks.popleft()))

    def forgotten_since_told(self) -> int:
        """How many ids were forgotten early since this was asked last."""
        told, self._forgotten_told = self._forgotten_told, self.ids.forgotten_early
        return self._forgotten_told - told

    def forget_from(self, batch: WriteBatch, offset: int, *, replayed_from: int) -> None:
        """Chunks that reach beyond `offset` go, ids of records from `replayed_from` on: those in between are saved again."""
        self.ids.forget_from(replayed_from)
        if self._chunks and self._chunks[-1] > offset:
            batch.delete_range(self._keys.event_ids(offset + 1), self._keys.end_of(_KIND))
            while self._chunks and self._chunks[-1] > offset:
                self._chunks.pop()
        self._saved_to = min(self._saved_to, self._chunks[-1] if self._chunks else 0)


def begin(tp: TopicPartition, store: KVStore, keys: Keys, config: TopicConfig, *, decompressed_bytes_max: int) -> Dedup | None:
    """For a log that is opened: what remembers its ids, if its topic wants that; else what was saved is removed."""
    if is_wanted(tp, config):
        return Dedup(
            store,
            keys,
            window_ms=config.quorumlog_dedup_window_ms,
            ids_max=config.quorumlog_dedup_ids_max,
            decompressed_bytes_max=decompressed_bytes_max,
        )
    forget_saved(store, keys)
    return None


def adapted(
    held: Dedup | None, tp: TopicPartition, store: KVStore, keys: Keys, config: TopicConfig, *, decompressed_bytes_max: int
) -> Dedup | None:
    """The same with new settings. One that was not wanted until now learns from here on."""
    if held is None:
        return begin(tp, store, keys, config, decompressed_bytes_max=decompressed_bytes_max) if is_wanted(tp, config) else None
    if not is_wanted(tp, config):
        forget_saved(store, keys)
        return None
    held.ids.resize(window_ms=config.quorumlog_dedup_window_ms, ids_max=config.quorumlog_dedup_ids_max)
    return held


def is_wanted(tp: TopicPartition, config: TopicConfig) -> bool:
    return config.quorumlog_dedup_window_ms > 0 and not is_internal(tp.topic)


def forget_saved(store: KVStore, keys: Keys) -> None:
    """To remove a range where nothing is would cost every later look into the store."""
    if next(iter(store.scan(*_range(keys))), None) is not None:
        batch = WriteBatch()
        batch.delete_range(*_range(keys))
        store.write(batch)


def payload_of(batch: Buffer, header: BatchHeader, bytes_max: int) -> bytes:
    """The records as they are without compression. Raises BatchError."""
    if header.record_count > RECORDS_MAX:
        raise BatchError(f"{header.record_count} records in a batch; at most {RECORDS_MAX} are looked at")
    return bytes(decompress(header.compression, memoryview(batch)[HEADER_SIZE : header.size], bytes_max=bytes_max))


def _range(keys: Keys) -> tuple[bytes, bytes]:
    return keys.event_ids(0), keys.end_of(_KIND)


def _encoded(marks: Sequence[Mark], pairs: Sequence[Pair]) -> bytes:
    parts = [_HEAD.pack(VERSION, len(marks), len(pairs))]
    parts += (_MARK.pack(mark.first_offset, mark.begun_ms, mark.last_ms) for mark in marks)
    parts += (one for one, _ in pairs)
    parts.append(struct.pack(f">{len(pairs)}q", *(offset for _, offset in pairs)))
    return b"".join(parts)


def _decoded(value: bytes) -> tuple[list[Mark], list[Pair]]:
    _, mark_count, id_count = _HEAD.unpack_from(value)
    position = _HEAD.size + mark_count * _MARK.size
    marks = [Mark(*fields) for fields in _MARK.iter_unpack(value[_HEAD.size : position])]
    end = position + id_count * ID_BYTES
    offsets = struct.unpack_from(f">{id_count}q", value, end)
    return marks, [
        (value[at : at + ID_BYTES], offset) for at, offset in zip(range(position, end, ID_BYTES), offsets, strict=True)
    ]
