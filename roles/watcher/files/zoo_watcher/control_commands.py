# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that tell the agent of a base what to do: hold, release, drain, undrain, retry.

Each writes or deletes a marker, wakes the agent, and waits until the agent's status shows the effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple

from .errors import AgentError
from .host.base_lock import agent_pid, is_locked
from .host.controls import DRAINED, HELD, HOLDING, RETRY, Mark, answers, make_mark, read_mark, remove_mark, write_mark
from .host.disk import unwritable
from .host.filesystem import FULL, NotRegularError, load_json
from .host.layout import Layout
from .wire.records import describe_mark
from .zookeeper.session_states import SYNC_CONNECTED

DONE = 0
REFUSED = 1
PENDING = 3
"""Exit statuses: done; refused; noted, but not yet carried out by the agent."""
PATIENCE = 10.0
"""Seconds that the agent gets to carry out a command."""
PAUSE = 0.05
SUDO = "run this as root, with sudo"

Status = Mapping[str, Any]


class Report(NamedTuple):
    """The result of a command: an exit status, and a line that says what is true now."""

    exit_status: int
    line: str


def hold(layout: Layout, reason: str, by: str) -> Report:
    """Tell the agent to stay at its release. Raises `AgentError`."""
    mark = _mark(layout, HELD, reason, by)
    line = _describe(HELD, mark)

    def effect(status: Status) -> str:
        return "; ".join([*([str(status[HOLDING])] if status.get(HOLDING) else []), "nothing newer is deployed"])

    return _wait(layout, line, effect, lambda status: _shows(status, HELD, mark))


def release(layout: Layout, _reason: str, _by: str) -> Report:
    """Let the agent deploy again. Raises `AgentError`."""
    _unmark(layout, HELD)
    return _wait(layout, "not held", lambda _status: "what is published is deployed", lambda status: HELD not in status)


def drain(layout: Layout, reason: str, by: str) -> Report:
    """Tell the agent to withdraw its registrations and to register nothing. Raises `AgentError`."""
    mark = _mark(layout, DRAINED, reason, by)

    def is_withdrawn(status: Status) -> bool:
        return _shows(status, DRAINED, mark) and status.get("withdrawn") is True

    line = _describe(DRAINED, mark)
    return _wait(layout, line, lambda _status: "nothing is registered", is_withdrawn)


def undrain(layout: Layout, _reason: str, _by: str) -> Report:
    """Let the agent register its healthy services again. Raises `AgentError`."""
    _unmark(layout, DRAINED)

    def is_registering(status: Status) -> bool:
        return DRAINED not in status and status.get("session") == SYNC_CONNECTED

    return _wait(layout, "not drained", _describe_registering, is_registering)


def _describe_registering(status: Status) -> str:
    """That healthy services are registered; if something keeps the agent from its work, that and what is registered."""
    return _describe_trouble(status) if status.get("troubles") else "healthy services are registered"


def _describe_trouble(status: Status) -> str:
    """What is registered, and what keeps the agent from its work, if anything."""
    registered = ", ".join(map(str, status.get("registered") or ())) or "nothing"
    troubles = [f"trouble: {trouble}" for trouble in status.get("troubles") or ()]
    return "; ".join([f"registered is {registered}", *troubles])


def retry(layout: Layout, _reason: str, by: str) -> Report:
    """Tell the agent to try again what has failed. Raises `AgentError`."""
    status: Status = load_json(layout.status, dict, {})
    before = status.get(RETRY)
    with _refused(layout):
        request = write_mark(layout, RETRY, "", by)

    def answer(status: Status) -> Status | None:
        said = status.get(RETRY)
        return said if isinstance(said, dict) and said != before and _answers(said, request, layout) else None

    if not is_locked(layout):
        return Report(PENDING, "no agent runs here; what failed is tried again when it is started")
    status = _await_status(layout, lambda status: answer(status) is not None)
    said = answer(status)
    if said is None:
        return Report(PENDING, f"retry is asked for; {_delay(layout, status)}")
    return Report(DONE if said.get("done") else REFUSED, str(said.get("message")))


COMMANDS: dict[str, Callable[[Layout, str, str], Report]] = {
    "hold": hold,
    "release": release,
    "drain": drain,
    "undrain": undrain,
    "retry": retry,
}


def carry_out(command: str, layout: Layout, reason: str, by: str) -> Report:
    """Carry out one of the commands, if this user may. Raises `AgentError`."""
    place = layout.own if os.path.lexists(layout.own) else layout.base
    if not os.access(place, os.W_OK):
        raise AgentError(f"{place}: {unwritable(place) or f'permission denied; {SUDO}'}")
    return COMMANDS[command](layout, reason, by)


def _mark(layout: Layout, name: str, reason: str, by: str) -> Mark:
    with _refused(layout):
        return make_mark(layout, name, reason, by)


def _describe(name: str, mark: Mark) -> str:
    return "; ".join(filter(None, [describe_mark(name, mark.to_object()), mark.damage]))


def _unmark(layout: Layout, name: str) -> None:
    with _refused(layout):
        remove_mark(layout, name)


@contextlib.contextmanager
def _refused(layout: Layout) -> Iterator[None]:
    """Turn an `OSError` inside the block into an `AgentError` that says what keeps this user from changing a marker."""
    try:
        yield
    except PermissionError as exc:
        raise AgentError(f"{exc.filename}: {exc.strerror}; {SUDO}") from exc
    except NotRegularError as exc:
        raise AgentError(f"{exc.filename}: {exc.strerror}; move it away") from exc
    except OSError as exc:
        # The error of a write to a full disk names no file.
        advice = "; make room" if exc.errno in FULL else ""
        raise AgentError(f"{exc.filename or layout.controls}: {exc.strerror}{advice}") from exc


def _wait(layout: Layout, line: str, effect: Callable[[Status], str], is_done: Callable[[Status], bool]) -> Report:
    """Wait until the agent's status shows the change; `effect` describes, from that status, what is true then."""
    if not is_locked(layout):
        return Report(DONE, f"{line}; no agent runs here, it counts when it is started")
    status = _await_status(layout, is_done)
    if is_done(status):
        return Report(DONE, f"{line}; {effect(status)}")
    return Report(PENDING, f"{line}; {_delay(layout, status)}")


def _await_status(layout: Layout, is_done: Callable[[Status], bool]) -> Status:
    """Wake the agent, and wait until its status is as expected; returns the last status, whatever it is."""
    pid = agent_pid(layout)
    if pid is not None:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE
    while True:
        status: Status = load_json(layout.status, dict, {})
        if is_done(status) or time.monotonic() > deadline:
            return status
        time.sleep(PAUSE)


def _delay(layout: Layout, status: Status) -> str:
    """What is known about an agent that has not carried out a command in time."""
    reason = unwritable(layout.own)
    if reason:
        return f"not confirmed by the agent, whose status can't be written: {reason}"
    session = f"its session is {status.get('session', 'unknown')}"
    return f"not carried out by the agent within {PATIENCE:g} s: {session}, {_describe_trouble(status)}"


def _answers(said: Status, request: Mark, layout: Layout) -> bool:
    """Whether a new answer settles this request: it is the answer to it, or another request has replaced it."""
    if answers(said, request):
        return True
    with _refused(layout):
        return read_mark(layout.control(RETRY)) != request


def _shows(status: Status, name: str, mark: Mark) -> bool:
    said = status.get(name)
    return isinstance(said, dict) and said.get("since") == mark.since
