# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired release of an application, its history, and the fleet that proves it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Callable, NamedTuple

from .records import HISTORY_LIMIT, MAX_NODE_BYTES, AgentStatus, AppPaths, InvalidRecord, Release
from .zookeeper import KAZOO_IMPORT_ERROR, Node, ZooKeeperError, explain, read_many, translated

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import (
        BadVersionError,
        ConnectionLoss,
        KazooException,
        NodeExistsError,
        NoNodeError,
        RolledBackError,
        RuntimeInconsistency,
        SessionExpiredError,
    )

PROVED = "provedAt"
"""The key of a history entry that says when the whole fleet had proved it, RFC 3339; set by who waited for that."""
SUPERSEDED = "another release was published meanwhile; this one is not waited for any more"
WAITING: dict[str, dict[str, Any]] = {
    "wait_timeout": {"type": "float", "default": 300.0},
    "min_agents": {"type": "int", "default": 1},
    "max_failures": {"type": "int", "default": 0},
}
"""The options of waiting, for `AnsibleModule(argument_spec=...)`."""
TRIES = 10
"""How often a publication begins anew when another publisher was quicker."""


class Published(NamedTuple):
    """What `<app>/config` holds: a `release`, or the `problem` with its data; both None where it is not there."""

    generation: int | None = None
    version: int | None = None
    release: Release | None = None
    problem: str | None = None


class HistoryEntry(NamedTuple):
    """One publication: its znode's name, its generation, and the release or the problem with its data."""

    name: str
    generation: int
    release: Release | None
    problem: str | None


def read_published(client: KazooClient, paths: AppPaths) -> Published:
    """What is published now; asks the leader, so that the last write is seen."""
    with translated(paths.config):
        client.sync(paths.config)
        try:
            data, stat = client.get(paths.config)
        except NoNodeError:
            return Published()
    release, problem = _read_release(data)
    return Published(stat.mzxid, stat.version, release, problem)


def _read_release(data: bytes | None) -> tuple[Release | None, str | None]:
    try:
        return Release.from_node(data), None
    except InvalidRecord as exc:
        return None, str(exc)


def publish(client: KazooClient, paths: AppPaths, release: Release) -> int:
    """Publish a release with its history entry in one transaction; its generation."""
    data = release.to_node()
    if len(data) > MAX_NODE_BYTES:
        raise ZooKeeperError(f"{paths.config}: {len(data)} bytes, more than a znode takes ({MAX_NODE_BYTES})")
    for folder in (paths.history, paths.agents):
        with translated(folder):
            client.ensure_path(folder)
    for _try in range(TRIES):
        generation = _publish_once(client, paths, data)
        if generation is not None:
            _trim_history(client, paths)
            return generation
    raise ZooKeeperError(f"{paths.config}: changed by others in each of {TRIES} tries; publish again")


def _publish_once(client: KazooClient, paths: AppPaths, data: bytes) -> int | None:
    """The generation, or None where another publisher was quicker."""
    with translated(paths.config):
        stat = client.exists(paths.config)
        transaction = client.transaction()
        if stat is None:
            transaction.create(paths.config, data)
        else:
            transaction.set_data(paths.config, data, stat.version)
        transaction.create(paths.history_prefix, data, sequence=True)
        results = transaction.commit()
    if isinstance(results[0], (BadVersionError, NodeExistsError, NoNodeError)):
        return None
    for path, result in zip((paths.config, paths.history), results):
        if isinstance(result, KazooException) and not isinstance(result, (RolledBackError, RuntimeInconsistency)):
            raise ZooKeeperError(f"{path}: {explain(result)}", path=path) from result
    with translated(results[1]):
        # Made in the same transaction, so its czxid is the generation, whatever has come since.
        return int(client.get(results[1])[1].czxid)


def _trim_history(client: KazooClient, paths: AppPaths) -> None:
    """Keep the newest entries. One that can't be deleted is left: the next publication tries again."""
    with translated(paths.history):
        names = sorted(client.get_children(paths.history), key=_sequence)
        for pending in [client.delete_async(f"{paths.history}/{name}") for name in names[:-HISTORY_LIMIT]]:
            pending.wait()


