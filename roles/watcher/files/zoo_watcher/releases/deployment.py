# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release, staged, activated and proved in a thread of its own; git and disk work is done by the apply process.

A deployment tries again what may pass, gives up on what will not, and goes back to an earlier release where the new
one does not become healthy. A newer release cancels it at any instant.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, TypeVar

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, KilledError, PassingError, UnhealthyError
from zoo_watcher.host import command
from zoo_watcher.host.filesystem import disk_errors
from zoo_watcher.host.layout import Layout
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

from .activation import activate, check_complete, live_commit, prepare, read_link, restore_link
from .apply_process import ApplyProcess, stage_job, tidy_job
from .handshake import Handshake, Phase
from .journal import Failure, ReleaseJournal
from .release_directory import allowed_signers, is_deployable, is_unmodified
from .rollback import PlacedRelease, WayBack, live_releases

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between tries of what may pass, from the first pause to the longest."""
MOST_KILLED = 3
"""How often in a row the apply process, or git, may be killed before the release is held to be the cause."""
MOST_ATTEMPTS = 2
"""How often the agent may end without a word, as with its host, before the release is held to be the cause."""
WITHDRAWAL = 10.0
"""Seconds that the loop gets to withdraw the registrations before a drain continues without that."""

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a deployment is: what the agent's status says of it. `retry` is why its step is tried again, if it is.

    `waits_for` is what it waits for until it is there: also while its step is being tried again.
    """

    state: str
    message: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    previous: str | None = None
    retry: str | None = None
    waits_for: str | None = None


