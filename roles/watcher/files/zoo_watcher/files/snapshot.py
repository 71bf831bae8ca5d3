# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at the znodes of files: what they hold as of one transaction of the ensemble, with watches set anew.

One connection is answered in order, and a server never goes back within a session. So whatever is read after a reply
that bore transaction F reflects F. Where nothing that was read is newer than F, it is what there was at F itself.
Where something is, it is read once more: what is found unchanged is what there was in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError
from zoo_watcher.wire.znode_names import InvalidRecord
from zoo_watcher.zookeeper.session import Session, Znode, session_trouble

from .rendering import check_name

PASSES = 3
"""How often a subtree is read in one look at the most, where each time something in it has just changed."""
AT_ONCE = 500
"""Requests that are under way together."""
MOST_NODES = 10_000
MOST_BYTES = 32_000_000
"""What one subtree may hold."""

Watch = Callable[[Any], None]


@dataclass(frozen=True)
class Snapshot:
    """What a look found: `nodes` by their path below the watched znode ("" is itself; none where that is not there).

    It is what there was as of `zxid`, where it is `whole`; else something in it has changed while it was read, and may
    be newer. `newest` is the newest transaction in it. `problem` is why it can't be read.
    """

    nodes: Mapping[str, Znode] = field(default_factory=dict)
    newest: int = 0
    zxid: int = 0
    problem: KeepError | None = None
    whole: bool = True

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Equal where the same was found: no two transactions leave the same stamps."""
        return (self.newest, str(self.problem), *((path, node.stat.mzxid) for path, node in self.nodes.items()))

    @property
    def values(self) -> dict[str, bytes]:
        """The values by path."""
        return {path: node.data for path, node in self.nodes.items()}


def look(session: Session, files: Iterable[ManagedFile], watch: Watch, floor: int) -> dict[ManagedFile, Snapshot]:
    """What each file's znodes hold; every later read reflects `floor`. Raises `SessionTroubleError`."""
    settled: dict[ManagedFile, Snapshot] = {}
    found: dict[ManagedFile, Snapshot] = {}
    waiting = list(files)
    with session_trouble("files"):
        for _pass in range(PASSES):
            before, found = found, _read(session, waiting, watch, floor)
            waiting = []
            for file, seen in found.items():
                as_of_floor = bool(seen.nodes) and seen.newest <= floor
                known = as_of_floor or (file in before and before[file].stamp == seen.stamp)
                settled[file] = replace(seen, whole=known)
                if not known:
                    waiting.append(file)
            if not waiting:
                break
            floor = session.mark()
    return settled


def _read(session: Session, files: list[ManagedFile], watch: Watch, floor: int) -> dict[ManagedFile, Snapshot]:
    plain = [file for file in files if not file.is_subtree]
    found = {file: _read_subtree(session, file, watch, floor) for file in files if file.is_subtree}
    values = session.read_all({file.znode for file in plain}, watch)
    for file in plain:
        node = values[file.znode]
        if isinstance(node, Znode):
            found[file] = Snapshot({"": node}, node.stat.mzxid, floor)
        else:
            found[file] = Snapshot(zxid=floor, problem=node and PassingKeepError(str(node)))
    missing = {file.znode for file, seen in found.items() if not seen.nodes and not seen.problem}
    for path in missing - session.await_all(missing, watch):
        found.update({file: Snapshot(zxid=floor, problem=_changing(path)) for file in files if file.znode == path})
    return found


def _changing(path: str) -> KeepError:
    return PassingKeepError(f"{path} changes while it is read")


def _read_subtree(session: Session, file: ManagedFile, watch: Watch, floor: int) -> Snapshot:
    reading = _Subtree(session, file.znode, watch)
    problem: KeepError | None = None
    try:
        reading.read()
    except InvalidRecord as exc:
        problem = KeepError(str(exc))
    except KeepError as exc:
        problem = exc
    return Snapshot({} if problem else reading.nodes, reading.newest, floor, problem)


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
        """Raises `InvalidRecord` for a name that is no file's, `KeepError` for what can't be read."""
        level = [""]
        while level:
            below: list[str] = []
            for start in range(0, len(level), AT_ONCE):
                below += self._read_some(level[start : start + AT_ONCE])
            level = below

    def _read_some(self, paths: list[str]) -> list[str]:
        listed = self._ask(self.session.list_all, paths)
        self._count(stat for _names, stat in listed.values())
        for path, node in self._ask(self.session.read_all, list(listed)).items():
            self.nodes[path] = node
            self.newest = max(self.newest, node.stat.mzxid, listed[path][1].pzxid)
        return [
            f"{path}/{check_name(name)}" if path else check_name(name)
            for path, (names, _stat) in listed.items()
            for name in sorted(names)
        ]

    def _ask(self, ask: Callable[[Iterable[str], Watch], dict[str, Any]], paths: list[str]) -> dict[str, Any]:
        full = {self._full(path): path for path in paths}
        answers = {full[name]: found for name, found in ask(full, self.watch).items()}
        for path, found in answers.items():
            if isinstance(found, Exception):
                raise PassingKeepError(str(found))
            if found is None and (path or self.nodes):
                raise _changing(self._full(path))
        return {path: found for path, found in answers.items() if found is not None}

    def _full(self, path: str) -> str:
        return f"{self.root.rstrip('/')}/{path}" if path else self.root

    def _count(self, stats: Iterable[Any]) -> None:
        """Looked at before the values are asked for: what is too large never fills this host's memory."""
        self._bytes += sum(stat.dataLength for stat in stats)
        if self._bytes > MOST_BYTES or len(self.nodes) > MOST_NODES:
            raise PassingKeepError(f"{self.root} holds more than {MOST_NODES} znodes or {MOST_BYTES} bytes")
