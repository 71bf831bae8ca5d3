# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One batch of files whose znodes were read together: planned, prepared, committed, and acted on together."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Union

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import FileError, TransientFileError, UnexpectedFileError
from zoo_watcher.host.filesystem import sync_directory
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.znode_names import InvalidRecord

from .actions import Actions
from .directory_writer import DirectoryWriter
from .file_state import FileState
from .file_writer import FileRemover, FileWriter, disk_trouble
from .journal import FileJournal
from .rendering import render
from .snapshot import Snapshot

Writer = Union[FileWriter, FileRemover, DirectoryWriter]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A file that does not match its znodes, and what makes it match them."""

    state: FileState
    snapshot: Snapshot
    writer: Writer

    @property
    def dest(self) -> str:
        """The file's path."""
        return self.state.file.dest


class Batch:
    """Files whose znodes were read together: `plan`, then `write`."""

    def __init__(self, journal: FileJournal, actions: Actions, layout: Layout, timeout: float) -> None:
        self.changes: list[Change] = []
        self._journal = journal
        self._actions = actions
        self._layout = layout
        self._timeout = timeout
        self._created: dict[str, set[str]] = {}

    def plan(self, snapshots: Iterable[tuple[FileState, Snapshot]], *, has_no_cause: bool = False) -> None:
        """Find out which files have to change.

        If the znodes were read without a cause, the status of an unchanged file stays as it is: otherwise, whenever one
        host writes its status, all others would have a new transaction to report.
        """
        for state, snapshot in snapshots:
            _succeeds(state, partial(self._consider, state, snapshot, has_no_cause=has_no_cause))

    def _consider(self, state: FileState, snapshot: Snapshot, *, has_no_cause: bool) -> None:
        fingerprint = snapshot.fingerprint
        unchanged = fingerprint == state.fingerprint
        state.zxid = state.zxid if unchanged and has_no_cause else snapshot.zxid
        state.fingerprint = fingerprint
        state.killed = state.killed if unchanged else 0
        if unchanged and state.problem and state.retry_at is None:
            # A permanent failure lasts until the znodes change.
            return
        if isinstance(snapshot.problem, TransientFileError) and not state.backoff.tries:
            # After a reconnect, a server may answer before it knows the client's identity.
            state.fail(snapshot.problem)
            state.postpone()
            return
        self._plan(state, snapshot)

    def _plan(self, state: FileState, snapshot: Snapshot) -> None:
        if snapshot.problem:
            raise snapshot.problem
        _check_outlasts_releases(state.file, self._layout)
        writer = self._writer(state.file, snapshot)
        if writer and writer.differs():
            state.postpone()
            self.changes.append(Change(state, snapshot, writer))
            return
        if writer and writer.created:
            self._created[state.file.dest] = writer.created
        if not snapshot.nodes and (state.present or state.pending):
            log.info("no znode, dest=%s znode=%s: waiting for it", state.file.dest, state.file.znode)
        state.settle(snapshot, removed=writer is not None)

    def _writer(self, file: ManagedFile, snapshot: Snapshot) -> Writer | None:
        """What makes a file match its znodes; None if the file stays whatever it is. Raises `FileError`."""
        earlier = self._journal.created.get(file.dest, set())
        if not snapshot.nodes and not (earlier and file.on_delete == "remove"):
            return None
        try:
            if file.format == "directory":
                values = snapshot.values if snapshot.nodes else None
                return DirectoryWriter(file, values, earlier, self._layout.proof, self._timeout)
            if snapshot.nodes:
                return FileWriter(file, render(file.format, snapshot.values), self._timeout)
        except InvalidRecord as exc:
            raise FileError(str(exc)) from exc
        return FileRemover(file)

    @property
    def validates(self) -> bool:
        """Whether a file's `validate` command has to run before it can be written."""
        return any(change.state.file.validate for change in self.changes)

    def write(self) -> None:
        """Write all files that can be written now, and have their changes acted on."""
        prepared = [change for change in self.changes if _attempt(change, change.writer.prepare)]
        if prepared:
            self._commit(prepared)
        else:
            self._journal.adopt(self._created)

    def _commit(self, prepared: Sequence[Change]) -> None:
        """Put what is prepared in place. Before that, the journal notes durably what has to follow."""
        self._created.update({change.dest: change.writer.created for change in prepared})
        announced = self._actions.announce(change.dest for change in prepared)

        def record_intent() -> None:
            with disk_trouble(str(self._journal.path)):
                self._journal.record_intent(self._created, announced)

        committed = []
        for change in prepared:
            if _attempt(change, record_intent) and _attempt(change, change.writer.commit):
                committed.append(change)
            elif change.writer.partly_committed:
                # A directory in which some files are new already.
                self._actions.request([change.dest])
            else:
                self._actions.drop(change.dest)
        _sync({directory for change in committed for directory in change.writer.directories})
        for change in committed:
            _succeeds(change.state, partial(self._settle, change))
        self._actions.request(change.dest for change in committed)

    def _settle(self, change: Change) -> None:
        state, snapshot = change.state, change.snapshot
        self._journal.set_created(change.dest, change.writer.remaining)
        state.settle(snapshot, removed=not snapshot.nodes)
        if snapshot.nodes:
            log.info("written, dest=%s znode=%s mzxid=%s", change.dest, state.file.znode, state.mzxid)
        else:
            log.info("removed, dest=%s znode=%s", change.dest, state.file.znode)


def _check_outlasts_releases(file: ManagedFile, layout: Layout) -> None:
    """Raises `TransientFileError` if the file would be in a release: the next one would go live without it."""
    directory = os.path.realpath(file.dest if file.format == "directory" else os.path.dirname(file.dest))
    if f"{directory}/".startswith(f"{os.path.realpath(layout.releases)}/"):
        raise TransientFileError(
            f"{file.dest} is in a release, and the next one would not have it; choose one below one of shared_paths, "
            "or outside of releases"
        )


def _attempt(change: Change, step: Callable[[], None]) -> bool:
    """Do a step; if it fails, nothing of the new file is left."""
    if _succeeds(change.state, step):
        return True
    with contextlib.suppress(Exception):
        change.writer.discard()
    return False


def _succeeds(state: FileState, step: Callable[[], None]) -> bool:
    """Do a step for one file; however it fails, no other file fails with it. Returns whether it succeeded."""
    try:
        step()
    except FileError as exc:
        _fail(state, exc)
    except Exception as exc:  # noqa: BLE001 - a mistake that shows at one file must not stop the others
        _fail(state, UnexpectedFileError(exc))
    else:
        return True
    return False


def _fail(state: FileState, problem: FileError) -> None:
    # A problem that repeats is logged once.
    if str(problem) != state.logged:
        mistake = problem.__cause__ if isinstance(problem, UnexpectedFileError) else None
        log.warning("not written, dest=%s znode=%s: %s", state.file.dest, state.file.znode, problem, exc_info=mistake)
    state.logged = str(problem)
    state.fail(problem)


def _sync(directories: Iterable[str]) -> None:
    for directory in directories:
        try:
            sync_directory(Path(directory))
        except OSError as exc:
            log.warning("directory not synced, path=%s: %s", directory, exc.strerror)