class Deployment(threading.Thread):
    """Activates `release` and proves it. `report` gets, in this thread, each `Progress`, and None at its end."""

    def __init__(  # what one deployment is made of
        self,
        config: Config,
        release: Release,
        generation: int,
        fleet: int,
        health: Health,
        report: Callable[[Progress | None], None],
    ) -> None:
        super().__init__(name=f"deployment-{generation}", daemon=True)
        self.config = config
        self.layout = Layout(config.base)
        self.release = release
        self.generation = generation
        self.fleet = fleet
        self.health = health
        self.handshake = Handshake()
        self._report = report
        self._process = ApplyProcess(config)
        self._timings: dict[str, float] = {}
        self._journal = ReleaseJournal()
        self._noting = threading.RLock()
        self._attempting = False
        self._way_back = WayBack()
        self._has_looked_back = False
        self._taken_down = 0
        self._previous: str | None = None

    def cancel(self) -> None:
        """Let it end as soon as it can; the host stays whole. A hook that runs is waited for."""
        self.handshake.cancel()
        self._break_off_attempt()
        self.health.wake()
        self._process.end()

    def run(self) -> None:
        """The whole deployment. What it comes to is in its last report, and in the journal."""
        try:
            untidy = self._deploy_or_go_back()
        except CancelledError:
            pass
        except DeployError as exc:
            self._give_up("failed", str(exc))
        except Exception as exc:  # noqa: BLE001  # whatever it is, the status says so
            self._give_up("failed", self._log_own(exc))
        else:
            if untidy:
                self._tidy()
        finally:
            self.handshake.enter(Phase.ENDED)
            self._report(None)

    def _tidy(self) -> None:
        """Pack the object store. The release is live and proved: what goes wrong here takes nothing of that back."""
        try:
            self._process.run(tidy_job(self.config))
        except CancelledError:
            pass
        except DeployError as exc:
            log.warning("object store not packed: %s", exc)

    def _deploy_or_go_back(self) -> bool:
        """Deploy, or undo that; whether the object store is untidy. Raises `DeployError`."""
        try:
            return self._deploy()
        except UnhealthyError as exc:
            reason = str(exc)
        except CancelledError:
            raise
        except DeployError as exc:
            done = self._settle_unproved(str(exc)) if not self.handshake.has_activated else None
            if done:
                raise DeployError(f"{exc}; {done}") from exc
            raise
        except Exception as exc:
            if not self.handshake.has_activated:
                raise
            reason = self._log_own(exc)
        self._go_back(reason)
        return False

    def _log_own(self, error: Exception) -> str:
        """Log an error that nobody has thought of, with its traceback; what the status says of it."""
        log.error(
            "deployment broken off by an error of the agent's own, generation=%s", self.generation, exc_info=error
        )
        return f"an error of the agent's own, see its log: {type(error).__name__} {error}"

    def _deploy(self) -> bool:
        """Activate the release and prove it; whether the object store is untidy. Raises `DeployError`."""
        path, commit_id = self.release.relative_path, self.release.commit_id
        live = self._wait_out("queued", self._look_back)
        self._check_attempts()
        untidy = False
        if live != commit_id:
            untidy = self._stage()
            # Before anything is drained: a host that lacks room for the swap goes on serving.
            self._wait_out("queued", partial(prepare, self.layout, path, commit_id))
            self._begin_attempt()
            self._drain()
            before = partial(self._run_hook, "before_activate", DeployError, commit_id, self._previous)
            self._wait_out("activating", before)
            self._wait_out("activating", partial(check_complete, self.layout, commit_id))
            self._activate()
        # Live and not proved: this deployment's, or one that an earlier agent did not bring to its end.
        proved_before = live == commit_id and self._journal.was_healthy_last(commit_id, path)
        if not proved_before:
            if live == commit_id:
                self.handshake.enter(Phase.ACTIVATED)
            self._begin_attempt()
            self._restart()
        # A release that was proved before need not last again: nothing has changed on this host.
        self._prove(0.0 if proved_before else self.config.healthy_for, may_go_back=not proved_before)
        problem = self._problem_of_place(commit_id, path)
        if problem:
            raise UnhealthyError(problem)
        self._remember(self._journal.with_healthy(commit_id, path, self.config.keep_releases))
        self._settle("active")
        return untidy

    def _look_back(self) -> str | None:
        """Find out what this host ran before; the commit that is live at the place of the release now.

        Raises `DeployError`.
        """
        with disk_errors("looking at what is here"):
            return self._find_way_back()

    def _find_way_back(self) -> str | None:
        path = self.release.relative_path
        live = live_commit(self.layout, path)
        journal = ReleaseJournal.read(self.layout.journal)
        in_use = {path, *(target.path for target in live_releases(self.layout, journal))}
        journal = journal.without_places(lambda known: known not in in_use)
        self._journal = journal.with_place(path, live, read_link(self.layout, path))
        self._way_back = WayBack.find(self.layout, self._journal, self.release)
        staged = set(self.layout.staged())
        candidates = [self._way_back.first.commit_id] if self._way_back.first else []
        candidates += [commit_id for commit_id in self._journal.healthy if commit_id in staged]
        self._previous = next((commit_id for commit_id in candidates if commit_id != self.release.commit_id), None)
        self._has_looked_back = True
        return live

    def _check_attempts(self) -> None:
        """Raises `UnhealthyError` where the release has taken the agent down as often as it may."""
        times = self._journal.attempts(self.generation, self.release.commit_id)
        if times >= MOST_ATTEMPTS:
            self._taken_down = times
            # The way back may take the agent down as well.
            self._begin_attempt()
            raise UnhealthyError(
                f"given up: the agent ended without a word {MOST_ATTEMPTS} times "
                "while this release was being activated or checked"
            )

    def _begin_attempt(self) -> None:
        """Note, once, that the release is about to be activated: who is started after a crash has to know.

        A read-only disk is waited out, before anything is drained. Raises `CancelledError`.
        """
        if self._attempting:
            return
        begun = self._journal.with_attempt(self.generation, self.release.commit_id)
        for pause in Backoff(FIRST_PAUSE, LONGEST_PAUSE):
            with self._noting:
                self.handshake.check()
                problem = self._remember(begun)
                self._attempting = problem is None or problem.errno != errno.EROFS
            if self._attempting:
                return
            self.report("queued", f"{self.layout.journal}: Read-only file system; tried again in {pause:.0f} s", "disk")
            self.handshake.sleep(pause)

    def _break_off_attempt(self) -> None:
        """Note, where the release has no outcome yet, that it is not to blame for the end of this activation."""
        with self._noting:
            if self._attempting and self._journal.attempt:
                self._remember(self._journal.without_attempt())
            self._attempting = False

    def report(
        self, state: str, message: str | None = None, retry: str | None = None, waits_for: str | None = None
    ) -> None:
        """Report where the deployment is."""
        self._report(Progress(state, message, dict(self._timings), self._previous, retry, waits_for or retry))

    def _stage(self) -> bool:
        """See to it that the release directory is there, complete; whether the object store is untidy."""
        if self._wait_out("queued", self._is_deployable):
            self._spread(self.config.activation_rate)
            return False
        self._spread(self.config.fetch_rate)
        job = self._wait_out("queued", lambda: stage_job(self.config, self.release, self._kept()))
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        steps = _Steps(self.report)
        begin = time.monotonic()
        settled = False
        killed = 0
        while True:
            try:
                result = self._process.run(job, steps.enter)
            except PassingError as exc:
                self.handshake.check()
                killed = killed + 1 if isinstance(exc, KilledError) else 0
                if killed == MOST_KILLED:
                    raise DeployError(f"{exc}; given up after {killed} tries that ended so") from exc
                pause = next(backoff)
                steps.fail(exc)
                if not settled and time.monotonic() - begin > self.config.health_timeout:
                    settled = True
                    self._settle_unproved(str(exc))
                self.report("fetching", f"{exc}; tried again in {pause:.0f} s", exc.reason)
                self.handshake.sleep(pause)
            else:
                self._timings.update(result["done"])
                return bool(result["untidy"])

    def _is_deployable(self) -> bool:
        """Whether the release directory that is here may go live as it is. Raises `DeployError`."""
        commit_id = self.release.commit_id
        signers = allowed_signers(self.config.require_signature)
        if is_deployable(self.layout, commit_id, self.config.shared_paths, signers):
            return True
        # What a hook has built in it is in use: making it anew would take that from under the other place.
        place = next((live for live in live_releases(self.layout, self._journal) if live.commit_id == commit_id), None)
        if place is None or is_unmodified(self.layout, commit_id, self.config.shared_paths):
            return False
        if signers is not None:
            raise DeployError(
                f"{commit_id} is live at {place.path} and modified since it was staged, so its signature proves "
                "nothing: publish another commit"
            )
        return True

    def _kept(self) -> list[str]:
        """The commits whose release directories stay, the likeliest to resemble the new one first."""
        live = live_commit(self.layout, self.release.relative_path)
        healthy = self._journal.healthy[: self.config.keep_releases - 1]
        everywhere = [target.commit_id for target in live_releases(self.layout, self._journal)]
        candidates = (live, self._previous, *healthy, *everywhere)
        return list(dict.fromkeys(commit_id for commit_id in candidates if commit_id))

    def _spread(self, rate: int) -> None:
        """Wait a random moment, so that about `rate` hosts of the fleet go on in each second.

        Many at once make a git server refuse, and all at once would restart every service of the fleet together.
        """
        if self.fleet > 1:
            self.report("queued")
            # Only spreads load: nothing to guess.
            self.handshake.sleep(random.uniform(0, self.fleet / rate))  # noqa: S311

    def _drain(self) -> None:
        """Have the registrations withdrawn, and wait until no request should come any more."""
        if not self.config.drain_seconds or not self.config.services:
            return
        self.handshake.enter(Phase.DRAINING)
        self.report("draining")
        if not self.handshake.wait_answered(WITHDRAWAL):
            log.warning("registrations not withdrawn within %g s, continuing", WITHDRAWAL)
        self.handshake.sleep(self.config.drain_seconds)

    def _activate(self) -> None:
        self.handshake.check()
        self.report("activating")
        self.handshake.enter(Phase.ACTIVATED)
        begin = time.monotonic()
        self._swap()
        self._timings["activating"] = round(time.monotonic() - begin, 4)

    def _swap(self) -> None:
        """Swap the symlink; a disk that is full or read-only is waited out."""
        self._wait_out("activating", partial(activate, self.layout, self.release.relative_path, self.release.commit_id))

    def _wait_out(self, state: str, step: Callable[[], T], why: str = "") -> T:
        """What a step of this thread comes to; what may pass, such as a full disk, is waited out in `state`.

        Raises `DeployError` for what will not, `CancelledError`.
        """
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                return step()
            except PassingError as exc:
                pause = next(backoff)
                self.report(state, f"{why}{exc}; tried again in {pause:.0f} s", exc.reason)
                self.handshake.sleep(pause)

    def _restart(self) -> None:
        """Have the host use the live release: its hook, its units. Raises `UnhealthyError`."""
        after = partial(self._run_hook, "after_activate", UnhealthyError, self.release.commit_id, self._previous)
        self._wait_out("activating", after)
        for unit in self.config.restart_units:
            self._wait_out("activating", partial(self._restart_unit, unit, UnhealthyError))

    def _restart_unit(self, unit: str, failure: type[DeployError]) -> None:
        ended = command.run(["systemctl", "restart", unit], self.config.hook_timeout)
        _check_ended(f"restarting {unit}", ended, failure)

    def _run_hook(self, name: str, failure: type[DeployError], commit_id: str, previous: str | None) -> None:
        """Run a hook, if there is one, for a commit.

        Raises `failure` with the last lines of its output, or `PassingError` where it can't be started now.
        """
        words = getattr(self.config.hooks, name)
        if not words:
            return
        environment = {
            "ZOO_COMMIT": commit_id,
            "ZOO_RELEASE": str(self.layout.release(commit_id)),
            "ZOO_PREVIOUS": str(self.layout.release(previous)) if previous else "",
            "ZOO_GENERATION": str(self.generation),
        }
        begin = time.monotonic()
        ended = command.run(words, self.config.hook_timeout, environment, environment["ZOO_RELEASE"])
        self._timings[name] = round(time.monotonic() - begin, 4)
        for line in ended.output.splitlines():
            log.info("hook %s, generation=%s: %s", name, self.generation, line)
        _check_ended(f"hook {name}", ended, failure)

    def _prove(self, soak: float, *, may_go_back: bool) -> None:
        """Wait until the checks pass since the release went live, and for `soak` seconds on end.

        Raises `UnhealthyError`, `CancelledError`.
        """
        self.report("checking")
        begin = time.monotonic()
        problem = self._check_health(soak)
        if problem:
            if may_go_back and self._way_back.first:
                raise UnhealthyError(problem)
            # Nothing to go back to: the release was proved before, or is the first and its service comes up later.
            self._break_off_attempt()
            self.report("checking", problem, waits_for="health")
            self.health.wait_proved(None, self.handshake.is_cancelled, self._report_soak)
        if may_go_back and self.config.rollback_when_isolated:
            self._await_contact(self.config.rollback_when_isolated)
        self.handshake.check()
        self._timings["checking"] = round(time.monotonic() - begin, 4)

    def _check_health(self, soak: float = 0.0) -> str | None:
        """Wait until every check has passed, from now on, and for `soak` seconds on end; what is wrong at the deadline.

        Raises `CancelledError`.
        """
        self.health.begin_proof(soak)
        deadline = self.config.health_timeout + soak
        proved = self.health.wait_proved(deadline, self.handshake.is_cancelled, self._report_soak)
        self.handshake.check()
        if proved:
            return None
        healthy = f"healthy for {soak:g} s on end" if soak else "healthy"
        return f"not {healthy} within {deadline:g} s: {self.health.reason}"

    def _problem_of_place(self, commit_id: str, path: str) -> str | None:
        """What is wrong where a commit has to be live: a hook, or anybody, may have removed it since its activation."""
        if live_commit(self.layout, path) == commit_id:
            return None
        return f"{self.layout.place(path)} does not lead to release {commit_id} any more; does a hook remove it?"

    def _report_soak(self, passing: bool) -> None:
        """Report that all checks pass, or that one has failed before that had lasted long enough."""
        soak = f"{self.config.healthy_for:g} s"
        message = f"healthy, proved in {soak}" if passing else f"not healthy for {soak} on end: {self.health.reason}"
        self.report("checking", message)

    def _await_contact(self, seconds: float) -> None:
        """With this release live, the ensemble must still answer. Raises `UnhealthyError`."""
        self.handshake.enter(Phase.AWAITING_CONTACT)
        self.report("checking", "waiting for an answer of the ensemble")
        if not self.handshake.wait_answered(seconds) and self._way_back.first:
            raise UnhealthyError(f"no answer of the ensemble within {seconds:g} s (rollback_when_isolated)")

    def _go_back(self, reason: str) -> None:
        """Make an earlier release live again, and check it; that needs no git. Raises `CancelledError`."""
        self.handshake.enter(Phase.GOING_BACK)
        try:
            target, message = self._swap_back(self.release.commit_id, reason)
            if self._taken_down:
                self._note_taken_down(message)
        except CancelledError:
            raise
        except DeployError as exc:
            self._give_up("failed", str(exc))
        else:
            self._check_earlier(target, message)

    def _note_taken_down(self, message: str) -> None:
        """Note durably, before anything is run that may take the agent down again, that this generation has failed.

        Raises `DeployError`, `CancelledError`.
        """
        message = f"{message}; the agent ended before after_activate and the units were done"
        failure = Failure(self.generation, "failed", message, self.release.commit_id)

        def note() -> None:
            with disk_errors("noting that the release has failed"):
                problem = self._note_failure(failure)
                if problem is not None:
                    raise OSError(problem.errno, problem.strerror, problem.filename)

        self._wait_out("checking", note, f"{message}; ")

    def _swap_back(self, failed: str, reason: str) -> tuple[PlacedRelease, str]:
        """Make an earlier release live after one that has failed: that, and what has happened.

        Raises `DeployError`, also with the reason, and `CancelledError`.
        """
        try:
            target = self._wait_out("checking", self._choose_earlier, f"{reason}; going back: ")
        except CancelledError:
            raise
        except DeployError as exc:
            raise DeployError(f"{reason}; {exc}") from exc
        try:
            self._prepare_rollback(failed, target)
        # Also where it can't be started now: the release that has failed is live until the link is swapped.
        except DeployError as exc:
            reason = f"{reason}; {exc}"
        try:
            self._wait_out("checking", partial(self._make_live, target), f"{reason}; going back: ")
        except CancelledError:
            raise
        except DeployError as exc:
            raise DeployError(f"{reason}; and the rollback failed: {exc}") from exc
        where = "" if target.path == self.release.relative_path else f" at {target.path}"
        return target, f"{reason}; went back to {target.commit_id}{where}"

    def _prepare_rollback(self, failed: str, target: PlacedRelease) -> None:
        """Run the hook before a rollback, unless the agent may have ended in it. Raises `DeployError`."""
        if self._taken_down > MOST_ATTEMPTS:
            raise DeployError("hook before_rollback not run: the agent ended without a word while it went back")
        self._run_hook("before_rollback", DeployError, failed, target.commit_id)

    def _choose_earlier(self) -> PlacedRelease:
        """What to go back to. Raises `DeployError`."""
        signers = allowed_signers(self.config.require_signature)
        return self._way_back.choose(self.layout, self.config.shared_paths, signers)

    def _settle_unproved(self, why: str) -> str | None:
        """Check the release that is live where this one, which can't be deployed, has broken off its proof.

        What was gone back from, and why; None where there was nothing to go back from. Raises `CancelledError`.
        """
        path = self.release.relative_path
        live = live_commit(self.layout, path)
        target = self._way_back.first
        if live is None or target is None:
            return None
        if live in {self.release.commit_id, target.commit_id, *self._journal.place(path).healthy}:
            return None
        self.report("checking", f"{why}; {live}, which is live, was never proved and is checked")
        problem = self._check_health(self.config.healthy_for)
        if problem is None:
            self._remember(self._journal.with_healthy(live, path, self.config.keep_releases))
            done = None
        else:
            done = self._leave_unproved(live, f"{live}, which was live, is {problem}")
            log.warning("%s", done)
        self._wait_out("checking", self._look_back)
        return done

    def _leave_unproved(self, live: str, reason: str) -> str:
        """Go back from a release that is live and was never proved; what that came to. Raises `CancelledError`."""
        try:
            target, message = self._swap_back(live, reason)
        except CancelledError:
            raise
        except DeployError as exc:
            return str(exc)
        problems = self._use_again(target, live, message)
        problem = self._check_health()
        if problem:
            problems.append(f"the earlier release is {problem}")
        return "; ".join([message, *problems])

    def _make_live(self, target: PlacedRelease) -> None:
        """Make the target what the host runs, and the place what it was before. Raises `DeployError`."""
        path = self.release.relative_path
        if target.path == path:
            activate(self.layout, path, target.commit_id)
            return
        # The target is live at its own place, where nothing has changed.
        restore_link(self.layout, path, self._journal.place(path).before)
        self._journal = self._journal.without_places(lambda known: known == path)

    def _check_earlier(self, target: PlacedRelease, message: str) -> None:
        """Have the host use the earlier release, wait for its health, and give up. Raises `CancelledError`."""
        problems = self._use_again(target, self.release.commit_id, message)
        # First noted: an agent that ends during the check must not try this generation again.
        self._note_failure(_rollback_failure(self.generation, self.release.commit_id, message, problems))
        self.report("checking", message)
        problem = self._check_health()
        if problem:
            problems.append(f"the earlier release is {problem}")
        problem = self._problem_of_place(target.commit_id, target.path)
        if problem:
            problems.append(problem)
        failure = _rollback_failure(self.generation, self.release.commit_id, message, problems)
        self._give_up(failure.state, failure.message)

    def _use_again(self, target: PlacedRelease, failed: str, message: str) -> list[str]:
        """Have the host use the earlier release; what went wrong. One problem keeps no other step from being tried.

        Raises `CancelledError`.
        """
        steps = [partial(self._run_hook, "after_activate", DeployError, target.commit_id, failed)]
        steps += [partial(self._restart_unit, unit, DeployError) for unit in self.config.restart_units]
        problems = []
        for step in steps:
            try:
                self._wait_out("checking", step, f"{message}; ")
            except CancelledError:
                raise
            except DeployError as exc:
                problems.append(str(exc))
        return problems

    def _give_up(self, state: str, message: str) -> None:
        self._note_failure(Failure(self.generation, state, message, self.release.commit_id))
        self._settle(state, message)

    def _note_failure(self, failure: Failure) -> OSError | None:
        # What could not be read is not overwritten either.
        return self._remember(self._journal.with_failure(failure)) if self._has_looked_back else None

    def _settle(self, state: str, message: str | None = None) -> None:
        """Report the outcome; the loop may hold registrations again."""
        self.handshake.enter(Phase.SETTLED)
        self.report(state, message)

    def _remember(self, journal: ReleaseJournal) -> OSError | None:
        """Write the journal; why that can't be: the host still runs what it runs."""
        with self._noting:
            self._journal = journal
            try:
                journal.save(self.layout.journal)
            except OSError as exc:
                log.warning("journal not written, path=%s: %s", self.layout.journal, exc.strerror)
                return exc
        return None


