"""Every change of every znode, in ZooKeeper's own order, from a member's transaction log.

The format is that of ZooKeeper 3.6 and later; `zookeeper.jute` in its source defines the fields.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FILE = struct.Struct(">4siq")
_RECORD = struct.Struct(">qi")
_TRANSACTION = struct.Struct(">qiqqi")
_INT = struct.Struct(">i")
_CREATES, _DELETE, _SET_DATA, _MULTI, _CLOSE_SESSION = {1, 15, 19, 21}, 2, 5, 14, -11


class Change(NamedTuple):
    """A znode's new value; None if it was deleted."""

    zxid: int
    path: str
    data: bytes | None


def read_changes(data_directory: Path, below: str) -> list[Change]:
    """The changes of the znodes below a path, the earliest first."""
    files = sorted((data_directory / "version-2").glob("log.*"), key=lambda path: int(path.suffix[1:], 16))
    return [change for file in files for change in _changes(file.read_bytes()) if change.path.startswith(f"{below}/")]


def _changes(log: bytes) -> Iterator[Change]:
    """The changes in a file that may still be written to: it may end in zeros or an incomplete record."""
    magic, _version, _id = _FILE.unpack_from(log)
    assert magic == b"ZKLG"
    offset = _FILE.size
    while offset + _RECORD.size <= len(log):
        checksum, length = _RECORD.unpack_from(log, offset)
        end = offset + _RECORD.size + length
        record = log[offset + _RECORD.size : end]
        if not length or zlib.adler32(record) != checksum:
            return
        _session, _request, zxid, _time, kind = _TRANSACTION.unpack_from(record)
        yield from _parts(zxid, kind, record[_TRANSACTION.size :])
        offset = end + 1


def _parts(zxid: int, kind: int, body: bytes) -> Iterator[Change]:
    if kind == _MULTI:
        offset = _INT.size
        for _number in range(_INT.unpack_from(body)[0]):
            (part,) = _INT.unpack_from(body, offset)
            value, offset = _buffer(body, offset + _INT.size)
            yield from _parts(zxid, part, value)
    elif kind == _CLOSE_SESSION:
        offset = _INT.size
        for _number in range(_INT.unpack_from(body)[0] if body else 0):
            path, offset = _buffer(body, offset)
            yield Change(zxid, path.decode(), None)
    elif kind == _DELETE:
        yield Change(zxid, _buffer(body, 0)[0].decode(), None)
    elif kind in _CREATES or kind == _SET_DATA:
        path, offset = _buffer(body, 0)
        yield Change(zxid, path.decode(), _buffer(body, offset)[0])


def _buffer(body: bytes, offset: int) -> tuple[bytes, int]:
    """Bytes that are preceded by their length, and their end; a length of -1 means none."""
    (length,) = _INT.unpack_from(body, offset)
    end = offset + _INT.size + max(length, 0)
    return body[offset + _INT.size : end], end
