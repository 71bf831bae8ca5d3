# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps files of this host in step with znodes, in a thread of its own: no slow disk or command stops the agent's loop.

A watch only names what to read again. All that has changed by then is read, written and acted on together; the newest
value counts, those in between may be skipped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import SessionTroubleError, UnexpectedFileError
from zoo_watcher.host.filesystem import remove_tree
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.thread import Thread
from zoo_watcher.zookeeper.session import Session, session_trouble

from .actions import Actions
from .batch import Batch
from .directory_writer import STAGING
from .file_state import FileState
from .file_writer import staged_path
from .journal import FileJournal
from .snapshot import Snapshot, take
from .token_bucket import TokenBucket

AGAIN = 1.0
"""Seconds after which an unanswered request to ZooKeeper is repeated."""
READ_AGAIN = 600.0
"""Seconds after which everything is read again even if no watch has fired: a server that finds that this agent may not
read a changed znode just then uses up the watch silently."""
RESUME = 5.0
"""Seconds after which the actions of an earlier agent are run even without a session: one that takes down the agent
must not prevent this host's registration, and a host without an ensemble must have its actions."""
STATUS_INTERVAL = 0.5
STATUS_BURST = 3
"""Seconds between two statuses under many changes: the newest is published, not each. After a pause, this many are
published at once: a change is seen while it is validated, when it is in place and when its actions have ended."""

log = logging.getLogger(__name__)


