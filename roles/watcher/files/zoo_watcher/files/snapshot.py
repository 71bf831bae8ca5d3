# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of the znodes of files: what they hold as of one transaction of the ensemble, with new watches.

One connection is answered in order, and a server never goes back in time within a session. So whatever is read after a
reply with transaction F reflects F. If nothing that was read is newer than F, it is the state at F itself. If something
is, it is read once more: what has not changed between both reads is the state in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, SessionTroubleError, TransientFileError, UnexpectedFileError
from zoo_watcher.wire.znode_names import InvalidRecord, walk
from zoo_watcher.zookeeper.session import Session, Znode, session_trouble

from .rendering import check_depth, check_name

PASSES = 3
"""How often a subtree is read at most for one snapshot, if something in it keeps changing."""
AT_ONCE = 500
"""The most requests pending at the same time."""
MAX_NODES = 10_000
MAX_BYTES = 32_000_000
"""The most znodes, and the most bytes, in one subtree."""

Watch = Callable[[Any], None]


@dataclass(frozen=True)
class Snapshot:
    """The state that was read: `nodes` by their path below the watched znode ("" is itself; none if it does not exist).

    It is the state as of `zxid` if it is `consistent`; otherwise something in it has changed while it was read, and may
    be newer. `newest` is the newest transaction in it. `problem` is why it can't be read.
    """

    nodes: Mapping[str, Znode] = field(default_factory=dict)
    newest: int = 0
    zxid: int = 0
    problem: FileError | None = None
    consistent: bool = True

    @property
    def fingerprint(self) -> tuple[Any, ...]:
        """Equal for equal states.

        No two transactions of an ensemble leave the same fingerprint; a rebuilt ensemble counts its transactions from
        the beginning, so the values count too.
        """
        digest = hashlib.sha256()
        for path, node in self.nodes.items():
            digest.update(f"{path}\0{node.stat.mzxid} {len(node.data)}\0".encode())
            digest.update(node.data)
        return (self.newest, str(self.problem), digest.digest())

    @property
    def values(self) -> dict[str, bytes]:
        """The values by path."""
        return {path: node.data for path, node in self.nodes.items()}


def take(session: Session, files: Iterable[ManagedFile], watch: Watch, floor: int) -> dict[ManagedFile, Snapshot]:
    """A snapshot of each file's znodes; every later read reflects `floor`. Raises `SessionTroubleError`."""
    snapshots: dict[ManagedFile, Snapshot] = {}
    unsettled = list(files)
    with session_trouble("files"):
        for _pass in range(PASSES):
            for file, snapshot in _read(session, unsettled, watch, floor).items():
                as_of_floor = bool(snapshot.nodes) and snapshot.newest <= floor
                unchanged = file in snapshots and snapshots[file].fingerprint == snapshot.fingerprint
                snapshots[file] = replace(snapshot, consistent=as_of_floor or unchanged)
            unsettled = [file for file in unsettled if not snapshots[file].consistent]
            if not unsettled:
                break
            floor = session.mark()
    return snapshots


def _read(session: Session, files: list[ManagedFile], watch: Watch, floor: int) -> dict[ManagedFile, Snapshot]:
    plain = [file for file in files if not file.is_subtree]
    snapshots = {file: _read_subtree(session, file, watch, floor) for file in files if file.is_subtree}
    values = session.read_all({file.znode for file in plain}, watch)
    for file in plain:
        node = values[file.znode]
        if isinstance(node, Znode):
            snapshots[file] = Snapshot({"": node}, node.stat.mzxid, floor)
        else:
            snapshots[file] = Snapshot(zxid=floor, problem=node and TransientFileError(str(node)))
    missing = {file.znode for file, snapshot in snapshots.items() if not snapshot.nodes and not snapshot.problem}
    for path in missing - session.await_all(missing, watch):
        snapshots.update({file: Snapshot(zxid=floor, problem=_changing(path)) for file in files if file.znode == path})
    return snapshots


def _changing(path: str) -> FileError:
    return TransientFileError(f"{path} changes while it is read")


def _read_subtree(session: Session, file: ManagedFile, watch: Watch, floor: int) -> Snapshot:
    subtree = _Subtree(session, file.znode, watch)
    problem: FileError | None = None
    try:
        subtree.read()
    except InvalidRecord as exc:
        problem = FileError(str(exc))
    except FileError as exc:
        problem = exc
    except SessionTroubleError:
        raise
    except Exception as exc:  # noqa: BLE001 - one file must not stop the others
        problem = UnexpectedFileError(exc)
    return Snapshot({} if problem else subtree.nodes, subtree.newest, floor, problem)


class _Subtree:
    """One reading of a znode and all that is below it, a level at a time."""

    def __init__(self, session: Session, root: str, watch: Watch) -> None:
        self.session = session
        self.root = root
        self.watch = watch
        self.nodes: dict[str, Znode] = {}
        self.newest = 0
        self._bytes = 0

    def read(self) -> None:
        """Read it, level by level.

        Raises `InvalidRecord` for a name that no file can have and for too many levels, `FileError` if it can't be.
        """
        for depth, _level in enumerate(walk([self.root], self._read_level), 1):
            check_depth(depth)

    def _read_level(self, znodes: list[str]) -> Iterator[list[str]]:
        for start in range(0, len(znodes), AT_ONCE):
            yield from self._read_some(znodes[start : start + AT_ONCE])

    def _read_some(self, znodes: list[str]) -> list[list[str]]:
        """Read some znodes of one level; returns the names of the children of each."""
        listed = self._request(self.session.list_all, znodes)
        self._count(stat for _names, stat in listed.values())
        for znode, node in self._request(self.session.read_all, list(listed)).items():
            self.nodes[self._below(znode)] = node
            self.newest = max(self.newest, node.stat.mzxid, listed[znode][1].pzxid)
        return [[check_name(name) for name in sorted(listed[znode][0])] for znode in znodes if znode in listed]

    def _request(self, request: Callable[[Iterable[str], Watch], dict[str, Any]], znodes: list[str]) -> dict[str, Any]:
        """The answers by znode; none if the root itself does not exist."""
        with session_trouble("files"):
            answers = request(znodes, self.watch)
        for znode, answer in answers.items():
            if isinstance(answer, Exception):
                raise TransientFileError(str(answer))
            if answer is None and (znode != self.root or self.nodes):
                raise _changing(znode)
        return {znode: answer for znode, answer in answers.items() if answer is not None}

    def _below(self, znode: str) -> str:
        """The path below the root, which is "" itself."""
        return znode[len(self.root.rstrip("/")) + 1 :]

    def _count(self, stats: Iterable[Any]) -> None:
        """Check the size before the values are requested, so that too large ones never fill this host's memory."""
        self._bytes += sum(stat.dataLength for stat in stats)
        if self._bytes > MAX_BYTES or len(self.nodes) > MAX_NODES:
            raise TransientFileError(f"{self.root} holds more than {MAX_NODES} znodes or {MAX_BYTES} bytes")
