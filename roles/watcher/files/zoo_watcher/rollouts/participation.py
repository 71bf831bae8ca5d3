# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's part in a rollout: it waits in line, and reports its outcome.

Used only by the loop, once a turn. `turn.py` decides what to do, `rollout_rules` what follows; this module does it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Callable

from zoo_watcher.desired import Assignment, Desired, Standstill
from zoo_watcher.errors import NoAnswerError, NoParentError, RefusedError, SessionTroubleError
from zoo_watcher.host.thread import Thread
from zoo_watcher.wire.records import InvalidRecord, Release, parse_object
from zoo_watcher.wire.rollout_admission import may_leave
from zoo_watcher.wire.rollout_events import Ask, Event, Has, Outcome
from zoo_watcher.wire.rollout_phases import DONE, GOING_BACK, GOING_ON, HALTED, RUNNING
from zoo_watcher.wire.rollout_plan import read_plan
from zoo_watcher.wire.rollout_records import (
    ADMITTED,
    FAILED,
    IN_FLIGHT,
    LOST,
    NOT_BACK,
    PROVED,
    RETURNING,
    RolloutRecord,
    rollout_of,
)
from zoo_watcher.zookeeper.session import Session, session_trouble

from .assignment import assign, stable_of
from .facts import HostFacts
from .line import Line
from .lookout import Lookout
from .sight import Sight
from .timers import Timers, some
from .turn import HostView, Wait, gives_way, next_move
from .znodes import RolloutZnodes, View

BEGINNERS = 100
"""How many hosts of a fleet try per second to begin a rollout that nobody has begun."""
COUNTERS = 10
"""How many hosts of a fleet count it per second, if a rollout has begun and makes no progress."""
TRIES = 5
"""The most events that a host reports in one turn."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.03
"""The most seconds before a change is tried again if another host was quicker: at first, and in the end for each place
of the rollout; doubled each time, so that of all hosts with something to report at once, each asks only a few times."""
ASKS = 0.01
"""Seconds, for each place of a rollout, within which the heads of all lanes ask one after the other when it moves."""
REFUSED, LONGEST_REFUSED = 5.0, 60.0
"""The most seconds before a refused host at the head of its lane asks again: in a large fleet, others do."""
REFUSED_PLAN = 600.0
"""Seconds before a host checks again whether an impossible rollout, such as one too large for a znode, can begin."""
HOPE = 0.5
"""The part of the deadline for which a host on its way that can't tell what is live on it may hope to."""

log = logging.getLogger(__name__)

CheckStable = Callable[[Release, Release, Callable[[], Iterable[Release]]], None]


def published_rollout(release: Release, policy: bytes | None) -> Any:
    """How a release is to be rolled out: as its record says, else as the policy says. Raises `InvalidRecord`."""
    own = rollout_of(release, {})
    if own is not None or policy is None:
        return own
    try:
        return rollout_of(release, parse_object(policy))
    except InvalidRecord as exc:
        raise InvalidRecord(f"policy: {exc}") from exc


