"""Tells when a file is renamed into a directory, by inotify(7), because polling would keep a processor busy."""

from __future__ import annotations

import ctypes
import os
import select
import struct

from bench.harness import BenchError

IN_MOVED_TO = 0x80
EVENT = struct.Struct("iIII")
"""Watch, mask, cookie, and length of the name that follows."""


class Arrivals:
    """The names of the files that are renamed into a directory from now on. Raises `BenchError`."""

    def __init__(self, directory: os.PathLike[str]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_CLOEXEC)
        if library.inotify_add_watch(self._descriptor, os.fsencode(directory), IN_MOVED_TO) < 0:
            raise BenchError(f"{directory}: can't be watched: {os.strerror(ctypes.get_errno())}")

    def wait(self, name: str, seconds: float) -> None:
        """Wait at most so many seconds for the next file, which has to have this name."""
        readable, _unused, _unused = select.select([self._descriptor], [], [], seconds)
        if not readable:
            raise BenchError(f"{name} is not renamed into place within {seconds:g} s")
        event = os.read(self._descriptor, 4096)
        (length,) = EVENT.unpack_from(event)[3:]
        found = os.fsdecode(event[EVENT.size : EVENT.size + length].rstrip(b"\0"))
        if found != name:
            raise BenchError(f"{found} is renamed into place, not {name}")

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)