class _Steps:
    """Reports the steps of the apply process, each with why it failed the last time until it has succeeded."""

    def __init__(self, report: Callable[..., None]) -> None:
        self._report = report
        self._entered: list[str] = []
        self._failed = ""
        self._message: str | None = None
        self._waits_for: str | None = None

    def enter(self, step: str) -> None:
        """A step begins: those before it have succeeded."""
        if self._failed in self._entered:
            self._message = self._waits_for = None
        self._entered.append(step)
        self._report(step, self._message, waits_for=self._waits_for)

    def fail(self, problem: PassingError) -> None:
        """The step that was entered last has failed; all of them are entered again."""
        self._failed = self._entered[-1] if self._entered else ""
        self._message = f"{problem}; trying again"
        self._waits_for = problem.reason
        self._entered = []


def _check_ended(what: str, ended: command.Ended, failure: type[DeployError]) -> None:
    """Raises `failure` where a command ended badly, `PassingError` where this host lacked what it takes to start it."""
    if ended.found_shortage:
        raise PassingError(f"{what} {ended.problem}", "process")
    if ended.problem:
        raise failure(f"{what} {ended.problem}: {ended.tail}".rstrip(": "))


def _rollback_failure(generation: int, commit_id: str, message: str, problems: list[str]) -> Failure:
    """How a generation has failed: `failed` where the host does not run the earlier release as it should either."""
    return Failure(generation, "failed" if problems else "rolled_back", "; ".join([message, *problems]), commit_id)
