# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live agents of an application, and waiting, by watches, until they have proved something."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple, Protocol

from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, translated
from .records import AgentStatus, AppPaths, InvalidRecord
from .zookeeper import Node, checked, read_many

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError


class Verdict(NamedTuple):
    """The names, sorted, of those who have proved it, who gave up on it, who are still at it; of no others."""

    proved: list[str]
    failed: list[str]
    pending: list[str]

    @property
    def names(self) -> list[str]:
        """All who are to prove it."""
        return sorted([*self.proved, *self.failed, *self.pending])


class Proof(Protocol):
    """What a fleet is to prove: a release, or the files of some znodes."""

    subject: str
    """The znode that a message begins with."""
    undone: str
    """What a message says of agents that gave up: `not deployed`."""
    kind: str
    """Whom a message counts: `agents`."""

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort the live agents by what their statuses say of it."""

    def obstacle(self, generation: int | None) -> str | None:
        """Why it can't be proved any more, now that `generation` is the release that is published."""

    def describe(self, status: AgentStatus) -> str:
        """How far an agent is with it, for a message."""


def read_agents(client: KazooClient, paths: AppPaths) -> dict[str, AgentStatus]:
    """The live agents' statuses by name."""
    return {node.path.rsplit("/", 1)[1]: _status(node) for node in read_children(client, paths.agents)}


def live_names(client: KazooClient, paths: AppPaths) -> list[str]:
    """The names of the live agents. Raises `ZooKeeperError`."""
    with translated(paths.agents):
        try:
            return sorted(client.get_children(paths.agents))
        except NoNodeError:
            return []


def read_children(client: KazooClient, parent: str) -> list[Node]:
    """The znodes right below `parent`, by name; none where it is not there. Raises `ZooKeeperError`."""
    with translated(parent):
        try:
            names = client.get_children(parent)
        except NoNodeError:
            return []
    answers = read_many(client, [f"{parent}/{name}" for name in sorted(names)])
    return [node for node in map(checked, answers) if node is not None]


def _status(node: Node) -> AgentStatus:
    """An agent's status. Another program's data under an agent's name is an agent that proves nothing."""
    name = node.path.rsplit("/", 1)[1]
    try:
        return AgentStatus.from_node(node.data).with_changes(name=name)
    except InvalidRecord as exc:
        return AgentStatus(name=name, state="idle", message=f"its status can't be read: {exc}")


class Limits(NamedTuple):
    """How many agents must have an outcome at least, and how many may fail at the most."""

    min_agents: int
    max_failures: int


class WaitResult(NamedTuple):
    """How waiting ended. `problem` is None where the proof is there; `lost` were live and are not.

    `agents` are those that are to prove it. `timed_out` tells a problem that more time could solve from another one.
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


def wait_for_proof(
    client: KazooClient, paths: AppPaths, proof: Proof, options: Mapping[str, Any], seen: Iterable[str] = ()
) -> dict[str, Any]:
    """Wait as the `WAITING_OPTIONS` say; what a module returns of it.

    `seen` are agents that were live before: those of them that are not any more are lost too. Where the fleet did not
    prove it, that is in the `ZooKeeperError`'s details.
    """
    limits = Limits(options["min_agents"], options["max_failures"])
    result = wait_for_fleet(client, paths, proof, limits, options["wait_timeout"], seen)
    if result.problem:
        raise ZooKeeperError(f"{proof.subject}: {result.problem}", **result.to_result())
    return result.to_result()


def wait_for_fleet(
    client: KazooClient, paths: AppPaths, proof: Proof, limits: Limits, seconds: float, before: Iterable[str] = ()
) -> WaitResult:
    """Wait, by watches, until the proof is there or can't be any more, for `seconds` at the most.

    `before` are the agents that were live already before that.
    """
    deadline = time.monotonic() + seconds
    fleet = Fleet(client, paths)
    seen = set(before)
    while True:
        fleet.refresh()
        verdict = proof.judge(fleet.agents)
        seen.update(verdict.names)
        lost = sorted(seen - set(fleet.agents))
        result = WaitResult({name: fleet.agents[name] for name in verdict.names}, verdict, lost)
        if len(verdict.failed) > limits.max_failures:
            return result._replace(problem=_failures(result, proof))
        if not verdict.pending and len(verdict.names) >= limits.min_agents:
            return result
        obstacle = proof.obstacle(fleet.generation)
        if obstacle:
            return result._replace(problem=obstacle)
        left = deadline - time.monotonic()
        if left <= 0:
            return result._replace(problem=_overdue(result, proof, limits), timed_out=True)
        fleet.wait(left)


def _failures(result: WaitResult, proof: Proof) -> str:
    failed = result.verdict.failed
    return f"{proof.undone} on {len(failed)} of {len(result.agents)}: {_describe(result, proof, failed)}"


def _overdue(result: WaitResult, proof: Proof, limits: Limits) -> str:
    live, pending = len(result.agents), result.verdict.pending
    if live < limits.min_agents:
        return f"published, but {live} {proof.kind} are live in time, expected at least {limits.min_agents}"
    return f"not proved in time by {len(pending)} of {live}: {_describe(result, proof, pending)}"


def _describe(result: WaitResult, proof: Proof, names: Iterable[str], most: int = 5) -> str:
    """How far some agents are, for a message."""
    listed = sorted(names)
    descriptions = [proof.describe(result.agents[name]) for name in listed[:most]]
    more = [f"and {len(listed) - most} more"] if len(listed) > most else []
    return ", ".join([*descriptions, *more])


class Fleet:
    """The live agents' statuses, kept current by watches: only what has changed is read again.

    `generation` is that of the release which is published now; None where none is.
    """

    def __init__(self, client: KazooClient, paths: AppPaths) -> None:
        self.agents: dict[str, AgentStatus] = {}
        self.generation: int | None = None
        self._client = client
        self._paths = paths
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._stale_list = True
        self._stale: set[str] = set()
        self._stale_config = True

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed, `seconds` at the most."""
        self._woken.wait(seconds)
        self._woken.clear()

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
            self.generation = stat.mzxid if stat else None

    def _refresh_list(self) -> None:
        with self._lock:
            stale, self._stale_list = self._stale_list, False
        if not stale:
            return
        names = self._names()
        for name in set(self.agents) - names:
            del self.agents[name]
        with self._lock:
            self._stale |= names - set(self.agents)

    def _names(self) -> set[str]:
        """Who is live: nobody where no agent and no release has been there yet."""
        watch = self._watch(self._mark_list)
        try:
            return set(self._client.get_children(self._paths.agents, watch=watch))
        except NoNodeError:
            if self._client.exists(self._paths.agents, watch=watch):
                watch(None)
            return set()

    def _refresh_statuses(self) -> None:
        with self._lock:
            names, self._stale = sorted(self._stale), set()
        pending = [(name, self._get(name)) for name in names]
        for name, request in pending:
            try:
                data, stat = request.get()
            except NoNodeError:
                self.agents.pop(name, None)
            else:
                self.agents[name] = _status(Node(self._paths.agent(name), data, stat))

    def _get(self, name: str) -> Any:
        return self._client.get_async(self._paths.agent(name), watch=self._watch(lambda: self._stale.add(name)))
