"""Search for secrets in files, bytes, znodes, and the command lines and environments of this machine's processes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from typing_extensions import Self

PAUSE = 0.1
"""Seconds between two scans of the processes."""


def found_in_files(secrets: Mapping[str, str], places: Iterable[Path], but: Iterable[Path] = ()) -> set[str]:
    """Which secrets are in which files at or below `places`, except for the files in `but`."""
    files = {path for place in places for path in (place.rglob("*") if place.is_dir() else [place])}
    read = {path: path.read_bytes() for path in files - set(but) if path.is_file()}
    return {f"{name} in {path}" for path, data in read.items() for name in found(secrets, data)}


def found(secrets: Mapping[str, str], data: bytes) -> list[str]:
    """The names of the secrets in some bytes."""
    return [name for name, secret in secrets.items() if secret.encode() in data]


def found_in_znodes(secrets: Mapping[str, str], zk: KazooClient, path: str = "/") -> set[str]:
    """Which secrets are in the paths, values and ACLs of a znode and those below it, except any deleted meanwhile."""
    try:
        value, _stat = zk.get(path)
        shown = b"\n".join([path.encode(), value, repr(zk.get_acls(path)[0]).encode()])
        below = [f"{path.rstrip('/')}/{name}" for name in zk.get_children(path)]
    except NoNodeError:
        return set()
    return {f"{name} at {path}" for name in found(secrets, shown)}.union(
        *(found_in_znodes(secrets, zk, one) for one in below)
    )


class ProcessWatch:
    """Reads the command line of every process, as anybody may, and the environments of a process and its descendants.

    It runs inside a `with` block; `found` holds the secrets that were found, `seen` every command line.
    """

    def __init__(self, secrets: Mapping[str, str], ancestor: int) -> None:
        self.found: set[str] = set()
        self.seen: set[str] = set()
        self._secrets = secrets
        self._ancestor = ancestor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._ended.wait(PAUSE):
            for pid in psutil.pids():
                self._look(Path(f"/proc/{pid}/cmdline"))
            for pid in self._descendants():
                self._look(Path(f"/proc/{pid}/environ"))

    def _look(self, file: Path) -> None:
        try:
            data = file.read_bytes()
        except OSError:  # the process has ended
            return
        words = data.decode(errors="replace").replace("\0", " ")
        if file.name == "cmdline":
            self.seen.add(words)
        self.found |= {f"{name} in the {file.name} of {words[:200]}" for name in found(self._secrets, data)}

    def _descendants(self) -> list[int]:
        try:
            process = psutil.Process(self._ancestor)
            return [self._ancestor, *(one.pid for one in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []
