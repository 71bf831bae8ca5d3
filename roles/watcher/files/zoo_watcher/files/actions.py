# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows the change of files: commands and restarts of units, in a thread of their own, one at a time.

An action that several files ask for runs once for all that changed together. What is owed is in the journal before a
file changes, and stays there until the action has ended well: an agent that was killed in between does it later.
"""

from __future__ import annotations

import logging
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.host import command

from .journal import FileJournal

SETTLE = 0.05
"""Seconds between a change and its action: what one transaction or playbook changes comes in that time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Action:
    """A command that follows a change; `doing` names it in messages."""

    words: tuple[str, ...]
    doing: str

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return shlex.join(self.words)


def actions_of(file: ManagedFile) -> list[Action]:
    """What a file's change asks for: its command, then its units."""
    commands = [Action(file.on_change, f"on_change {file.on_change[0]}")] if file.on_change else []
    return [*commands, *(Action(("systemctl", "restart", unit), f"restarting {unit}") for unit in file.restart_units)]


class Actions(threading.Thread):
    """Runs what is owed. `changed` is called, in this thread, when an action has ended, or all has (`works`)."""

    def __init__(
        self, files: Sequence[ManagedFile], journal: FileJournal, timeout: float, changed: Callable[[], None]
    ) -> None:
        super().__init__(name="actions", daemon=True)
        self.timeout = timeout
        self.journal = journal
        self._changed = changed
        self._wanted = {file.dest: actions_of(file) for file in files}
        self._znodes = {file.dest: file.znode for file in files}
        self._intervals: dict[Action, float] = {}
        for file in files:
            for action in self._wanted[file.dest]:
                self._intervals[action] = max(file.min_interval, self._intervals.get(action, 0.0))
        # Commands before restarts, whatever the order of the files.
        self._order = sorted(self._intervals, key=lambda action: action.words[:2] == ("systemctl", "restart"))
        self._ran = {action: self._last_run(action) for action in self._order}
        self._state = threading.Condition()
        self._ended = False
        self.works = True
        self._promised: set[str] = set()
        self._owing: dict[Action, set[str]] = {}
        self._due: dict[Action, float] = {}
        self._open: dict[str, set[Action]] = {}
        self._problems: dict[str, dict[Action, str]] = {}

    def owes(self, dest: str) -> bool:
        """Whether an action of this file's has to run, or runs."""
        with self._state:
            return bool(self._open.get(dest))

    def problem(self, dest: str) -> str | None:
        """Why an action of this file's last change did not end well."""
        with self._state:
            return "; ".join(self._problems.get(dest, {}).values()) or None

    def promise(self, dests: Iterable[str]) -> list[str]:
        """Before files change: those among them that will be owed an action, for the journal."""
        with self._state:
            promised = [dest for dest in dests if self._wanted[dest]]
            self._promised.update(promised)
            return promised

    def withdraw(self, dest: str) -> None:
        """The file did not change after all."""
        with self._state:
            self._promised.discard(dest)
            self._pay([dest], {})

    def owe(self, dests: Iterable[str]) -> None:
        """The files have changed, together: their actions run soon, or when they may run again."""
        now = time.monotonic()
        with self._state:
            for dest in dests:
                self._promised.discard(dest)
                self._problems.pop(dest, None)
                self._open[dest] = set(self._wanted[dest])
                for action in self._wanted[dest]:
                    self._owing.setdefault(action, set()).add(dest)
                    self._due.setdefault(action, now + SETTLE)
            self._state.notify()

    def end(self) -> None:
        """Begin no further action. What is owed stays in the journal."""
        with self._state:
            self._ended = True
            self._state.notify()

    def run(self) -> None:
        """Run each action when it is due, until the end."""
        try:
            self._run()
        finally:
            self.works = False
            self._changed()

    def _run(self) -> None:
        while True:
            with self._state:
                action = self._await_due()
                if action is None:
                    return
                del self._due[action]
                dests = self._owing.pop(action)
            problem = self._act(action, sorted(dests))
            with self._state:
                self._note(action, dests, problem)
            self._changed()

    def _last_run(self, action: Action) -> float:
        """When it last ran, by `time.monotonic()`. A clock that was set back since must not hold it back for long."""
        past = time.time() - self.journal.runs.get(action.key, 0.0)
        return time.monotonic() - max(past, 0.0)

    def _rest(self, action: Action) -> float:
        """Seconds until the action, which is owed, may run."""
        free = max(self._ran[action] + self._intervals[action], self._due[action])
        return max(free - time.monotonic(), 0.0)

    def _await_due(self) -> Action | None:
        """The first action that is due; None at the end."""
        while not self._ended:
            rests = {action: self._rest(action) for action in self._order if action in self._due}
            due = next((action for action, rest in rests.items() if not rest), None)
            if due is not None:
                return due
            self._state.wait(min(rests.values(), default=None))
        return None

    def _act(self, action: Action, dests: Sequence[str]) -> str | None:
        """Run it; why it did not end well, or None."""
        if self._intervals[action]:
            self.journal.note_run(action.key, time.time())
        environment = {
            "ZOO_FILES": "\n".join(dests),
            "ZOO_ZNODES": "\n".join(self._znodes[dest] for dest in dests),
        }
        ended = command.run(action.words, self.timeout, environment)
        self._ran[action] = time.monotonic()
        for line in ended.output.splitlines():
            log.info("%s: %s", action.doing, line)
        log.info("%s %s, files=%s", action.doing, ended.problem or "ended well", ",".join(dests))
        return f"{action.doing} {ended.problem}: {ended.tail}".rstrip(": ") if ended.problem else None

    def _note(self, action: Action, dests: Iterable[str], problem: str | None) -> None:
        for dest in dests:
            if dest in self._owing.get(action, ()):
                # It has changed again meanwhile: what counts is how that ends.
                continue
            self._open[dest].discard(action)
            if problem:
                self._problems.setdefault(dest, {})[action] = problem
        # The interval begins with the action's end; where nobody saw that, with its beginning.
        self._pay(dests, {action.key: time.time()} if self._intervals[action] else {})

    def _pay(self, dests: Iterable[str], runs: Mapping[str, float]) -> None:
        # While the lock is held: the journal must not forget what is promised at this moment.
        self.journal.pay(
            [
                dest
                for dest in dests
                if not self._open.get(dest) and not self._problems.get(dest) and dest not in self._promised
            ],
            runs,
        )