class FileReconciler(Thread):
    """Keeps all files of one agent as their znodes define them.

    `statuses` is what the agent publishes about them, by dest; `changed` is called when it is new. An unexpected error
    is a problem of the files it occurs at, and is tried again like a full disk. `works` is whether the thread runs:
    should it end anyway, the agent must end too, and not go on without its files.
    """

    def __init__(self, config: Config, layout: Layout, session: Session, changed: Callable[[], None]) -> None:
        super().__init__(name="files", daemon=True)
        self.session = session
        self.timeout = config.hook_timeout
        self.works = True
        self._changed = changed
        self._layout = layout
        self._journal = FileJournal(layout.file_journal, [file.dest for file in config.files])
        self._actions = Actions(config.files, self._journal, config.hook_timeout, self._on_action)
        self._states = [FileState(file) for file in config.files]
        self._awake = threading.Event()
        self._ended = False
        self._lock = threading.Lock()
        self._everything_stale = True
        self._stale_paths: set[str] = set()
        self._resume_at: float | None = time.monotonic() + RESUME
        self._ask_again_at = 0.0
        self._read_again_at = 0.0
        self._has_no_cause = False
        """Whether everything has been read only because the last time was long ago."""
        self._trouble = ""
        self._backoff = Backoff()
        self._concerned: list[FileState] = []
        self._has_news = False
        self._status_bucket = TokenBucket(STATUS_BURST, STATUS_INTERVAL)
        self.statuses = self._current_statuses()

    def start(self) -> None:
        """Start work as soon as there is a connection. Raises `RuntimeError`; then no thread is left."""
        self._actions.start()
        try:
            super().start()
        except RuntimeError:
            self._actions.end()
            raise

    @property
    def actions_pending(self) -> int:
        """The number of files whose actions have not all succeeded since they changed."""
        return len(self._journal.pending)

    def wake(self) -> None:
        """Check whether there is something to do; from any thread."""
        self._awake.set()

    def read_again(self) -> None:
        """Read everything, whatever watches have reported; from any thread."""
        self._mark_stale(None)

    def end(self, seconds: float) -> None:
        """Start nothing more, and wait for what runs, for at most `seconds`."""
        self._ended = True
        self._actions.end()
        self._awake.set()
        self.join(seconds)

    def run(self) -> None:
        """Keep the files until the end."""
        try:
            self._run()
        finally:
            if self._ended:
                self._actions.join()
            self.works = False
            self._changed()

    def _run(self) -> None:
        for state in self._states:
            self._guard(partial(sweep, state.file))
        while not self._ended and self._actions.works:
            self._guard(self._turn)
            self._awake.wait(self._pause())
            self._awake.clear()

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as exc:  # noqa: BLE001 - a mistake must not end the agent, which would find it at each start
            self._note_mistake(exc)

    def _turn(self) -> None:
        self._resume_actions()
        if self.session.usable:
            self._reconcile()
        self._publish()

    def _resume_actions(self) -> None:
        """Run the actions that an earlier agent has left pending, once those can be read."""
        if self._resume_at is not None and (self.session.usable or time.monotonic() >= self._resume_at):
            self._resume_at = None if self._journal.try_to_read() else time.monotonic() + RESUME
            if self._resume_at is None:
                self._actions.resume()

    def _on_event(self, event: Any) -> None:
        """A watch has fired; without a path, the connection is lost and with it every watch."""
        self._mark_stale(event.path)

    def _mark_stale(self, path: str | None) -> None:
        """Have a znode read again, or all of them."""
        with self._lock:
            if path is None:
                self._everything_stale = True
            else:
                self._stale_paths.add(path)
        self._awake.set()

    def _on_action(self) -> None:
        self._has_news = True
        self._awake.set()

    def _pause(self) -> float | None:
        """Seconds until there is something to do without being woken."""
        now = time.monotonic()
        times = [now + self._status_bucket.wait(now)] if self._has_news else []
        if self._resume_at is not None:
            times.append(self._resume_at)
        if self.session.usable:
            # Without a session there is nothing to try: the agent's loop wakes this thread when there is one.
            retries = [state.retry_at for state in self._states if state.retry_at is not None]
            times += [self._ask_again_at] if self._ask_again_at else retries
        return max(min(times) - now, 0.01) if times else None

    def _reconcile(self) -> None:
        """Read what may have changed, and bring the files in step with it."""
        now = time.monotonic()
        due = now >= self._read_again_at or any(state.is_due(now) for state in self._states)
        if self._ask_again_at > now or not (self._everything_stale or self._stale_paths or due):
            return
        try:
            snapshots = self._read(now)
        except SessionTroubleError as exc:
            self._note_trouble(str(exc))
            return
        self._ask_again_at = 0.0
        accepted = []
        for state, snapshot in snapshots:
            if state.accepts(snapshot):
                accepted.append((state, snapshot))
            else:
                self._mark_stale(state.file.znode)
        self._write(accepted)
        self._trouble, self._concerned = "", []
        self._backoff.reset()

    def _read(self, now: float) -> list[tuple[FileState, Snapshot]]:
        """Snapshots of the files that may have changed or are due. Raises `SessionTroubleError`."""
        self._concerned = []
        with session_trouble("files"):
            # Every change before this mark has been named by its event, which came first.
            floor = self.session.mark()
            is_stale, paths = self._take_stale()
            # Then no watch has fired: what is unchanged keeps the time at which it was read before.
            self._has_no_cause = now >= self._read_again_at and not is_stale and not paths
            everything = is_stale or now >= self._read_again_at
            if everything:
                floor = self.session.catch_up()
                self._read_again_at = now + READ_AGAIN
        due = {
            state.file: state
            for state in self._states
            if everything or state.is_due(now) or _is_concerned(state.file, paths)
        }
        self._concerned = list(due.values())
        snapshots = take(self.session, due, self._on_event, floor)
        return [(due[file], snapshot) for file, snapshot in snapshots.items()]

    def _take_stale(self) -> tuple[bool, set[str]]:
        """Whether everything has to be read again, and which znodes otherwise; both are reset."""
        with self._lock:
            stale = self._everything_stale, self._stale_paths
            self._everything_stale, self._stale_paths = False, set()
            return stale

    def _note_mistake(self, exc: Exception) -> None:
        """Something failed that is not the problem of a single file: all that was in progress together has failed."""
        problem = UnexpectedFileError(exc)
        if str(problem) != self._trouble:
            log.error("%s; tried again", problem, exc_info=exc)
        self._trouble = str(problem)
        for state in self._concerned:
            state.fail(problem)
        self._has_news = bool(self._concerned)
        self._ask_again_at = time.monotonic() + next(self._backoff)
        with self._lock:
            self._everything_stale = True

    def _note_trouble(self, text: str) -> None:
        if text != self._trouble:
            log.warning("trouble with ZooKeeper, tried again: %s", text)
        self._trouble = text
        self._ask_again_at = time.monotonic() + AGAIN
        with self._lock:
            self._everything_stale = True

    def _write(self, snapshots: Sequence[tuple[FileState, Snapshot]]) -> None:
        batch = Batch(self._journal, self._actions, self._layout, self.timeout)
        batch.plan(snapshots, has_no_cause=self._has_no_cause)
        self._has_news = True
        if batch.validates:
            # The commands may take long.
            self._publish()
            self._has_news = True
        batch.write()

    def _publish(self) -> None:
        """Give the agent new statuses if something has changed, and not too often."""
        now = time.monotonic()
        if not self._has_news or self._status_bucket.wait(now):
            return
        self._has_news = False
        statuses = self._current_statuses()
        if statuses != self.statuses:
            self._status_bucket.spend(now)
            self.statuses = statuses
            self._changed()

    def _current_statuses(self) -> Mapping[str, Mapping[str, Any]]:
        return {state.file.dest: state.status(self._actions).to_object() for state in self._states}


def _is_concerned(file: ManagedFile, paths: Collection[str]) -> bool:
    """Whether a file is rendered from one of these znodes. There may be a thousand files, most of one znode each."""
    return file.znode in paths or (file.is_subtree and any(file.concerns(path) for path in paths))


def sweep(file: ManagedFile) -> None:
    """Remove what a killed agent had prepared for a file."""
    prepared = os.path.join(file.dest, STAGING) if file.format == "directory" else staged_path(file.dest)
    remove_tree(Path(prepared))