class Participation:
    """This host's part in the rollout of `desired`. `changed` is called when there is something to look at.

    `check_stable` refuses a stable release that no signature vouches for, if this host demands one. `resumes`: an
    earlier process of this agent, with the same session, may have left a place in a line.
    """

    def __init__(
        self,
        facts: HostFacts,
        session: Session,
        desired: Desired,
        changed: Callable[[], None],
        check_stable: CheckStable | None = None,
        *,
        resumes: bool,
    ) -> None:
        self.desired = desired
        self.assignment = Assignment()
        """What this host is to do; at first to stay as it is."""
        self.refused: str | None = None
        """Why the release that the rollout has this host deploy is refused."""
        self._facts = facts
        self._name = facts.config.name
        self._session = session
        self._changed = changed
        self._check_stable = check_stable
        self._resumes = resumes
        self._znodes = RolloutZnodes(session, facts.config.app, desired.generation, self._name)
        self._sight = Sight(self._znodes, self._name, changed, self._note_move)
        self._client_id: Any = None
        self._connections = session.connections
        self._lines: dict[Wait, Line] = {}
        self._begin_at = time.monotonic() + some(0, desired.fleet / BEGINNERS)
        self._well_since: float | None = None
        self._ask_at = 0.0
        self._try_at = 0.0
        self._pause = FIRST_PAUSE
        self._bad: tuple[str, bool] | None = None
        self._refusal: tuple[Desired, int, str] | None = None
        self._blind_since: float | None = None
        self._head_of: str | None = None
        self._head_since = 0.0
        self._may_not_wait = False
        self._has_no_time = False
        self._serves_since: float | None = None
        self._takes_part = False
        self._gave_way = False
        self._may_be_proving = resumes
        self._timers = Timers()
        self._lookout = Lookout(self._sight, self._timers, desired.fleet)

    @property
    def pause(self) -> float | None:
        """Seconds after which to look again if nothing else happens; None if that is not needed."""
        return self._timers.pause

    def mark_stale(self) -> None:
        """Have the rollout read again."""
        self._sight.is_stale = True
        self._bad = self._refusal = None

    def end(self) -> None:
        """Leave: another release is desired. What can't be deleted now is deleted with the session."""
        with contextlib.suppress(SessionTroubleError):
            self._leave_lines(None)

    def keep(self) -> None:
        """Keep to what is known about the rollout: a person may have asked to try again what had failed here.

        Before this host takes part, as while a session from before its boot holds its status, it only looks: in a
        halted rollout, what may have killed it is not to be proved. Raises `SessionTroubleError` then.
        """
        try:
            if not self._takes_part and self._sight.is_stale:
                self._sight.read()
        finally:
            view = self._sight.view
            # If what is live can't be told, it steps back once the rollout is read.
            with contextlib.suppress(OSError):
                self.assignment = self._assign(self._look_at_host(view)) if view else self.assignment

    def follow(self) -> None:
        """Do what there is to do now. Raises `SessionTroubleError`, `OSError`."""
        if self._connections != self._session.connections:
            # While no server answered, no host could report that the release has failed, or make progress.
            self._connections = self._session.connections
            self._timers.skip_outage(self._session.lost_at, self._session.timeout)
        self._timers.begin_turn()
        self._takes_part = True
        if self._client_id != self._session.client_id:
            self._client_id, self._sight.is_stale = self._session.client_id, True
        if self._sight.is_stale:
            self.keep()
            self._sight.read()
        if self._sight.view is None:
            self._begin()
        if self._sight.view is None:
            return
        self._leave_earlier_places(self._sight.view)
        self._say_whether_proving(self._sight.view)
        host = self._gather(self._sight.view)
        try:
            self._move(host)
            self._lookout.look_after()
        finally:
            self.assignment = self._assign(replace(host, is_at_head=self._is_at_head))

    def _say_whether_proving(self, view: View) -> None:
        """Let no soak end before this host, which was proved, has proved again what is live, as after a boot."""
        host = self._facts.gather_without_disk(self.desired)
        is_tended = host.is_held or host.is_drained
        # If it has failed, until it has reported that: then its entry changes.
        has_proved = host.ended is not None and host.ended[0] == "active"
        is_proving = view.entry == PROVED and view.state.phase in GOING_ON and not has_proved and not is_tended
        path = f"{self._znodes.paths.proving}/{self._name}"
        # A host that may not write that takes part anyway.
        with contextlib.suppress(SessionTroubleError):
            if is_proving:
                self._may_be_proving = True
                # Not its parents: somebody may have deleted the rollout.
                self._session.create(path, b"", ephemeral=True, parents=False)
            elif self._may_be_proving:
                self._session.delete(path)
                self._may_be_proving = False

    def _gather(self, view: View) -> HostView:
        """The state of this host. Raises `OSError` if that can't be told: then the host blocks no other."""
        try:
            host = self._look_at_host(view)
        except OSError as exc:
            self._step_back(view, exc)
            raise
        self._blind_since = None
        return replace(
            host,
            healthy_for=self._healthy_for(host),
            has_bad=self._has_bad(view, host),
        )

    def _look_at_host(self, view: View) -> HostView:
        """What the agent's parts know about this host, and the view. Raises `OSError`."""
        host = self._facts.gather(self.desired, stable_of(self.desired, view.state))
        # It has to report that once it takes part, when what has killed it is no longer live.
        is_halted = view.state.phase == HALTED and view.entry == ADMITTED
        gives = not self._takes_part and gives_way(view.state, host)
        self._gave_way = is_halted and (self._gave_way or gives)
        self._note_illness(view, host)
        return replace(
            host,
            is_given_up=view.is_given_up,
            is_cut_off=host.is_cut_off or self._gave_way,
            is_at_head=self._is_at_head,
        )

    def _note_illness(self, view: View, host: HostView) -> None:
        """Note whether the host follows a rollback out of turn because it does not serve.

        What it has begun in this way goes on if it serves again, until it has served for as long as a proved host.
        """
        may_follow = not (host.is_switched or host.ended or host.is_held or view.is_given_up)
        if view.state.phase != DONE or not view.state.is_rollback or not may_follow:
            self._has_no_time = False
        elif host.sickness:
            self._has_no_time, self._serves_since = True, None
        elif self._has_no_time:
            now = time.monotonic()
            self._serves_since = self._serves_since or now
            end = self._serves_since + view.plan.min_healthy
            self._has_no_time = host.is_busy and now < end
            if self._has_no_time:
                self._timers.wake_at(end)

    @property
    def _is_at_head(self) -> bool:
        line = self._lines.get(Wait.IN_LINE)
        return self._may_not_wait or self._has_no_time or (line is not None and line.is_at_head)

    def _step_back(self, view: View, problem: OSError) -> None:
        """Leave the lines and, after a while, the way there or back, so that others go on."""
        state, host = view.state, self._facts.gather_without_disk(self.desired)
        if view.entry == PROVED:
            self._tell_illness(view, host)
        # It has no outcome, and the others wait for it until a deadline; no deadline stops a rollback.
        is_waited_for = state.phase == RUNNING and view.entry in {None, LOST} and not host.is_held
        if view.entry not in IN_FLIGHT:
            line = self._lines.get(Wait.IN_LINE)
            if state.phase == DONE and line is not None and line.path is not None:
                # It is the next host's turn: what this host has begun in its own may not go on at the same time.
                self.assignment = Assignment()
            self._leave_lines(None)
            if not is_waited_for or view.is_given_up:
                return
        self._blind_since = self._blind_since or time.monotonic()
        end = max(self._blind_since + HOPE * view.plan.progress_deadline, self._try_at, self._ask_at)
        if time.monotonic() < end:
            self._timers.wake_at(end)
            return
        if is_waited_for:
            # It fails at the next look. In a rollback it needs no place for that.
            if self._tell(Ask(self._name, dict(self._facts.config.labels), view.entry, urgent=state.is_rollback)):
                self._changed()
            return
        is_back = view.entry == RETURNING and view.state.phase in GOING_BACK
        why = f"can't tell what is live: {problem.filename}: {problem.strerror}"
        self._tell(Outcome(self._name, view.entry, FAILED, f"{NOT_BACK}{why}" if is_back else why))

    def _tell_illness(self, view: View, host: HostView) -> None:
        """Report if a proved release has made this host ill: that needs no read from the disk."""
        move = next_move(view.state, view.plan, view.entry, host)
        if isinstance(move, Outcome):
            self._tell(move)

    def _has_bad(self, view: View, host: HostView) -> bool:
        """Whether what this host has is known to be bad, and it could return to something else."""
        state = view.state
        commits = [release and release["commitId"] for release in (state.release, state.stable)]
        matters = state.stable and (state.phase in GOING_BACK or may_leave(view.plan, state))
        if not matters or view.entry is not None:
            return False
        if state.phase in GOING_BACK and host.is_switched:
            return True  # it was missing while the others rolled back
        if state.phase not in GOING_BACK and self._sight.is_given_up:
            return False  # it has failed once: others need the place
        if host.has is None or host.has in commits:
            return False
        if self._bad is None or self._bad[0] != host.has:
            self._bad = host.has, self._znodes.is_bad(host.has)
        return self._bad[1]

    def _leave_earlier_places(self, view: View) -> None:
        """Delete the places of an earlier process of this agent, which had the same session."""
        if self._resumes:
            for wait in (Wait.IN_LINE, Wait.IN_LINE_BACK):
                self._line(wait, view).remove_others()
            self._resumes = False

    def _assign(self, host: HostView) -> Assignment:
        view = self._sight.view
        if view is None:
            return Assignment()  # somebody has deleted it: until it starts over, the host stays as it is
        made = assign(self.desired, view.state, view.plan, view.entry, host)
        self.refused = self._refuse(made.desired)
        if self.refused:
            # A status that only says that the rollout rolls back would imply that this host has.
            stays = made.standstill and replace(made.standstill, message=f"{made.standstill.message}; {self.refused}")
            return replace(made, desired=None, standstill=stays)
        # Another agent of this name may have this entry: only what this host has may be given up.
        return made if self._takes_part or made.desired == stable_of(self.desired, view.state) else Assignment()

    def _refuse(self, desired: Desired | None) -> str | None:
        """Why the release that a rollout assigns instead of the desired one is refused; None if it is not."""
        if desired is None or desired == self.desired or desired.release is None or self.desired.release is None:
            return None
        version = self._sight.view.version if self._sight.view else 0
        if self._refusal and self._refusal[:2] == (desired, version):
            return self._refusal[2]  # verifying a history takes long
        try:
            plan = published_rollout(self.desired.release, self.desired.policy)
            self._znodes.check_published(desired.release, self.desired.release, plan)
            if self._check_stable:
                self._check_stable(desired.release, self.desired.release, self._znodes.history)
        except NoAnswerError:
            raise
        except SessionTroubleError as exc:
            return str(exc)
        except InvalidRecord as exc:
            self._refusal = desired, version, str(exc)
            return str(exc)
        return None

    def _healthy_for(self, host: HostView) -> float | None:
        """For how many seconds the release has been active, and all checks have passed."""
        is_well = host.is_healthy and host.ended is not None and host.ended[0] == "active"
        if not is_well:
            self._well_since = None
            return None
        self._well_since = self._well_since or time.monotonic()
        return time.monotonic() - self._well_since

    def _note_move(self, view: View) -> None:
        self._ask_at = time.monotonic() + some(0, ASKS * view.state.places)

    def _begin(self) -> None:
        """Begin the rollout, unless another host does first."""
        release = self.desired.release
        assert release is not None  # noqa: S101  # without one there is none
        try:
            content = published_rollout(release, self.desired.policy)
            if read_plan(content) is None:
                self.assignment = Assignment(self.desired)
                return
            self._begin_or_wait(release, content)
        except InvalidRecord as exc:
            # Finding that out again means reading all of the history.
            self._begin_at = time.monotonic() + REFUSED_PLAN
            refused = Assignment(None, Standstill(self.desired.generation, "failed", f"rollout: {exc}"))
            if refused != self.assignment:
                log.warning("not deployed, generation=%s: rollout: %s", self.desired.generation, exc)
            self.assignment = refused

    def _begin_or_wait(self, release: Release, content: Any) -> None:
        """Begin it if it is this host's turn to try. Raises `InvalidRecord`."""
        with session_trouble(self._znodes.root):
            has_begun = self._session.read(self._znodes.root, self._sight.on_gate) is not None
        if not has_begun:
            if time.monotonic() < self._begin_at:
                self._timers.wake_at(self._begin_at)
                return
            if self._znodes.begin(release, content):
                with contextlib.suppress(RuntimeError):  # no thread: the next one does
                    Thread(target=self._znodes.trim, daemon=True).start()
        self._sight.read()
        if self._sight.view is not None:
            self._lookout.plan_count(self._sight.view.state, self.desired.fleet / COUNTERS)

    def _move(self, host: HostView) -> None:
        """Do what this host has to do, until nothing is left."""
        for _number in range(TRIES):
            view = self._sight.view
            if view is None:
                return
            move = next_move(view.state, view.plan, view.entry, host)
            event = self._wait(view, move, host) if isinstance(move, Wait) else move
            if event is None:
                return
            if time.monotonic() < self._try_at:
                self._timers.wake_at(self._try_at)
                return
            if not self._tell(event):
                return
        self._timers.wake_at(time.monotonic() + some(0, FIRST_PAUSE))

    def _wait(self, view: View, wait: Wait, host: HostView) -> Event | None:
        """Wait where the host is to wait; returns what it asks for when it is its turn."""
        self._wake_for_health(view, host)
        self._leave_lines(None if self._sight.is_displaced else wait)
        self._sight.is_displaced = False
        if wait is Wait.ASIDE or view.entry in IN_FLIGHT:
            return None
        line = self._line(wait, view)
        if not self._join(line, view.state):
            return None
        if line.gone is not None:
            self._lookout.look_for(line.gone)
            line.gone = None
        if view.state.phase == DONE:
            self._follow_in_line(line, view)
            return None
        leaves = wait is Wait.IN_LINE_BACK and view.entry is None
        is_open = view.state.phase in {RUNNING, *GOING_BACK, *(GOING_ON if leaves else ())}
        if not line.is_at_head or not is_open:
            return None
        if time.monotonic() < self._ask_at:
            self._timers.wake_at(self._ask_at)
            return None
        return Ask(host.name, host.labels, view.entry, leaves=leaves)

    def _join(self, line: Line, state: RolloutRecord) -> bool:
        """Take a place in the line; whether there is one: once all is done, no host waits for what it may not have.

        Raises `SessionTroubleError`.
        """
        try:
            if self._has_no_time and (line.path is None or line.is_leaving):
                line.leave()  # it goes on in parallel to those in line, and may hang: it takes none of their places
                return False
            line.join()
        except NoParentError:
            self._look_anew()
            return False
        except RefusedError as exc:
            if state.phase != DONE:
                raise
            if not self._may_not_wait:
                what = "this host, without which it is done, may not wait in line, and follows at once"
                log.warning("rollout, generation=%s: %s: %s", self._znodes.generation, what, exc)
            self._may_not_wait = True
            return False
        self._may_not_wait = False
        return True

    def _look_anew(self) -> None:
        """Have the rollout read in the next turn: somebody is deleting what is below it, such as its watched gate."""
        self._sight.is_stale = True
        self._changed()

    def _follow_in_line(self, line: Line, view: View) -> None:
        """Take a turn at the head of a lane, and go to its end if nothing comes of it: others wait."""
        if not line.has_lasted():
            self._head_of = None
            self._look_anew()
            return
        if not line.is_at_head:
            return
        if self._head_of != line.path:
            self._head_of, self._head_since = line.path, time.monotonic()
        end = self._head_since + view.plan.progress_deadline
        if time.monotonic() < end:
            self._timers.wake_at(end)
            return
        self._head_of = None
        try:
            has_left = self._session.commit(line.exits())
        except SessionTroubleError:
            line.is_leaving = True
            raise
        if has_left:
            line.forget()
            self._join(line, view.state)
        else:
            line.check()
        self._changed()

    def _wake_for_health(self, view: View, host: HostView) -> None:
        if (view.entry in {LOST, *IN_FLIGHT} or view.state.phase == DONE) and host.healthy_for is not None:
            left = view.plan.min_healthy - host.healthy_for
            if left > 0:
                self._timers.wake_at(time.monotonic() + left)

    def _line(self, wait: Wait, view: View) -> Line:
        paths, places = self._znodes.paths, view.state.places
        root, lanes = (paths.line, paths.lanes) if wait is Wait.IN_LINE else (paths.back, paths.back_lanes)
        if wait not in self._lines:
            self._lines[wait] = Line(
                self._session, root, lanes, places, self._name, self._changed, resumes=self._resumes
            )
        return self._lines[wait]

    def _leave_lines(self, but: Wait | None) -> None:
        for wait, line in self._lines.items():
            if wait is not but:
                line.leave()

    def _tell(self, event: Event) -> bool:
        """Tell the rollout what has happened; returns whether there may be more to do: the rollout has changed."""
        self._sight.read()
        view = self._sight.view
        if view is None or getattr(event, "entry", view.entry) != view.entry:
            return True
        if isinstance(event, (Ask, Has, Outcome)) and view.record:
            event = event._replace(moves=view.record.moves)
        message = getattr(event, "message", None) or None
        if isinstance(event, Ask) and view.record:
            message = view.record.next_message
        decision = self._znodes.decide(view, event)
        leaves = decision.entry not in IN_FLIGHT
        exits = [write for line in self._lines.values() for write in line.exits()] if leaves else []
        try:
            is_written = self._sight.write(decision, getattr(event, "name", None), message, exits)
        except RefusedError:
            self._check_lines()
            raise
        if is_written:
            self._pause = FIRST_PAUSE
            self._lookout.count_where_idle()
            if leaves:
                for line in self._lines.values():
                    line.forget()
        elif decision.state is view.state:
            self._ask_later(view)
        else:
            self._try_later(view)
            if exits:
                self._check_lines()
        return is_written

    def _check_lines(self) -> None:
        """Check the places and their lanes, which others may have created or deleted meanwhile."""
        for line in self._lines.values():
            line.check()

    def _ask_later(self, view: View) -> None:
        """Ask again some time after a refusal."""
        longest = min(LONGEST_REFUSED, REFUSED * max(1.0, view.state.places / 10))
        self._ask_at = time.monotonic() + some(longest / 2, longest)
        self._timers.wake_at(self._ask_at)

    def _try_later(self, view: View) -> None:
        """Tell it again soon: another host was quicker."""
        self._try_at = time.monotonic() + some(0, self._pause)
        self._pause = min(2 * self._pause, max(FIRST_PAUSE, LONGEST_PAUSE * view.state.places))
        self._timers.wake_at(self._try_at)
