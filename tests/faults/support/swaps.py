"""Counts, by inotify(7), the renames into a directory, so that no swap of a symlink goes unseen."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

IN_MOVED_TO = 0x80
EVENT = struct.Struct("iIII")


class Swaps:
    """The renames into `directory` since this was created."""

    def __init__(self, directory: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if library.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
        self._names: list[str] = []

    def count(self, name: str) -> int:
        """How often something was renamed to `name`."""
        while True:
            try:
                events = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return self._names.count(name)
            self._take(events)

    def _take(self, events: bytes) -> None:
        offset = 0
        while offset < len(events):
            length = EVENT.unpack_from(events, offset)[3]
            offset += EVENT.size
            self._names.append(os.fsdecode(events[offset : offset + length].rstrip(b"\0")))
            offset += length

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)
