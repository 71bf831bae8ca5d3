# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent reports about itself: to the ensemble, in the status file, to the service manager, as metrics."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence

from .config.config import Config
from .desired import DesiredRelease
from .errors import ConfigError, SessionTroubleError
from .host import systemd
from .host.controls import HOLDING, RETRY, Controls, now
from .host.filesystem import write_whole
from .host.layout import Layout
from .services.health import Health
from .services.registration import Registrations
from .wire.records import MAX_NODE_BYTES, AgentStatus
from .zookeeper.ephemerals import Ephemerals, TakenError
from .zookeeper.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .metrics.server import Metrics


def _fitting(status: AgentStatus) -> bytes:
    """The status as a znode can hold it: a server closes the connection of a client that sends more, each time."""
    data = status.to_node()
    for files, what in ((_without_messages(status.files), "the messages of files are"), (None, "the files are")):
        if len(data) <= MAX_NODE_BYTES:
            break
        trouble = f"a status of {len(data)} bytes fits into no znode: {what} left out; `zoo-watcher status` has all"
        data = status.with_changes(files=files, troubles=[*(status.troubles or ()), trouble]).to_node()
    return data


def _without_messages(files: Mapping[str, Mapping[str, Any]] | None) -> Mapping[str, Mapping[str, Any]] | None:
    return files and {
        dest: {key: value for key, value in file.items() if key != "message"} for dest, file in files.items()
    }


def check_metrics(config: Config) -> None:
    """Raises `ConfigError` if metrics are to be served and what that needs is missing."""
    if config.metrics_port is None:
        return
    try:
        # Imported here: an agent that serves no metrics needs no prometheus-client.
        from .metrics import server  # noqa: F401, PLC0415  # whether it can be
    except ImportError as exc:
        text = "metrics_port: prometheus-client is not installed, or can't be imported: install it"
        raise ConfigError([text]) from exc


