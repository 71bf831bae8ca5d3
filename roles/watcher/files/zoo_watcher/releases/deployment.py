# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release, staged, activated and proved in a thread of its own; git and disk work is done by the apply process.

A deployment tries again what may pass, gives up on what will not, and goes back to the previous release where
the new one does not become healthy. A newer release cancels it at any instant.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, KilledError, PassingError, UnhealthyError
from zoo_watcher.host import command
from zoo_watcher.host.layout import Layout
from zoo_watcher.services.health import Health
from zoo_watcher.wire.records import Release

from .activation import activate, live_commit
from .apply_process import ApplyProcess, stage_job, tidy_job
from .handshake import Handshake, Phase
from .journal import Failure, ReleaseJournal
from .release_directory import allowed_signers, is_deployable

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between tries of what may pass, from the first pause to the longest."""
SPREAD = 0.01
"""Seconds, for each live agent, over which a fleet spreads its first request to one git server."""
LONGEST_SPREAD = 10.0
MOST_KILLED = 3
"""How often in a row the apply process, or git, may be killed before the release is held to be the cause."""
WITHDRAWAL = 10.0
"""Seconds that the loop gets to withdraw the registrations before a drain continues without that."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a deployment is: what the agent's status says of it."""

    state: str
    message: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    previous: str | None = None


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
        self._previous: str | None = None

    def cancel(self) -> None:
        """Let it end as soon as it can; the host stays whole. A hook that runs is waited for."""
        self.handshake.cancel()
        self.health.wake()
        self._process.end()

    def run(self) -> None:
        """The whole deployment. What it comes to is in its last report, and in the journal."""
        try:
            untidy = self._deploy()
        except CancelledError:
            pass
        except UnhealthyError as exc:
            self._go_back(str(exc))
        except DeployError as exc:
            self._give_up("failed", str(exc))
        except Exception as exc:
            log.exception("deployment ended by an error of the agent's own, generation=%s", self.generation)
            self._give_up("failed", f"an error of the agent's own, see its log: {type(exc).__name__} {exc}")
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

    def _deploy(self) -> bool:
        """Activate the release and prove it; whether the object store is untidy. Raises `DeployError`."""
        journal = ReleaseJournal.load(self.layout.journal)
        self._previous = self._fallback(journal)
        was_live = live_commit(self.layout, self.release.relative_path) == self.release.commit_id
        untidy = False
        if not was_live:
            untidy = self._stage()
            self._drain()
            self._run_hook("before_activate", DeployError)
            self._activate()
        # Live and not proved: this deployment's, or one that an earlier agent did not bring to its end.
        proved_before = was_live and journal.healthy[:1] == (self.release.commit_id,)
        if not proved_before:
            self._restart()
        self._prove(may_go_back=not proved_before)
        self._remember(journal.with_healthy(self.release.commit_id, self.config.keep_releases))
        self._settle("active")
        return untidy

    def report(self, state: str, message: str | None = None) -> None:
        """Report where the deployment is."""
        self._report(Progress(state, message, dict(self._timings), self._previous))

    def _fallback(self, journal: ReleaseJournal) -> str | None:
        """The commit to go back to: the last that was healthy, still on disk; else what is live now."""
        staged = set(self.layout.staged())
        earlier = [commit_id for commit_id in journal.healthy if commit_id in staged]
        live = live_commit(self.layout, self.release.relative_path)
        candidates = [*earlier, *([live] if live else [])]
        return next((commit_id for commit_id in candidates if commit_id != self.release.commit_id), None)

    def _stage(self) -> bool:
        """See to it that the release directory is there, complete; whether the object store is untidy."""
        signers = allowed_signers(self.config.require_signature)
        if is_deployable(self.layout, self.release.commit_id, self.config.shared_paths, signers):
            return False
        self._spread()
        job = stage_job(self.config, self.release, self._kept())
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        killed = 0
        while True:
            try:
                result = self._process.run(job, self.report)
            except PassingError as exc:
                self.handshake.check()
                killed = killed + 1 if isinstance(exc, KilledError) else 0
                if killed == MOST_KILLED:
                    raise DeployError(f"{exc}; given up after {killed} tries that ended so") from exc
                pause = next(backoff)
                self.report("fetching", f"{exc}; tried again in {pause:.0f} s")
                self.handshake.sleep(pause)
            else:
                self._timings.update(result["done"])
                return bool(result["untidy"])

    def _kept(self) -> list[str]:
        """The commits whose release directories stay, the likeliest to resemble the new one first."""
        live = live_commit(self.layout, self.release.relative_path)
        healthy = ReleaseJournal.load(self.layout.journal).healthy[: self.config.keep_releases - 1]
        return list(dict.fromkeys(commit_id for commit_id in (live, self._previous, *healthy) if commit_id))

    def _spread(self) -> None:
        """Wait a random moment, longer in a larger fleet: many at once make a git server refuse."""
        if self.fleet > 1:
            self.report("queued")
            # Only spreads load: nothing to guess.
            self.handshake.sleep(random.uniform(0, min(self.fleet * SPREAD, LONGEST_SPREAD)))  # noqa: S311

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
        activate(self.layout, self.release.relative_path, self.release.commit_id)
        self._timings["activating"] = round(time.monotonic() - begin, 4)

    def _restart(self) -> None:
        """Have the host use the live release: its hook, its units. Raises `UnhealthyError`."""
        self._run_hook("after_activate", UnhealthyError)
        self._restart_units(UnhealthyError)

    def _restart_units(self, failure: type[DeployError]) -> None:
        for unit in self.config.restart_units:
            ended = command.run(["systemctl", "restart", unit], self.config.hook_timeout)
            if ended.problem:
                raise failure(f"restarting {unit} {ended.problem}: {ended.tail}".rstrip(": "))

    def _run_hook(self, name: str, failure: type[DeployError]) -> None:
        """Run a hook, if there is one. Raises `failure` with the last lines of its output."""
        words = getattr(self.config.hooks, name)
        if not words:
            return
        environment = {
            "ZOO_COMMIT": self.release.commit_id,
            "ZOO_RELEASE": str(self.layout.release(self.release.commit_id)),
            "ZOO_PREVIOUS": str(self.layout.release(self._previous)) if self._previous else "",
            "ZOO_GENERATION": str(self.generation),
        }
        begin = time.monotonic()
        ended = command.run(words, self.config.hook_timeout, environment, environment["ZOO_RELEASE"])
        self._timings[name] = round(time.monotonic() - begin, 4)
        for line in ended.output.splitlines():
            log.info("hook %s, generation=%s: %s", name, self.generation, line)
        if ended.problem:
            raise failure(f"hook {name} {ended.problem}: {ended.tail}".rstrip(": "))

    def _prove(self, *, may_go_back: bool) -> None:
        """Wait until every check has passed since the release went live. Raises `UnhealthyError`, `CancelledError`."""
        self.report("checking")
        begin = time.monotonic()
        self.health.begin_proof()
        if not self.health.wait_proved(self.config.health_timeout, self.handshake.is_cancelled):
            self.handshake.check()
            reason = f"not healthy within {self.config.health_timeout:g} s: {self.health.reason}"
            if may_go_back and self._previous is not None:
                raise UnhealthyError(reason)
            # Nothing to go back to: the release was proved before, or is the first and its service comes up later.
            self.report("checking", reason)
            self.health.wait_proved(None, self.handshake.is_cancelled)
        if may_go_back and self.config.rollback_when_isolated:
            self._await_contact(self.config.rollback_when_isolated)
        self.handshake.check()
        self._timings["checking"] = round(time.monotonic() - begin, 4)

    def _await_contact(self, seconds: float) -> None:
        """With this release live, the ensemble must still answer. Raises `UnhealthyError`."""
        self.handshake.enter(Phase.AWAITING_CONTACT)
        self.report("checking", "waiting for an answer of the ensemble")
        if not self.handshake.wait_answered(seconds) and self._previous is not None:
            raise UnhealthyError(f"no answer of the ensemble within {seconds:g} s (rollback_when_isolated)")

    def _go_back(self, reason: str) -> None:
        """Make the previous release live again; that needs no git."""
        if self._previous is None:
            self._give_up("failed", f"{reason}; there is no earlier release to go back to")
            return
        try:
            self._run_hook("before_rollback", DeployError)
        except DeployError as exc:
            reason = f"{reason}; {exc}"
        try:
            activate(self.layout, self.release.relative_path, self._previous)
            self._restart_units(DeployError)
        except DeployError as exc:
            self._give_up("failed", f"{reason}; and the rollback failed: {exc}")
        else:
            self._give_up("rolled_back", f"{reason}; went back to {self._previous}")

    def _give_up(self, state: str, message: str) -> None:
        journal = ReleaseJournal.load(self.layout.journal)
        self._remember(journal.with_failure(Failure(self.generation, state, message)))
        self._settle(state, message)

    def _settle(self, state: str, message: str | None = None) -> None:
        """Report the outcome; the loop may hold registrations again."""
        self.handshake.enter(Phase.SETTLED)
        self.report(state, message)

    def _remember(self, journal: ReleaseJournal) -> None:
        """Write the journal; where that can't be, the host still runs what it runs."""
        try:
            journal.save(self.layout.journal)
        except OSError as exc:
            log.warning("journal not written, path=%s: %s", self.layout.journal, exc.strerror)
