# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller does for a rollout while it waits: it asks gates, and notifies of each change of phase.

The rollout is in ZooKeeper, and continues or rests without the controller. The gates' decision is written like a
person's command: for the state that it is about, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import HALTED, PAUSED, SOAKING
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import GATES
from ansible_collections.zoo.deploy.plugins.plugin_utils.terminal import say

from . import command, web
from .event import environment_of, event_of, text_of
from .gates import FAILED, INCONCLUSIVE, GateAnswer, GateVerdict, StepGate, judge_answer, judge_command, verdict
from .options import Notification

VERBS = {FAILED: "halt", INCONCLUSIVE: "pause"}
"""The command to a rollout whose gates did not pass, by their outcome."""

display = Display()


class Attendant:
    """Attends one rollout of an application, for one task of an Ansible worker; a `silent` one prints nothing."""

    def __init__(
        self,
        app: str,
        gates: Sequence[StepGate] = (),
        notification: Notification | None = None,
        *,
        silent: bool = False,
    ) -> None:
        self.answers: list[dict[str, Any]] = []
        self.has_moved_it = False
        """Whether the gates' decision has moved the rollout during the wait."""
        self.proving: list[str] = []
        """Hosts that are proving the release once more; no gate is asked while all of them still are."""
        self._silent = silent
        self._lock: str | None = None
        self._app = app
        self._gates = gates
        self._notification = notification
        self._moves: int | None = None
        self._changes = False
        self._latest: Mapping[str, Any] = {}
        self._parent = os.getppid()

    @property
    def attends(self) -> bool:
        """Whether there is anything to do at a change of phase."""
        return bool(self._gates or self._notification)

    @property
    def is_locked_out(self) -> bool:
        """Whether gates are not asked now, because somebody holds the lock."""
        return self._lock is not None

    @property
    def has_gates(self) -> bool:
        """Whether there are gates to ask."""
        return bool(self._gates)

    def saw(self, result: dict[str, Any]) -> dict[str, Any]:
        """The module's result, with `timed_out` if gates are to be asked; reports a change of phase, and a lock.

        It also reports why an answer has no effect, for example if somebody was faster. A wait that has failed is over,
        for example after another release was published: nobody asks for that rollout any longer.
        """
        lock, note = result.pop("_lock", None), result.pop("_note", None)
        self.proving = result.pop("_proving", [])
        self.has_moved_it = result.pop("_obeyed", False) or self.has_moved_it
        if note:
            self._tell(note)
        if lock and lock != self._lock:
            self._tell(f"{lock}; the gates are asked once it is unlocked")
        self._latest, self._lock = result, lock
        self._changes = self._changes or bool(result.get("changed"))
        rollout = result.get("rollout")
        if not rollout:
            return result
        is_news = self._changes if self._moves is None else rollout["moves"] != self._moves
        self._moves = rollout["moves"]
        if is_news and self._notification:
            self._notify(self._notification, event_of(self._app, result))
        goes_on = self._waits_for_gates(rollout) and not result.get("failed")
        return {**result, "timed_out": True} if goes_on else result

    def _waits_for_gates(self, rollout: Mapping[str, Any]) -> bool:
        return self.has_gates and rollout["phase"] == PAUSED and rollout["waits_for"] == GATES

    def next_command(self) -> dict[str, Any] | None:
        """The command, by its gates, for the rollout as last seen; None for nothing."""
        rollout = self._latest.get("rollout") or {}
        if not rollout or not self.has_gates or self._lock or self.proving:
            return None
        if self._waits_for_gates(rollout):
            return self.command_for(self._latest, "pass")
        if rollout["phase"] == SOAKING and is_unattended(rollout):
            given = self.command_for(self._latest, "")
            return given if given["verb"] == VERBS[FAILED] else None
        return None

    def command_for(self, result: Mapping[str, Any], passed: str) -> dict[str, Any]:
        """Ask the gates; the resulting command, `passed` if they pass, for the state in the result only."""
        decided = self._ask(event_of(self._app, result))
        self.check_parent()
        if decided.decided_by is None:
            return command_about(result, passed, "the gates" if passed == "pass" else "")
        gate = f"gate {decided.decided_by.name}"
        return command_about(result, VERBS[decided.outcome], gate, str(decided.decided_by))

    def check_parent(self) -> None:
        """Raise an `AnsibleActionFail` if ansible-playbook has exited.

        A worker outlives it if it was killed: it would wait for ever, and nobody would know what it does.
        """
        if os.getppid() != self._parent:
            raise AnsibleActionFail("ansible-playbook has ended, so nothing is waited for, and no gate opens anything")

    def _ask(self, event: Mapping[str, Any]) -> GateVerdict:
        answers = []
        for gate in self._gates:
            answer = ask(gate, event)
            answers.append(answer)
            self.answers.append({**answer._asdict(), "step": event["step"]})
            self._tell(str(answer))
            if answer.outcome == FAILED:
                break
        return verdict(answers)

    def _tell(self, line: str) -> None:
        if not self._silent:
            say(f"{'':9}{line}")

    def _notify(self, notification: Notification, event: Mapping[str, Any]) -> None:
        environment = {**environment_of(event), **notification.environment}
        ended = command.run(notification.command, notification.timeout, environment, text_of(event))
        if ended.status != 0:
            why = ended.problem or f"ended with {ended.status}"
            display.warning(f"notify: the command {why}; nobody may know that the rollout is {event['phase']}")

    def at_end(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result after the wait: a rollout that still waits for its gates has not been proved in time."""
        if not result.get("timed_out") or result.get("failed"):
            return result
        why = f"not proved in time: step {result['rollout']['step']} still waits for its gates"
        return {**result, "failed": True, "msg": f"{why}; promote it, with the gates, to go on (promote.yml)"}

    def explain(self, result: dict[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The result of a command; if gates did not pass, with the reason, and failed if that halts the rollout."""
        if given and given["verb"] in VERBS.values():
            if not result.get("changed") or given["reason"] not in str(result.get("msg")):
                result["msg"] = "; ".join(filter(None, [given["reason"], result.get("msg")]))
            phase = (result.get("rollout") or {}).get("phase")
            result["failed"] = bool(result.get("failed")) or phase == HALTED
        return result


def command_about(result: Mapping[str, Any], verb: str, by: str = "", reason: str = "") -> dict[str, Any]:
    """A command for the state in the result only."""
    return {"verb": verb, "by": by, "reason": reason, "moves": result["rollout"]["moves"]}


def ask(gate: StepGate, event: Mapping[str, Any]) -> GateAnswer:
    """A gate's answer now; this takes at most its timeout."""
    if gate.command:
        environment = {**environment_of(event), **(gate.environment or {})}
        return judge_command(gate, command.run(gate.command, gate.timeout, environment, text_of(event)))
    return judge_answer(gate, web.get(gate.url, gate.timeout, gate.options or {}))


def is_unattended(rollout: Mapping[str, Any]) -> bool:
    """Whether a rollout continues if nobody asks its gates."""
    return isinstance(rollout["plan"], Mapping) and bool(rollout["plan"].get("unattended"))
