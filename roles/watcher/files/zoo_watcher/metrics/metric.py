# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric of the agent: its name, its labels, and how it is read from the facts. docs/monitoring.md lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Callable, Union

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from zoo_watcher.errors import RETRY_REASONS
from zoo_watcher.wire.records import FILE_STATES, GAVE_UP, STATES
from zoo_watcher.zookeeper.session_states import ACTIONS as SESSION_STATES

from .disk_use import DiskUse, FileSystem
from .facts import Facts

PREFIX = "zoo_watcher"
OUTCOMES = ("active", *sorted(GAVE_UP))
"""The states in which a deployment has ended."""

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Samples: the values of the labels, and the value."""
Family = Union[GaugeMetricFamily, CounterMetricFamily]


@dataclass(frozen=True)
class Metric:
    """A gauge, or a counter if its name ends with `_total`."""

    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Facts], Samples]

    def family(self, facts: Facts) -> Family:
        """The metric with its samples, in the form of the Prometheus library."""
        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        made = kind(f"{PREFIX}_{self.name}", self.help, labels=self.labels)
        for labels, value in self.read(facts):
            made.add_metric(list(labels), value)
        return made


def families(facts: Facts) -> Iterator[Family]:
    """All metrics, from these facts alone: what is no longer true has no sample."""
    return (metric.family(facts) for metric in METRICS)


def _one(read: Callable[[Facts], float]) -> Callable[[Facts], Samples]:
    """One sample without labels."""
    return lambda facts: [((), read(facts))]


def _disk_use(read: Callable[[DiskUse], float]) -> Callable[[Facts], Samples]:
    return lambda facts: [((), read(facts.disk_use))] if facts.disk_use else []


def _file_system(read: Callable[[FileSystem], float]) -> Callable[[Facts], Samples]:
    return lambda facts: [((), read(facts.file_system))] if facts.file_system else []


def _info(facts: Facts) -> Samples:
    status = facts.turn.status
    return [((facts.app, status.name, status.version or ""), 1)]


def _release_info(facts: Facts) -> Samples:
    status = facts.turn.status
    return [((facts.turn.desired_commit, status.commit_id or "", status.previous_commit_id or ""), 1)]


def _state(facts: Facts) -> Samples:
    return [((state,), state == facts.turn.status.state) for state in STATES]


def _entered(facts: Facts) -> float:
    since = facts.turn.status.since
    return datetime.fromisoformat(since).timestamp() if since else 0.0


def _steps(facts: Facts) -> Samples:
    return [((step,), seconds) for step, seconds in (facts.turn.status.timings or {}).items()]


def _outcomes(facts: Facts) -> Samples:
    return [((outcome,), facts.tally.outcomes[outcome]) for outcome in OUTCOMES]


def _failures(facts: Facts) -> Samples:
    return [((step,), facts.tally.failures[step]) for step in STATES if step not in OUTCOMES]


def _retries(facts: Facts) -> Samples:
    return [((reason,), facts.tally.retries[reason]) for reason in RETRY_REASONS]


def _session_state(facts: Facts) -> Samples:
    return [((state,), state == facts.session.state) for state in SESSION_STATES]


def _session_changes(facts: Facts) -> Samples:
    return [((state,), facts.session.counts[state]) for state in SESSION_STATES]


def _healthy(facts: Facts) -> Samples:
    return [((check.service,), check.healthy) for check in facts.checks]


def _answered(facts: Facts) -> Samples:
    return [((check.service,), check.answered_at) for check in facts.checks]


def _max_age(facts: Facts) -> Samples:
    return [((check.service,), check.max_age) for check in facts.checks]


def _registered(facts: Facts) -> Samples:
    return [((check.service,), check.service in facts.turn.registered) for check in facts.checks]


def _refused(facts: Facts) -> Samples:
    return [((check.service,), check.service in facts.turn.refused) for check in facts.checks]


def _file_current(facts: Facts) -> Samples:
    files = facts.turn.status.files or {}
    return [((dest,), status.get("state") == "current") for dest, status in files.items()]


def _files(facts: Facts) -> Samples:
    states = [status.get("state") for status in (facts.turn.status.files or {}).values()]
    return [((state,), states.count(state)) for state in FILE_STATES]


METRICS = (
    Metric("info", "1; the labels say which agent this is", ("app", "name", "version"), _info),
    Metric("start_timestamp_seconds", "When the agent was started or reloaded", (), _one(lambda facts: facts.started)),
    Metric(
        "last_turn_timestamp_seconds",
        "When the agent's loop last looked around, once a minute at least",
        (),
        _one(lambda facts: facts.turn.at),
    ),
    Metric(
        "converged",
        "1 while this host has proved the desired release, or none is desired",
        (),
        _one(lambda facts: facts.turn.converged),
    ),
    Metric(
        "desired_generation",
        "Generation that is published, as last read; 0 for none",
        (),
        _one(lambda facts: facts.turn.desired_generation),
    ),
    Metric(
        "generation",
        "Generation that the state is about; 0 before the first",
        (),
        _one(lambda facts: facts.turn.status.generation or 0),
    ),
    Metric(
        "release_info",
        "1; the labels are the commits that are desired, live, and gone back to if need be",
        ("desired_commit", "live_commit", "previous_commit"),
        _release_info,
    ),
    Metric("state", "1 for the agent's state", ("state",), _state),
    Metric("state_entered_timestamp_seconds", "When the state was entered", (), _one(_entered)),
    Metric(
        "held",
        "1 while a person on the host has the agent deploy nothing newer",
        (),
        _one(lambda facts: facts.turn.status.held is not None),
    ),
    Metric(
        "drained",
        "1 while a person on the host has the agent register nothing",
        (),
        _one(lambda facts: facts.turn.status.drained is not None),
    ),
    Metric("deploy_seconds", "What each step of the last deployment took", ("step",), _steps),
    Metric("deployments_total", "Deployments by how they ended", ("outcome",), _outcomes),
    Metric("deployment_failures_total", "Deployments that failed, by the step that did", ("step",), _failures),
    Metric("deployment_retries_total", "Steps that are tried again, by the reason", ("reason",), _retries),
    Metric("check_healthy", "1 while the service is healthy, 0 also before that is known", ("service",), _healthy),
    Metric(
        "check_verdict_timestamp_seconds",
        "When the check last came to an end; 0 before the first time",
        ("service",),
        _answered,
    ),
    Metric("check_verdict_max_age_seconds", "Age from which on a verdict counts no more", ("service",), _max_age),
    Metric("registered", "1 while the service's registration is held", ("service",), _registered),
    Metric("registration_refused", "1 while the ensemble refuses the registration", ("service",), _refused),
    Metric("session_state", "1 for the session's state", ("state",), _session_state),
    Metric("session_changes_total", "How often the session entered a state", ("state",), _session_changes),
    Metric(
        "session_start_timestamp_seconds",
        "When this process first had its latest session; 0 before the first",
        (),
        _one(lambda facts: facts.turn.session_since),
    ),
    Metric(
        "session_timeout_seconds",
        "What the ensemble waits for a sign of the agent",
        (),
        _one(lambda facts: facts.session.timeout),
    ),
    Metric(
        "last_contact_timestamp_seconds",
        "When a server that can write was last connected, now while one is; 0 for never",
        (),
        _one(lambda facts: facts.session.last_contact),
    ),
    Metric(
        "troubles",
        "How many things keep the agent from its work",
        (),
        _one(lambda facts: len(facts.turn.status.troubles or ())),
    ),
    Metric("files", "Managed files by state", ("state",), _files),
    Metric("file_current", "1 while the managed file is as its znode has it", ("dest",), _file_current),
    Metric(
        "file_actions_pending",
        "Managed files whose actions have not all succeeded since they changed",
        (),
        _one(lambda facts: facts.turn.actions_pending),
    ),
    Metric(
        "object_store_bytes",
        "Disk use of the object store",
        (),
        _disk_use(lambda use: use.object_store),
    ),
    Metric(
        "releases_bytes",
        "Disk use of all release directories, what they share counted once",
        (),
        _disk_use(lambda use: use.releases),
    ),
    Metric(
        "disk_use_timestamp_seconds",
        "When the disk use was measured",
        (),
        _disk_use(lambda use: use.at),
    ),
    Metric(
        "base_size_bytes",
        "Size of the base's file system",
        (),
        _file_system(lambda system: system.size),
    ),
    Metric(
        "base_free_bytes",
        "What is free in it for the agent's user",
        (),
        _file_system(lambda system: system.free),
    ),
    Metric(
        "base_inodes",
        "Inodes of the base's file system; 0 where it does not count them",
        (),
        _file_system(lambda system: system.inodes),
    ),
    Metric(
        "base_free_inodes",
        "Inodes that are free in it",
        (),
        _file_system(lambda system: system.free_inodes),
    ),
)
