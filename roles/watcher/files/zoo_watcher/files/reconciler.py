# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps files of this host as znodes are, in a thread of its own: no slow disk or command stops the agent's loop.

A watch only names what to look at. Whatever has changed by then is looked at, put in place and acted on together; the
newest counts, and nothing needs to be seen that it was in between.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Union

from zoo_watcher.config.config import Config
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import KeepError, PassingKeepError, SessionTroubleError
from zoo_watcher.host.filesystem import remove_tree, sync_directory
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.znode_names import InvalidRecord
from zoo_watcher.zookeeper.session import Session, session_trouble

from .actions import Actions
from .directory_writer import STAGING, DirectoryWriter
from .file_state import FileState
from .file_writer import FileRemover, FileWriter, disk_trouble, staged_path
from .journal import FileJournal
from .rendering import render
from .snapshot import Snapshot, look
from .token_bucket import TokenBucket

AGAIN = 1.0
"""Seconds after which what ZooKeeper did not answer is asked for again."""
QUIET = 0.5
BURST = 3
"""Seconds between two statuses that the agent shows under many changes: it writes the newest, not each. After a while
without, this many come at once: a change is shown while it is proved, when it is in place and when it was acted on."""

Placing = Union[FileWriter, FileRemover, DirectoryWriter]

log = logging.getLogger(__name__)