class StatusBoard:
    """Keeps the agent's `status`, and shows it everywhere somebody may look."""

    def __init__(self, config: Config, layout: Layout, session: Session, ephemerals: Ephemerals, version: str) -> None:
        self.status = AgentStatus(name=config.name, version=version, since=now(), unit=systemd.unit())
        self._config = config
        self._file = layout.status
        self._session = session
        self._ephemerals = ephemerals
        self._znode = config.app.agent(config.name)
        self._metrics: Metrics | None = None
        self._written: dict[str, Any] = {}
        self._retry_answer: Mapping[str, Any] | None = None
        self._withdrawn = False
        self._is_open = False
        self._hold: str | None = None
        self._unserved: str | None = None
        self._unwritten: str | None = None

    def start(
        self,
        desired: DesiredRelease,
        health: Health,
        registrations: Registrations,
        actions_pending: Callable[[], int],
    ) -> None:
        """Serve metrics of these parts of the agent, if the configuration says so."""
        if self._config.metrics_port is None:
            return
        try:
            check_metrics(self._config)
        except ConfigError as exc:
            # It was there when the configuration was checked: the host serves anyway.
            self._unserved = f"no metrics: {exc}"
            return
        from .metrics.server import Metrics  # noqa: PLC0415

        metrics = Metrics(self._config, self._session, desired, health, registrations, actions_pending)
        metrics.show(self.status, [])
        self._metrics = metrics
        self._unserved = self._serve(metrics)

    def _serve(self, metrics: Metrics) -> str | None:
        """Start to serve the metrics; returns what prevents that now, such as a port that is taken."""
        port, address = self._config.metrics_port, self._config.metrics_address
        assert port is not None  # noqa: S101  # else there are none
        try:
            metrics.serve(port, address)
        except OSError as exc:
            return f"no metrics at metrics_port {address}:{port}: {exc.strerror or exc}"
        return None

    @property
    def troubles(self) -> list[str]:
        """What prevents the status from being shown now, a line each."""
        return [trouble for trouble in (self._unwritten, self._unserved) if trouble]

    def count(self, state: str, retry: str | None, failed_in: str | None) -> None:
        """Count what a deployment reports, before `state` is entered; `retry` is why its step is tried again.

        `failed_in` is the state in which the release has failed, if the host has rolled back since.
        """
        if self._metrics:
            self._metrics.count(state, failed_in or self.status.state, retry)

    def enter(self, state: str, live: str | None, **changes: Any) -> None:
        """Enter a state of a release, with other changes of the status; `live` is the commit that is live now."""
        since = self.status.since if state == self.status.state else now()
        of_steps = {"failed_step": None} if "timings" in changes else {}
        changes = {"waits_for": None, **of_steps, **changes}
        self.status = self.status.with_changes(state=state, since=since, commit_id=live, **changes)
        systemd.notify(f"STATUS={state} {live or 'no release'}")

    def set_troubles(self, troubles: Sequence[str]) -> bool:
        """Set what keeps the agent from its work now; returns whether that has changed."""
        if list(self.status.troubles or ()) == list(troubles):
            return False
        self.status = self.status.with_changes(troubles=list(troubles) or None)
        return True

    def set_controls(self, controls: Controls) -> None:
        """Set what a person on this host has told the agent to do."""
        marks = [mark and mark.to_object() for mark in (controls.held, controls.drained)]
        if marks != [self.status.held, self.status.drained]:
            self.status = self.status.with_changes(held=marks[0], drained=marks[1])
        self._withdrawn = self._withdrawn and controls.drained is not None
        self._retry_answer = controls.answer

    def note_access(self, record: int | None, *, is_open: bool) -> None:
        """Note which record of roles was read, and whether anybody can deploy because no ACL says who may."""
        self._is_open = is_open
        if self.status.access != record:
            self.status = self.status.with_changes(access=record)

    def note_hold(self, effect: str | None) -> None:
        """Note what a hold does to the deployment that was in progress when it began; None if there was none."""
        self._hold = effect

    def note_withdrawal(self) -> None:
        """Note that the agent is drained, and nothing is registered any longer."""
        self._withdrawn = self.status.drained is not None

    def set_files(self, statuses: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the statuses of the files."""
        if self.status.files != statuses:
            self.status = self.status.with_changes(files=statuses)

    def show(self) -> bool:
        """Show the current status on this host: metrics, and the status file if it has changed.

        Returns whether what prevents that has changed.
        """
        states = self._session.states
        registered = sorted(self._ephemerals.held - {self._znode}) if self._session.seconds_left else []
        trying = self._session.trying
        before = self.troubles
        if self._metrics:
            self._metrics.show(self.status, registered)
        if self._metrics and self._unserved:
            self._unserved = self._serve(self._metrics)
        shown = {
            **self.status.to_object(),
            "session": states.current,
            "sessionStates": dict(states.entered),
            **({"trying": trying} if trying else {}),
            "registered": registered,
            "app": self._config.app.root,
            **({"open": True} if self._is_open else {}),
            **({HOLDING: self._hold} if self._hold else {}),
            **({"withdrawn": self._withdrawn} if self.status.drained else {}),
            **({RETRY: self._retry_answer} if self._retry_answer else {}),
        }
        if shown != self._written:
            self._unwritten = self._write(shown)
        return self.troubles != before

    def _write(self, shown: dict[str, Any]) -> str | None:
        """Write the status file; returns what prevents that, if anything."""
        try:
            write_whole(self._file, json.dumps(shown))
        except OSError as exc:
            effect = "; no release is deployed until it can be written" if exc.errno == errno.EROFS else ""
            return f"status not written, path={self._file}: {exc.strerror}{effect}"
        self._written = shown
        return None

    def report(self) -> None:
        """Write the status into the agent's znode, if it has changed.

        Raises `SessionTroubleError`, also while the znode belongs to somebody else: a dead session, which ends soon, or
        another agent of this name. Nothing is taken over.
        """
        try:
            self._ephemerals.hold(self._znode, _fitting(self.status))
        except TakenError as exc:
            name = self._config.name
            raise SessionTroubleError(f"no status of {name}: {exc}; is another agent named {name}?") from exc
