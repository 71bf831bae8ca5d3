# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers of its files across restarts: what it created, what is pending, when actions last ran."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo_watcher.config.managed_file import LONGEST_INTERVAL
from zoo_watcher.host.filesystem import read_json, write_durably

EMPTY: dict[str, Any] = {"made": {}, "owed": [], "runs": {}, "begun": {}}

log = logging.getLogger(__name__)


class FileJournal:
    """What the agent remembers of its files across restarts. Safe to use from any thread.

    `created` has, by dest, the paths that the agent created there ("" is dest itself, a directory's path ends with a
    slash). `pending` has the dests that were changed and whose actions have not all succeeded. `last_runs` has, by
    action, the time (of `time.time()`) at which it last ended, or began. `begun` has, by action, how often in a row it
    was started without an agent having seen its end. In the file they are `made`, `owed`, `runs` and `begun`.
    """

    def __init__(self, path: Path, dests: Iterable[str]) -> None:
        self.path = path
        self.created: dict[str, set[str]] = {}
        self.pending: set[str] = set()
        self.last_runs: dict[str, float] = {}
        self.begun: dict[str, int] = {}
        self._dests = frozenset(dests)
        self._is_read = False
        self._lock = threading.Lock()
        try:
            self._read()
        except OSError as exc:
            log.warning("journal of files not read, path=%s: %s; no file changes before it is", path, exc.strerror)
        self._saved = self._text()

    def _read(self) -> None:
        """Add what is saved about the configured files. Raises `OSError`."""
        saved = read_json(self.path, _from_object, _from_object(EMPTY))
        self._add_created({dest: paths for dest, paths in saved["made"].items() if dest in self._dests})
        self.pending.update(saved["owed"] & self._dests)
        self.last_runs = {**saved["runs"], **self.last_runs}
        self.begun = {**saved["begun"], **self.begun}
        self._is_read = True

    def try_to_read(self) -> bool:
        """Read it, if it could not be read before; returns whether it has been read."""
        with self._lock, contextlib.suppress(OSError):
            if not self._is_read:
                self._read()
        return self._is_read

    def record_intent(self, created: Mapping[str, Iterable[str]], pending: Iterable[str]) -> None:
        """Before files change: what will have been created, and whose actions will be pending. Raises `OSError`."""
        with self._lock:
            self._add_created(created)
            self.pending.update(pending)
            self._save()

    def adopt(self, created: Mapping[str, Iterable[str]]) -> None:
        """Existing files that are as the agent would create them are the agent's from now on."""
        with self._lock:
            self._add_created(created)
            self._try_to_save()

    def set_created(self, dest: str, paths: Iterable[str]) -> None:
        """After a change: this is all that the agent has created at `dest`."""
        with self._lock:
            self.created[dest] = set(paths)
            if not self.created[dest]:
                del self.created[dest]
            self._try_to_save()

    def complete(self, dests: Iterable[str], runs: Mapping[str, float]) -> None:
        """No action of these files is pending any longer; `runs` are actions that have ended."""
        with self._lock:
            self.pending.difference_update(dests)
            self.last_runs.update(runs)
            self._try_to_save()

    def record_run(self, action: str, now: float | None) -> None:
        """An action starts; `now` if the time of that has to be known."""
        with self._lock:
            self.begun[action] = self.begun.get(action, 0) + 1
            if now is not None:
                recent = {other: when for other, when in self.last_runs.items() if now - when < LONGEST_INTERVAL}
                self.last_runs = {**recent, action: now}
            self._try_to_save()

    def forget_begun(self, actions: Iterable[str]) -> None:
        """The actions have ended, or have to follow a new change. This is saved with what is noted next."""
        with self._lock:
            for action in actions:
                self.begun.pop(action, None)

    def _add_created(self, created: Mapping[str, Iterable[str]]) -> None:
        for dest, paths in created.items():
            self.created.setdefault(dest, set()).update(paths)

    def _text(self) -> str:
        created = {dest: sorted(paths) for dest, paths in sorted(self.created.items())}
        owed = sorted(self.pending)
        return json.dumps({"made": created, "owed": owed, "runs": self.last_runs, "begun": self.begun})

    def _save(self) -> None:
        if not self._is_read:
            self._read()
        text = self._text()
        if text != self._saved:
            # Nobody else may read a command in it.
            write_durably(self.path, text, mode=0o600)
            self._saved = text

    def _try_to_save(self) -> None:
        """Save it if possible: an outdated journal only makes an action run once more after a restart."""
        try:
            self._save()
        except OSError as exc:
            log.warning("journal of files not written, path=%s: %s", self.path, exc.strerror)


def _from_object(saved: Any) -> dict[str, Any]:
    """The content of the file, with the right types."""
    return {
        "made": {str(dest): set(map(str, paths)) for dest, paths in saved["made"].items()},
        "owed": set(map(str, saved["owed"])),
        "runs": {str(action): float(when) for action, when in saved["runs"].items()},
        # Earlier versions of the agent did not count.
        "begun": {str(action): int(times) for action, times in saved.get("begun", {}).items()},
    }
