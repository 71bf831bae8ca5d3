# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live agents of an application, and waiting, by watches, until they have proved something."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Callable

from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, check_amounts, translated
from .fleet_outcome import (
    NO_EARLIER_WAIT,
    RETRY_TIMEOUT,
    EarlierWait,
    FleetWait,
    Limits,
    Proof,
    WaitResult,
    parse_share,
)
from .records import AgentStatus, AppPaths, InvalidRecord
from .zookeeper import Node, checked, read_many

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError

WAITING_OPTIONS: dict[str, dict[str, Any]] = {
    "wait_timeout": {"type": "float", "default": 300.0},
    "retry_timeout": {"type": "float", "default": RETRY_TIMEOUT},
    "min_agents": {"type": "str", "default": "1"},
    "max_failures": {"type": "str", "default": "0"},
}
"""The options of waiting for a fleet, in the form of Ansible's argument specs."""
SECONDS = ("wait_timeout", "retry_timeout")
SHARES = ("min_agents", "max_failures")
"""Those that are seconds, and those that are a number of agents or a percentage."""


def outage(options: Mapping[str, Any], *, waits: bool) -> float:
    """Seconds for which the ensemble may be unreachable: as long as the fleet, or else a connection, is waited for.

    Raises `ZooKeeperError` where one of the `WAITING_OPTIONS` is what none can be.
    """
    check_amounts(options, *SECONDS)
    for name in SHARES:
        try:
            parse_share(options[name])
        except InvalidRecord as exc:
            raise ZooKeeperError(f"{name}: {exc}") from exc
    return max(options["connect_timeout"], options["wait_timeout"] if waits else 0.0)


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


def wait_for_proof(
    client: KazooClient,
    paths: AppPaths,
    proof: Proof,
    options: Mapping[str, Any],
    earlier: EarlierWait = NO_EARLIER_WAIT,
) -> dict[str, Any]:
    """Wait as the `WAITING_OPTIONS` say; what a module returns of it.

    Of the agents that `earlier` has as seen, those that are not live any more are lost too. Where the fleet did not
    prove it, that is in the `ZooKeeperError`'s details.
    """
    result = wait_for_fleet(client, paths, proof, limits_of(options), options["wait_timeout"], earlier)
    if result.problem:
        raise ZooKeeperError(f"{proof.subject}: {result.problem}", **result.to_result())
    return result.to_result()


def limits_of(options: Mapping[str, Any]) -> Limits:
    """What the `WAITING_OPTIONS` allow."""
    return Limits(options["min_agents"], options["max_failures"], options["retry_timeout"])


def wait_for_fleet(
    client: KazooClient,
    paths: AppPaths,
    proof: Proof,
    limits: Limits,
    seconds: float,
    earlier: EarlierWait = NO_EARLIER_WAIT,
) -> WaitResult:
    """Wait, by watches, until the proof is there or can't be any more, for `seconds` at the most."""
    course = FleetWait(proof, limits, time.monotonic() + seconds, earlier)
    fleet = Fleet(client, paths)
    while True:
        fleet.refresh()
        result = course.look(fleet.agents, fleet.config, time.monotonic())
        if result is not None:
            return result
        fleet.wait(course.left(time.monotonic()))


class Fleet:
    """The live agents' statuses, kept current by watches: only what has changed is read again.

    `config` is the znode of the release which is published now; None where none is.
    """

    def __init__(self, client: KazooClient, paths: AppPaths) -> None:
        self.agents: dict[str, AgentStatus] = {}
        self.config: Node | None = None
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
            self.config = self._read_config()

    def _read_config(self) -> Node | None:
        watch = self._watch(self._mark_config)
        try:
            return Node(self._paths.config, *self._client.get(self._paths.config, watch=watch))
        except NoNodeError:
            if self._client.exists(self._paths.config, watch=watch):
                watch(None)
            return None

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
