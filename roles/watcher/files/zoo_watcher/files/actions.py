# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows a changed file: commands and restarts of units, in a thread of their own, one at a time.

An action that several files require runs once for all that changed together. The journal names a file as
pending from before it changes until its actions have succeeded: if the agent is killed, its successor runs them.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.managed_file import ManagedFile
from zoo_watcher.errors import MOST_KILLED, UnexpectedFileError
from zoo_watcher.host import command
from zoo_watcher.host.thread import Thread

from .journal import FileJournal

RESTART = ("systemctl", "restart")
MOST_BEGUN = 3
"""How often in a row an agent may end while an action runs before the action counts as the cause."""
SETTLE = 0.05
"""Seconds between a change and its action, for the rest of one transaction or playbook to arrive."""
MOST_NAMED = 100_000
"""Bytes of all names in one variable: with more than 131,071 a process can't be started (execve(2))."""

GIVEN_UP = (
    f"is not run again until the file changes: the agent ended {MOST_BEGUN} times while it ran; "
    "does it end or restart the agent?"
)

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Action:
    """A command that follows a change, and its state; `label` names it in messages.

    `interval` is the least number of seconds between two runs. `last_run` and `due` are times of `time.monotonic()`;
    `due` is None if no run is due. `waiting` are the files whose change has to be followed by a run, `running` those
    of the current run, `problems` has the failure of the last run by file. `backoff` has the pauses after which it is
    run again if a failure says nothing about the change, `killed` is how many of the last runs in a row were killed.
    """

    command: tuple[str, ...]
    label: str
    interval: float = 0.0
    last_run: float = 0.0
    due: float | None = None
    waiting: set[str] = field(default_factory=set)
    running: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)
    killed: int = 0

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return shlex.join(self.command)

    def is_pending(self, dest: str) -> bool:
        """Whether it has to run for a file, or runs."""
        return dest in self.waiting or dest in self.running

    def is_complete(self, dest: str) -> bool:
        """Whether it has succeeded since the file's last change."""
        return not self.is_pending(dest) and dest not in self.problems

    def request(self, dest: str, due: float) -> None:
        """The file has changed."""
        self.problems.pop(dest, None)
        self.waiting.add(dest)
        self.due = due if self.due is None else self.due

    def begin(self) -> None:
        """It runs for all files that wait for it."""
        self.running, self.waiting, self.due = self.waiting, set(), None

    def finish(self, problem: str | None) -> None:
        """It has run. For a file that has changed meanwhile, the next run counts."""
        self._note(problem)
        self.running = set()
        self.backoff.reset()
        self.killed = 0

    def postpone(self, problem: str | None, now: float) -> None:
        """It could not be run, and is still to be run for the same files and those that have changed meanwhile."""
        self._note(problem)
        self.waiting |= self.running
        self.running = set()
        self.due = now + next(self.backoff)

    def _note(self, problem: str | None) -> None:
        for dest in self.running - self.waiting:
            self.problems.pop(dest, None)
            if problem:
                self.problems[dest] = problem

    def remaining(self, now: float) -> float | None:
        """Seconds until it may run; None if no run is due."""
        return None if self.due is None else max(self.due - now, self.last_run + self.interval - now, 0.0)


def commands_of(file: ManagedFile) -> list[tuple[str, tuple[str, ...]]]:
    """What a file's change requires, each with its label: its command, then the restarts of its units."""
    commands = [(f"on_change {file.on_change[0]}", file.on_change)] if file.on_change else []
    return [*commands, *((f"restarting {unit}", (*RESTART, unit)) for unit in file.restart_units)]