class FileReconciler(threading.Thread):
    """Keeps all files of one agent. `statuses` is what to tell of them, by dest; `changed` is called when it is new.

    `works` is whether it does: what nobody thought of must end the agent, not leave it without its files.
    """

    def __init__(self, config: Config, layout: Layout, session: Session, changed: Callable[[], None]) -> None:
        super().__init__(name="keeper", daemon=True)
        self.session = session
        self.timeout = config.hook_timeout
        self._changed = changed
        self._proof = layout.proof
        self._journal = FileJournal(layout.file_journal, [file.dest for file in config.files])
        self._actions = Actions(config.files, self._journal, config.hook_timeout, self._on_action)
        self._kept = [FileState(file) for file in config.files]
        self.works = True
        self._awake = threading.Event()
        self._ended = False
        self._lock = threading.Lock()
        self._all = True
        self._paths: set[str] = set()
        self._untried = 0.0
        self._trouble = ""
        self._new = False
        self._credit = TokenBucket(BURST, QUIET)
        self.statuses = self._statuses()

    def start(self) -> None:
        """Begin to keep them, once there is a connection."""
        self._actions.start()
        super().start()

    def wake(self) -> None:
        """Look whether there is something to do; from any thread."""
        self._awake.set()

    def end(self, seconds: float) -> None:
        """Begin nothing more, and wait for what runs, not longer than `seconds`."""
        self._ended = True
        self._actions.end()
        self._awake.set()
        self.join(seconds)

    def run(self) -> None:
        """Keep the files until the end."""
        try:
            self._run()
        finally:
            self.works = False
            self._changed()

    def _run(self) -> None:
        for kept in self._kept:
            sweep(kept.file)
        self._actions.owe(sorted(self._journal.owed))
        while not self._ended and self._actions.works:
            if self.session.usable:
                self._look()
            self._show()
            self._awake.wait(self._pause())
            self._awake.clear()

    def _on_event(self, event: Any) -> None:
        """A watch has fired; with no path, the connection is lost and with it each watch."""
        with self._lock:
            if event.path is None:
                self._all = True
            else:
                self._paths.add(event.path)
        self._awake.set()

    def _on_action(self) -> None:
        self._new = True
        self._awake.set()

    def _pause(self) -> float | None:
        """Seconds until there is something to do by itself."""
        now = time.monotonic()
        times = [now + self._credit.wait(now)] if self._new else []
        if self.session.usable:
            # Without a session there is nothing to try: the agent's loop says when there is one.
            times += [self._untried] if self._untried else [kept.again for kept in self._kept if kept.again is not None]
        return max(min(times) - now, 0.01) if times else None

    def _look(self) -> None:
        """Look at what may have changed, and keep it."""
        now = time.monotonic()
        if self._untried > now or not (self._all or self._paths or any(_is_due(kept, now) for kept in self._kept)):
            return
        try:
            with session_trouble("files"):
                # What has changed up to here has been named by its event, which came first.
                floor = self.session.mark()
                everything, paths = self._take()
                if everything:
                    floor = self.session.catch_up()
            due = {
                kept.file: kept
                for kept in self._kept
                if everything or _is_due(kept, now) or any(kept.file.concerns(path) for path in paths)
            }
            found = look(self.session, due, self._on_event, floor)
        except SessionTroubleError as exc:
            self._note_trouble(str(exc))
            return
        self._trouble, self._untried = "", 0.0
        taken = [(due[file], seen) for file, seen in found.items() if due[file].may_take(seen)]
        self._look_again(found.keys() - {kept.file for kept, _seen in taken})
        self._keep(taken)

    def _look_again(self, files: Iterable[ManagedFile]) -> None:
        for file in files:
            with self._lock:
                self._paths.add(file.znode)
            self._awake.set()

    def _take(self) -> tuple[bool, set[str]]:
        """Whether all has to be looked at, and what of it by name; both are forgotten."""
        with self._lock:
            taken = self._all, self._paths
            self._all, self._paths = False, set()
            return taken

    def _note_trouble(self, text: str) -> None:
        if text != self._trouble:
            log.warning("trouble with ZooKeeper, tried again: %s", text)
        self._trouble = text
        self._untried = time.monotonic() + AGAIN
        with self._lock:
            self._all = True

    def _keep(self, found: Iterable[tuple[FileState, Snapshot]]) -> None:
        """Put what was found in place, all that can be at one time, and have it acted on."""
        self._new = True
        made: dict[str, set[str]] = {}
        placings = []
        for kept, seen in found:
            placing = self._consider(kept, seen, made)
            if placing:
                placings.append((kept, seen, placing))
        if any(kept.file.validate for kept, _seen, _placing in placings):
            self._show()
            self._new = True
        prepared = [one for one in placings if self._try(one[0], one[2], one[2].prepare)]
        if prepared:
            self._commit(prepared, made)
        else:
            self._journal.note(made)

    def _consider(self, kept: FileState, seen: Snapshot, made: dict[str, set[str]]) -> Placing | None:
        """What has to be put in place, if anything; what is there as it should be is noted in `made`."""
        known = seen.stamp == kept.stamp
        kept.zxid, kept.stamp = seen.zxid, seen.stamp
        if known and kept.problem and kept.again is None:
            return None
        if isinstance(seen.problem, PassingKeepError) and not kept.tries:
            # After a reconnect, a server may answer before it knows who asks.
            kept.fail(seen.problem)
            kept.problem, kept.pending = None, True
            return None
        try:
            if seen.problem:
                raise seen.problem
            placing = self._placing(kept.file, seen)
            if placing and placing.differs():
                kept.problem, kept.pending = None, True
                return placing
        except InvalidRecord as exc:
            self._fail(kept, KeepError(str(exc)))
            return None
        except KeepError as exc:
            self._fail(kept, exc)
            return None
        if placing and placing.made:
            made[kept.file.dest] = placing.made
        if not seen.nodes and (kept.there or kept.pending):
            log.info("no znode, dest=%s znode=%s: waited for", kept.file.dest, kept.file.znode)
        kept.settle(seen, removed=placing is not None)
        return None

    def _placing(self, file: ManagedFile, seen: Snapshot) -> Placing | None:
        """How the file comes to be as its znodes are; None where there is nothing to do with it."""
        earlier = self._journal.made.get(file.dest, set())
        if not seen.nodes and not (earlier and file.on_delete == "remove"):
            return None
        if file.format == "directory":
            return DirectoryWriter(file, seen.values if seen.nodes else None, earlier, self._proof, self.timeout)
        if seen.nodes:
            return FileWriter(file, render(file.format, seen.values), self.timeout)
        return FileRemover(file)

    def _commit(self, prepared: Sequence[tuple[FileState, Snapshot, Placing]], made: dict[str, set[str]]) -> None:
        """Put what is prepared in place. First of all it is noted, durably, what will have to be done about it."""
        made.update({kept.file.dest: placing.made for kept, _seen, placing in prepared})
        promised = self._actions.promise(kept.file.dest for kept, _seen, _placing in prepared)

        def note() -> None:
            with disk_trouble(str(self._journal.path)):
                self._journal.expect(made, promised)

        placed = []
        for kept, seen, placing in prepared:
            if self._try(kept, placing, note) and self._try(kept, placing, placing.commit):
                placed.append((kept, seen, placing))
            elif placing.begun:
                # A directory of which some files are new already.
                self._actions.owe([kept.file.dest])
            else:
                self._actions.withdraw(kept.file.dest)
        _sync({directory for _kept, _seen, placing in placed for directory in placing.directories})
        for kept, seen, placing in placed:
            self._journal.note_made(kept.file.dest, placing.left)
            kept.settle(seen, removed=not seen.nodes)
            what = f"mzxid={kept.mzxid}" if seen.nodes else "removed"
            log.info("kept, dest=%s znode=%s %s", kept.file.dest, kept.file.znode, what)
        self._actions.owe(kept.file.dest for kept, _seen, _placing in placed)

    def _try(self, kept: FileState, placing: Placing, step: Callable[[], None]) -> bool:
        """Do a step; where it fails, nothing of the new file is left."""
        try:
            step()
        except KeepError as exc:
            self._fail(kept, exc)
            placing.discard()
            return False
        return True

    @staticmethod
    def _fail(kept: FileState, problem: KeepError) -> None:
        # What is tried again and again is logged once.
        if str(problem) != kept.logged:
            log.warning("not kept, dest=%s znode=%s: %s", kept.file.dest, kept.file.znode, problem)
        kept.logged = str(problem)
        kept.fail(problem)

    def _show(self) -> None:
        """Let the agent tell of the files, where there is something new and it has not told too often."""
        now = time.monotonic()
        if not self._new or self._credit.wait(now):
            return
        self._new = False
        statuses = self._statuses()
        if statuses != self.statuses:
            self._credit.spend(now)
            self.statuses = statuses
            self._changed()

    def _statuses(self) -> Mapping[str, Mapping[str, Any]]:
        return {kept.file.dest: kept.status(self._actions).to_object() for kept in self._kept}


def sweep(file: ManagedFile) -> None:
    """Remove what a killed agent had prepared for a file."""
    prepared = os.path.join(file.dest, STAGING) if file.format == "directory" else staged_path(file.dest)
    remove_tree(Path(prepared))


def _is_due(kept: FileState, now: float) -> bool:
    return kept.again is not None and kept.again <= now


def _sync(directories: Iterable[str]) -> None:
    for directory in directories:
        try:
            sync_directory(Path(directory))
        except OSError as exc:
            log.warning("directory not made durable, path=%s: %s", directory, exc.strerror)
