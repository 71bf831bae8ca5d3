# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers of its files across restarts: what it made, what it still owes, when it last acted."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zoo_watcher.config.managed_file import LONGEST_INTERVAL
from zoo_watcher.host.filesystem import write_durably

log = logging.getLogger(__name__)


class FileJournal:
    """What the agent remembers of its files across restarts. Safe to use from any thread.

    `made` has, by dest, the paths that the agent made there ("" is dest itself, a directory's path ends with a slash).
    `owed` has the dests that were changed and whose actions have not all ended well. `runs` has, by action, the time
    (of `time.time()`) at which it last ended, or began.
    """

    def __init__(self, path: Path, dests: Iterable[str]) -> None:
        self.path = path
        found = _load(path)
        known = set(dests)
        self.made = {dest: set(map(str, names)) for dest, names in found["made"].items() if dest in known}
        self.owed = {dest for dest in found["owed"] if dest in known}
        self.runs = {str(action): float(when) for action, when in found["runs"].items()}
        self._lock = threading.Lock()
        self._saved = self._text()

    def expect(self, made: Mapping[str, Iterable[str]], owed: Iterable[str]) -> None:
        """Before files change: these will have been made, and these will be owed an action. Raises `OSError`."""
        with self._lock:
            for dest, names in made.items():
                self.made.setdefault(dest, set()).update(names)
            self.owed.update(owed)
            self._save()

    def note(self, made: Mapping[str, Iterable[str]]) -> None:
        """This was found to be as the agent would make it: it is the agent's from now on."""
        with self._lock:
            for dest, names in made.items():
                self.made.setdefault(dest, set()).update(names)
            self._try_to_save()

    def note_made(self, dest: str, names: Iterable[str]) -> None:
        """After they have changed: this is what there is at `dest` of the agent's."""
        with self._lock:
            self.made[dest] = set(names)
            if not self.made[dest]:
                del self.made[dest]
            self._try_to_save()

    def pay(self, dests: Iterable[str], runs: Mapping[str, float]) -> None:
        """Nothing is owed for these any more; `runs` are actions that have ended."""
        with self._lock:
            self.owed.difference_update(dests)
            self.runs.update(runs)
            self._try_to_save()

    def note_run(self, action: str, now: float) -> None:
        """An action begins."""
        with self._lock:
            self.runs = {other: when for other, when in self.runs.items() if now - when < LONGEST_INTERVAL}
            self.runs[action] = now
            self._try_to_save()

    def _text(self) -> str:
        made = {dest: sorted(names) for dest, names in sorted(self.made.items())}
        return json.dumps({"made": made, "owed": sorted(self.owed), "runs": self.runs})

    def _save(self) -> None:
        text = self._text()
        if text != self._saved:
            # A command in it is for nobody else to read.
            write_durably(self.path, text, mode=0o600)
            self._saved = text

    def _try_to_save(self) -> None:
        """What is remembered too much makes an action run once more, after a restart: no reason to stop here."""
        try:
            self._save()
        except OSError as exc:
            log.warning("ledger of files not written, path=%s: %s", self.path, exc.strerror)


def _load(path: Path) -> dict[str, Any]:
    """What the file holds, in the right types; nothing where it can't be read, for it is only a memory."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            "made": {str(dest): list(map(str, names)) for dest, names in found["made"].items()},
            "owed": list(map(str, found["owed"])),
            "runs": {str(action): float(when) for action, when in found["runs"].items()},
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return {"made": {}, "owed": [], "runs": {}}
