# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""multiRead, ZooKeeper's request for many reads at once (opcode 22, server 3.6 and later), which kazoo does not have.

The wire form is the one of `MultiOperationRecord` and `MultiResponse` in ZooKeeper's source: a header (type, done,
error) before each operation and each answer, and one with `done` set at the end. An operation that fails has an answer
of type -1 with its own code; the others have theirs all the same.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

try:
    from kazoo.exceptions import EXCEPTIONS
    from kazoo.protocol.states import ZnodeStat
except ImportError:
    EXCEPTIONS, ZnodeStat = {}, None

GET_DATA = 4
"""The type of an operation that reads a value and its stat."""
GET_CHILDREN = 8
"""The type of an operation that reads the names of the children."""

_HEADER = struct.Struct("!iBi")
_OPERATION = _ANSWER = struct.Struct("!iBii")
"""A header, and what follows it: the path's length; the data's, the number of names, or the error's code."""
_INT = struct.Struct("!i")
_STAT = struct.Struct("!qqqqiiiqiiq")


class MultiRead:
    """Many reads in one request, for kazoo to send: `operations` are types and paths in UTF-8, the chroot included."""

    type = 22

    def __init__(self, operations: Sequence[tuple[int, bytes]]) -> None:
        self.operations = operations

    def serialize(self) -> bytes:
        """The request's bytes; no operation sets a watch."""
        parts: list[bytes] = []
        for kind, path in self.operations:
            parts += _OPERATION.pack(kind, 0, -1, len(path)), path, b"\0"
        return b"".join([*parts, _HEADER.pack(-1, 1, -1)])

    @classmethod
    def deserialize(cls, answer: bytes, offset: int) -> tuple[list[Any], int]:
        """An answer for each operation (`(data, stat)`, names, or an exception of kazoo's); and the size in bytes."""
        found: list[Any] = []
        last = len(answer) - _HEADER.size  # where the end mark is
        begins, stat_at, stat_of = _ANSWER.unpack_from, _STAT.unpack_from, ZnodeStat._make
        while offset < last:
            kind, _done, _code, length = begins(answer, offset)
            offset += _ANSWER.size
            if kind == GET_DATA:  # here and not in a function of its own: there may be tens of thousands
                end = offset + length if length > 0 else offset
                found.append((answer[offset:end], stat_of(stat_at(answer, end))))
                offset = end + _STAT.size
            elif kind == GET_CHILDREN:
                names, offset = _names(answer, offset, length)
                found.append(names)
            else:
                found.append(EXCEPTIONS[length]())
        return found, len(answer)


def _names(answer: bytes, offset: int, count: int) -> tuple[list[str], int]:
    names = []
    for _index in range(count):
        start = offset + _INT.size
        offset = start + _INT.unpack_from(answer, offset)[0]
        names.append(answer[start:offset].decode())
    return names, offset