class Actions(Thread):
    """Runs what is due. `changed` is called, in this thread, when an action has ended, or the thread has (`works`)."""

    def __init__(
        self, files: Sequence[ManagedFile], journal: FileJournal, timeout: float, changed: Callable[[], None]
    ) -> None:
        super().__init__(name="actions", daemon=True)
        self.timeout = timeout
        self.journal = journal
        self.works = True
        self._changed = changed
        self._znodes = {file.dest: file.znode for file in files}
        self._by_file: dict[str, list[Action]] = {file.dest: [] for file in files}
        actions: dict[tuple[str, tuple[str, ...]], Action] = {}
        for file in files:
            for label, words in commands_of(file):
                action = actions.setdefault((label, words), Action(words, label))
                action.interval = max(action.interval, file.min_interval)
                action.last_run = _monotonic(journal.last_runs.get(action.key, 0.0))
                self._by_file[file.dest].append(action)
        # Commands before restarts, whatever the order of the files.
        self._actions = sorted(actions.values(), key=lambda action: action.command[:2] == RESTART)
        self._announced: set[str] = set()
        self._condition = threading.Condition()
        self._ended = False

    def is_pending(self, dest: str) -> bool:
        """Whether an action of this file has to run, or runs."""
        with self._condition:
            return any(action.is_pending(dest) for action in self._by_file[dest])

    def problem(self, dest: str) -> str | None:
        """Why an action after this file's last change failed."""
        with self._condition:
            problems = [action.problems.get(dest) for action in self._by_file[dest]]
            return "; ".join(dict.fromkeys(filter(None, problems))) or None

    def announce(self, dests: Iterable[str]) -> list[str]:
        """Before files change: those among them whose change requires an action, for the journal."""
        with self._condition:
            announced = [dest for dest in dests if self._by_file[dest]]
            self._announced.update(announced)
            return announced

    def drop(self, dest: str) -> None:
        """The file did not change after all."""
        with self._condition:
            self._announced.discard(dest)
            self._complete([dest], {})

    def request(self, dests: Iterable[str]) -> None:
        """The files have changed together: their actions run soon, or when they may run again."""
        dests = list(dests)
        self.journal.forget_begun(action.key for dest in dests for action in self._by_file[dest])
        self._request(dests)

    def resume(self) -> None:
        """Have the actions run that are still to follow a change made by an earlier agent."""
        pending = sorted(self.journal.pending)
        self._request(pending)
        with self._condition:
            # What failed may have been removed from the configuration: then nothing follows.
            self._complete(pending, {})

    def _request(self, dests: Iterable[str]) -> None:
        due = time.monotonic() + SETTLE
        with self._condition:
            for dest in dests:
                self._announced.discard(dest)
                for action in self._by_file[dest]:
                    action.request(dest, due)
            self._condition.notify()

    def end(self) -> None:
        """Start no further action. What is pending stays in the journal."""
        with self._condition:
            self._ended = True
            self._condition.notify()

    def run(self) -> None:
        """Run each action when it is due, until the end."""
        try:
            self._run()
        finally:
            self.works = False
            self._changed()

    def _run(self) -> None:
        while True:
            with self._condition:
                action = self._await_due()
                if action is None:
                    return
                action.begin()
            dests = sorted(action.running)
            problem, may_pass = self._outcome(action, dests)
            ended: dict[str, float] = {}
            with self._condition:
                if may_pass:
                    action.postpone(problem, time.monotonic())
                else:
                    action.finish(problem)
                    # The interval begins with the action's end or, if nobody saw that, with its start.
                    ended = {action.key: time.time()} if action.interval else {}
                self._complete(dests, ended)
            self._changed()

    def _await_due(self) -> Action | None:
        """The first action that may run; None at the end."""
        while not self._ended:
            now = time.monotonic()
            remaining = {action: seconds for action in self._actions if (seconds := action.remaining(now)) is not None}
            ready = next((action for action, seconds in remaining.items() if not seconds), None)
            if ready is not None:
                return ready
            self._condition.wait(min(remaining.values(), default=None))
        return None

    def _outcome(self, action: Action, dests: Sequence[str]) -> tuple[str | None, bool]:
        """Why it failed, or None; and whether it is to be run again because that says nothing about the change."""
        if self.journal.begun.get(action.key, 0) >= MOST_BEGUN:
            problem = f"{action.label} {GIVEN_UP}"
            log.error("%s, files=%s", problem, ",".join(dests))
            return problem, False
        try:
            outcome = self._execute(action, dests)
        except Exception as exc:
            log.exception("%s, files=%s", action.label, ",".join(dests))
            outcome = f"{action.label}: {UnexpectedFileError(exc)}", False
        if not (self._ended and outcome[0]):
            # An action that failed while the agent ends may be what ends it.
            self.journal.forget_begun([action.key])
        return outcome

    def _execute(self, action: Action, dests: Sequence[str]) -> tuple[str | None, bool]:
        self.journal.record_run(action.key, time.time() if action.interval else None)
        named = {"ZOO_FILES": dests, "ZOO_ZNODES": [self._znodes[dest] for dest in dests]}
        texts = {name: "\n".join(paths) for name, paths in named.items()}
        environment = {name: text for name, text in texts.items() if len(os.fsencode(text)) <= MOST_NAMED}
        ended = command.run(action.command, self.timeout, environment)
        if not ended.found_shortage:
            action.last_run = time.monotonic()
        action.killed = action.killed + 1 if ended.was_killed else 0
        for line in ended.lines:
            log.info("%s: %s", action.label, line)
        log.info("%s %s, files=%s", action.label, ended.problem or "succeeded", ",".join(dests))
        problem = f"{action.label} {ended.problem}: {ended.tail}".rstrip(": ") if ended.problem else None
        return problem, ended.found_shortage or 0 < action.killed < MOST_KILLED

    def _complete(self, dests: Iterable[str], runs: Mapping[str, float]) -> None:
        # While the lock is held: the journal must not forget what is announced at this moment.
        self.journal.complete([dest for dest in dests if self._is_complete(dest)], runs)

    def _is_complete(self, dest: str) -> bool:
        return dest not in self._announced and all(action.is_complete(dest) for action in self._by_file[dest])


def _monotonic(when: float) -> float:
    """A time of `time.time()` by `time.monotonic()`. A clock that was set back since must not delay for long."""
    return time.monotonic() - max(time.time() - when, 0.0)
