"""The wire form of ZooKeeper's requests and answers.

It has big-endian integers, and buffers and strings preceded by their length (`zookeeper.jute` in ZooKeeper's source).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

INT = struct.Struct(">i")
REPLY = struct.Struct(">iqi")
"""xid, zxid, error."""
MULTI = struct.Struct(">i?i")
"""Type, done, error: the header of each operation, and once more after the last."""
STAT = struct.Struct(">qqqqiiiqiiq")
"""czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength, numChildren, pzxid."""
CONNECT = struct.Struct(">iqiqi16s?")
"""Protocol version, last zxid seen, timeout, session, password's length, password, read-only."""
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_CHILDREN, SYNC, PING, MULTIPLE, MULTI_READ = (
    1, 2, 3, 4, 5, 8, 9, 11, 14, 22,
)  # fmt: skip
"""Types of requests."""
WATCH_XID, PING_XID = -1, -2
NO_NODE, NODE_EXISTS = -101, -110
EPHEMERAL, SEQUENCE = 1, 2
ACL = INT.pack(1) + INT.pack(31) + b"\0\0\0\x05world" + b"\0\0\0\x06anyone"
"""An ACL by which everybody may do everything."""


def hello(milliseconds: int, session: int = 0, password: bytes = bytes(16)) -> bytes:
    """The first packet of a connection, for a new session with this timeout or an existing one."""
    return framed(CONNECT.pack(0, 0, milliseconds, session, 16, password, False))


def framed(packet: bytes) -> bytes:
    """A packet as it is sent, preceded by its length."""
    return INT.pack(len(packet)) + packet


def buffer(raw: bytes) -> bytes:
    """Bytes in a packet."""
    return INT.pack(len(raw)) + raw


def string(text: str) -> bytes:
    """A string in a packet."""
    return buffer(text.encode())


def creation(path: str, value: bytes, flags: int) -> bytes:
    """The body of a request to create a znode."""
    return string(path) + buffer(value) + ACL + INT.pack(flags)


def packets(received: bytearray) -> Iterator[bytes]:
    """The complete packets in the received bytes, from which they are removed."""
    while len(received) >= INT.size:
        (length,) = INT.unpack_from(received)
        end = INT.size + length
        if len(received) < end:
            return
        packet = bytes(received[INT.size : end])
        del received[:end]
        yield packet


def text_at(packet: bytes, at: int) -> str:
    """The string at an offset of a packet."""
    (length,) = INT.unpack_from(packet, at)
    return packet[at + INT.size : at + INT.size + length].decode()


def texts(packet: bytes) -> Iterator[str]:
    """The strings of a list."""
    at = INT.size
    for _number in range(INT.unpack_from(packet)[0]):
        (length,) = INT.unpack_from(packet, at)
        at += INT.size + length
        yield packet[at - length : at].decode()