def _sequence(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def read_history(client: KazooClient, paths: AppPaths) -> list[HistoryEntry]:
    """What was published, the newest first."""
    entries = []
    for node in _children(client, paths.history):
        release, problem = _read_release(node.data)
        entries.append(HistoryEntry(node.path.rsplit("/", 1)[1], node.stat.czxid, release, problem))
    return sorted(entries, key=lambda entry: _sequence(entry.name), reverse=True)


def outage(options: Mapping[str, Any]) -> float:
    """Seconds for which the ensemble may be away: as long as is waited for the fleet, else as for a connection."""
    return max(options["connect_timeout"], options["wait_timeout"] if options["wait"] else 0.0)


def prove(client: KazooClient, paths: AppPaths, generation: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Wait as the options of `WAITING` say, and note it where the whole fleet has proved the generation.

    Returns what a module returns of it; where the demand did not come true, that is in the `ZooKeeperError`'s details.
    """
    demand = Demand(generation, options["min_agents"], options["max_failures"])
    outcome = wait_for_fleet(client, paths, demand, options["wait_timeout"])
    if outcome.problem:
        raise ZooKeeperError(f"{paths.config}: {outcome.problem}", **outcome.to_result())
    if not outcome.verdict.failed:
        mark_proved(client, paths, generation, now())
    return outcome.to_result()


def now() -> str:
    """The time, RFC 3339."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def mark_proved(client: KazooClient, paths: AppPaths, generation: int, now: str) -> None:
    """Note in a publication's history entry that the fleet has proved it. What can't be noted is left."""
    for node in reversed(_children(client, paths.history)):
        release, _unused = _read_release(node.data)
        if node.stat.czxid == generation and release is not None and PROVED not in release.extra:
            noted = replace(release, extra={**release.extra, PROVED: now})
            client.set_async(node.path, noted.to_node(), node.stat.version).wait()
            return


def rollback_target(history: list[HistoryEntry], current: Release | None, to: str | None) -> Release:
    """The release to go back to, from the history (the newest first). Raises `InvalidRecord` where there is none.

    `to` is an entry's name, or a commit's id or its first 7 digits or more. Without it, it is the last release that a
    whole fleet had proved and that is not the current one; where none is known to be, the last other one.
    """
    known = [(entry.name, entry.release) for entry in history if entry.release is not None]
    if to is not None:
        named = [release for name, release in known if name == to or (len(to) > 6 and release.commit_id.startswith(to))]
        if not named:
            raise InvalidRecord(f"to: no entry of the history is or has the commit {to}")
        return _again(named[0])
    others = [release for _name, release in known if not release.same_as(current)]
    proved = [release for release in others if PROVED in release.extra]
    if not others:
        raise InvalidRecord("there is no other release in the history to go back to")
    return _again((proved or others)[0])


def _again(release: Release) -> Release:
    """A release as it was before it was proved."""
    return replace(release, extra={key: value for key, value in release.extra.items() if key != PROVED})


def read_agents(client: KazooClient, paths: AppPaths) -> dict[str, AgentStatus]:
    """The live agents' statuses by name."""
    return {node.path.rsplit("/", 1)[1]: _status(node) for node in _children(client, paths.agents)}


def _children(client: KazooClient, parent: str) -> list[Node]:
    with translated(parent):
        try:
            names = client.get_children(parent)
        except NoNodeError:
            return []
    found = read_many(client, [f"{parent}/{name}" for name in sorted(names)])
    for one in found:
        if isinstance(one, ZooKeeperError):
            raise one
    return [one for one in found if isinstance(one, Node)]


def _status(node: Node) -> AgentStatus:
    """An agent's status. Another program's data under an agent's name is an agent that proves nothing."""
    name = node.path.rsplit("/", 1)[1]
    try:
        return AgentStatus.from_node(node.data).with_changes(name=name)
    except InvalidRecord as exc:
        return AgentStatus(name=name, state="idle", message=f"its status can't be read: {exc}")


class Demand(NamedTuple):
    """What must come true of a fleet: `generation` proved by every live agent, at least `min_agents` of them."""

    generation: int
    min_agents: int
    max_failures: int


class Verdict(NamedTuple):
    """Who has proved a generation, who gave up on it, who is still at it; names, sorted."""

    proved: list[str]
    failed: list[str]
    pending: list[str]


def judge(agents: Mapping[str, AgentStatus], generation: int) -> Verdict:
    """Sort a fleet by what its statuses say of a generation."""
    proved = {name for name, status in agents.items() if status.converged(generation)}
    failed = {name for name, status in agents.items() if status.gave_up(generation)}
    return Verdict(sorted(proved), sorted(failed), sorted(set(agents) - proved - failed))


class Outcome(NamedTuple):
    """How waiting ended. `problem` is None where the demand came true; `lost` were live and are not.

    `timed_out` tells a problem that more time could solve from one that it could not.
    """

    agents: Mapping[str, AgentStatus]
    verdict: Verdict
    lost: list[str]
    problem: str | None = None
    timed_out: bool = False

    def to_result(self) -> dict[str, Any]:
        """What a module returns of it."""
        return {
            "agents": [self.agents[name].to_object() for name in sorted(self.agents)],
            # Not `failed`: to Ansible that is whether the task did.
            "failed_agents": self.verdict.failed,
            "pending_agents": self.verdict.pending,
            "lost_agents": self.lost,
            "timed_out": self.timed_out,
        }


def wait_for_fleet(client: KazooClient, paths: AppPaths, demand: Demand, seconds: float) -> Outcome:
    """Wait, by watches, until the demand comes true or can't any more, for `seconds` at the most."""
    deadline = time.monotonic() + seconds
    fleet = Fleet(client, paths)
    while True:
        fleet.refresh()
        verdict = judge(fleet.agents, demand.generation)
        if len(verdict.failed) > demand.max_failures:
            return _outcome(fleet, verdict, _failures(fleet.agents, verdict))
        if not verdict.pending and len(verdict.proved) + len(verdict.failed) >= demand.min_agents:
            return _outcome(fleet, verdict)
        if fleet.superseded(demand.generation):
            return _outcome(fleet, verdict, SUPERSEDED)
        left = deadline - time.monotonic()
        if left <= 0:
            return _outcome(fleet, verdict, _overdue(fleet.agents, verdict, demand), timed_out=True)
        fleet.wait(left)


def _outcome(fleet: Fleet, verdict: Verdict, problem: str | None = None, *, timed_out: bool = False) -> Outcome:
    return Outcome(dict(fleet.agents), verdict, sorted(fleet.seen - set(fleet.agents)), problem, timed_out)


def _failures(agents: Mapping[str, AgentStatus], verdict: Verdict) -> str:
    return f"not deployed on {len(verdict.failed)} of {len(agents)}: {_said(agents, verdict.failed)}"


def _overdue(agents: Mapping[str, AgentStatus], verdict: Verdict, demand: Demand) -> str:
    if len(agents) < demand.min_agents:
        return f"published, but {len(agents)} agents are live in time, want at least {demand.min_agents}"
    return f"not proved in time by {len(verdict.pending)} of {len(agents)}: {_said(agents, verdict.pending)}"


def _said(agents: Mapping[str, AgentStatus], names: Iterable[str], most: int = 5) -> str:
    """What some agents say of themselves, for a message."""
    listed = sorted(names)
    said = [f"{name} is {_state(agents[name])}" for name in listed[:most]]
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return ", ".join([*said, *more])


def _state(status: AgentStatus) -> str:
    return f"{status.state} ({status.message})" if status.message else status.state


class Fleet:
    """The live agents' statuses, kept current by watches: only what has changed is read again."""

    def __init__(self, client: KazooClient, paths: AppPaths) -> None:
        self.agents: dict[str, AgentStatus] = {}
        self.seen: set[str] = set()
        self._client = client
        self._paths = paths
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._stale_list = True
        self._stale: set[str] = set()
        self._generation: int | None = None
        self._stale_config = True

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed, `seconds` at the most."""
        self._woken.wait(seconds)
        self._woken.clear()

    def superseded(self, generation: int) -> bool:
        """Whether another generation is published now."""
        return self._generation is not None and self._generation != generation

    def refresh(self) -> None:
        """Read again what may have changed. A lost connection is waited out: all is read anew after it."""
        try:
            with translated(self._paths.agents):
                self._refresh_config()
                self._refresh_list()
                self._refresh_statuses()
        except ZooKeeperError as exc:
            if not isinstance(exc.__cause__, (ConnectionLoss, SessionExpiredError)):
                raise
            self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._stale_list = self._stale_config = True
            self._stale = set(self.agents)
        self._woken.wait(0.2)
        self._woken.set()

    def _watch(self, mark: Callable[[], Any]) -> Callable[[Any], None]:
        def on_event(_event: Any) -> None:
            with self._lock:
                mark()
            self._woken.set()

        return on_event

    def _mark_list(self) -> None:
        self._stale_list = True

    def _mark_config(self) -> None:
        self._stale_config = True

    def _refresh_config(self) -> None:
        with self._lock:
            stale, self._stale_config = self._stale_config, False
        if stale:
            stat = self._client.exists(self._paths.config, watch=self._watch(self._mark_config))
            self._generation = stat.mzxid if stat else None

    def _refresh_list(self) -> None:
        with self._lock:
            stale, self._stale_list = self._stale_list, False
        if not stale:
            return
        names = set(self._client.get_children(self._paths.agents, watch=self._watch(self._mark_list)))
        for gone in set(self.agents) - names:
            del self.agents[gone]
        with self._lock:
            self._stale |= names - set(self.agents)
        self.seen |= names

    def _refresh_statuses(self) -> None:
        with self._lock:
            names, self._stale = sorted(self._stale), set()
        pending = [(name, self._get(name)) for name in names]
        for name, one in pending:
            try:
                data, stat = one.get()
            except NoNodeError:
                self.agents.pop(name, None)
            else:
                self.agents[name] = _status(Node(self._paths.agent(name), data, stat))

    def _get(self, name: str) -> Any:
        return self._client.get_async(self._paths.agent(name), watch=self._watch(lambda: self._stale.add(name)))
