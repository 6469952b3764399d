"""What a record holds: a name that is unique in the history, and a body that is known to be whole when it is read.

    value = name, space, CRC-32 of name, key and body as 8 hex digits, space, body

The history gets the name alone. If a reader finds a record whose key or body changed, it notes another name, which nobody has
sent: the checker then finds two values at that offset.
"""

import zlib


def seal(name: str, key: bytes | None, body: bytes) -> bytes:
    return b"%s %s %s" % (name.encode(), _crc(name.encode(), key, body), body)


def name_in(key: bytes | None, value: bytes | None) -> str:
    """The name of a record that was read; of a damaged one, a name that tells so."""
    name, crc, body = [*(value or b"").split(b" ", 2), b"", b""][:3]
    if crc == _crc(name, key, body):
        return name.decode()
    return f"damaged:{(value or b'')[:40].hex()}"


def _crc(name: bytes, key: bytes | None, body: bytes) -> bytes:
    return b"%08x" % zlib.crc32(body, zlib.crc32(key or b"", zlib.crc32(name)))
