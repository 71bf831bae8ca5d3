# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agents of an application, live and missing, and waiting, by watches, until they have proved something."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, check_amounts, is_outage, translated
from .fleet_outcome import (
    ANY_NUMBER,
    NO_EARLIER_WAIT,
    RETRY_TIMEOUT,
    UNANSWERED,
    EarlierWait,
    FleetWait,
    Limits,
    Proof,
    WaitResult,
)
from .records import AgentStatus, AppPaths, InvalidRecord
from .shares import parse_share
from .zookeeper import READ_AGAIN, Node, checked, read_many

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import ConnectionLoss, NoAuthError, NoNodeError, SessionExpiredError
    from kazoo.handlers.threading import KazooTimeoutError

LONGEST_LAST_READ = 2.0
"""Seconds that an answer may take in any case, even at the end of a wait."""
WAITING_OPTIONS: dict[str, dict[str, Any]] = {
    "wait_timeout": {"type": "float", "default": 300.0},
    "retry_timeout": {"type": "float", "default": RETRY_TIMEOUT},
    "min_agents": {"type": "str", "default": "1"},
    "max_failures": {"type": "str", "default": "0"},
    "max_missing": {"type": "str", "default": ANY_NUMBER},
}
"""The options of waiting for a fleet, in the form of Ansible's argument specs."""
SECONDS = ("wait_timeout", "retry_timeout")
SHARES = ("min_agents", "max_failures", "max_missing")
"""The options in seconds, and those that are a number of agents or a percentage."""


def outage(options: Mapping[str, Any], *, waits: bool) -> float:
    """Seconds for which the ensemble may be unreachable: as long as the wait for the fleet, or else for a connection.

    Raises `ZooKeeperError` if one of the `WAITING_OPTIONS` is invalid.
    """
    check_amounts(options, *SECONDS)
    for name in SHARES:
        try:
            parse_share(options[name])
        except InvalidRecord as exc:
            raise ZooKeeperError(f"{name}: {exc}") from exc
    longest: float = max(options["connect_timeout"], options["wait_timeout"] if waits else 0.0)
    return longest


def begun(options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The options of a wait that began `seconds` ago, with what is left of its time."""
    return {**options, "wait_timeout": max(0.0, options["wait_timeout"] - seconds)}


def read_agents(client: KazooClient, paths: AppPaths) -> dict[str, AgentStatus]:
    """The live agents' statuses by name; unreadable ones are left out."""
    return {node.path.rsplit("/", 1)[1]: _status(node) for node in readable_children(client, paths.agents)}


def live_names(client: KazooClient, paths: AppPaths) -> list[str]:
    """The names of the live agents. Raises `ZooKeeperError`."""
    return names_below(client, paths.agents)


def roster_names(client: KazooClient, paths: AppPaths) -> list[str]:
    """The names of all hosts of the fleet, live or missing. Raises `ZooKeeperError`."""
    return names_below(client, paths.roster)


def names_below(client: KazooClient, parent: str) -> list[str]:
    """The names right below `parent`; none if it does not exist. Raises `ZooKeeperError`."""
    with translated(parent):
        try:
            return sorted(client.get_children(parent))
        except NoNodeError:
            return []


def read_children(client: KazooClient, parent: str) -> list[Node]:
    """The znodes right below `parent`, by name; none if it does not exist. Raises `ZooKeeperError`."""
    answers = read_many(client, [f"{parent}/{name}" for name in names_below(client, parent)])
    return [node for node in map(checked, answers) if node is not None]


def readable_children(client: KazooClient, parent: str) -> list[Node]:
    """As `read_children`, for places where agents create: what one keeps to itself does not belong to the fleet."""
    answers = read_many(client, [f"{parent}/{name}" for name in names_below(client, parent)])
    return [node for node in map(checked, (one for one in answers if not _is_forbidden(one))) if node is not None]


def _is_forbidden(answer: Node | ZooKeeperError | None) -> bool:
    """Whether an answer says that the znode may not be read."""
    return isinstance(getattr(answer, "__cause__", None), NoAuthError)


def _status(node: Node) -> AgentStatus:
    """An agent's status. Another program's data under an agent's name counts as an agent that proves nothing."""
    name = node.path.rsplit("/", 1)[1]
    try:
        status = AgentStatus.from_node(node.data)
        return status if status.name == name else status.with_changes(name=name)
    except InvalidRecord as exc:
        return AgentStatus(name=name, state="idle", message=f"its status can't be read: {exc}")


def wait_for_proof(
    client: KazooClient,
    paths: AppPaths,
    proof: Proof,
    options: Mapping[str, Any],
    earlier: EarlierWait = NO_EARLIER_WAIT,
) -> dict[str, Any]:
    """Wait as the `WAITING_OPTIONS` ask; the part of a module's result about it.

    Agents that `earlier` has as seen and that are no longer live count as lost. If the fleet did not prove it, the same
    result is in the `ZooKeeperError`'s details.
    """
    result = wait_for_fleet(client, paths, proof, limits_of(options), options["wait_timeout"], earlier)
    if result.problem:
        raise ZooKeeperError(f"{proof.subject}: {result.problem}", **result.to_result())
    return result.to_result()


def is_unanswered(exc: ZooKeeperError) -> bool:
    """Whether a wait has ended in an outage: any further request would wait for that again."""
    return is_outage(exc) or UNANSWERED in str(exc)


def limits_of(options: Mapping[str, Any]) -> Limits:
    """The limits in the `WAITING_OPTIONS`."""
    return Limits(*(options[name] for name in ("min_agents", "max_failures", "retry_timeout", "max_missing")))


def wait_for_fleet(
    client: KazooClient,
    paths: AppPaths,
    proof: Proof,
    limits: Limits,
    seconds: float,
    earlier: EarlierWait = NO_EARLIER_WAIT,
) -> WaitResult:
    """Wait, by watches, until the proof is complete or has become impossible, for at most `seconds`.

    Nothing is decided by what was read of a fleet before a connection was lost: the rest may say otherwise. Raises
    `ZooKeeperError` if the fleet could not be read even once.
    """
    deadline = time.monotonic() + seconds
    course = FleetWait(proof, limits, deadline, earlier)
    fleet = Fleet(client, paths, deadline, proof.gate)
    has_looked = False
    while True:
        trouble = fleet.refresh()
        now = time.monotonic()
        if trouble is None:
            has_looked = True
            result = course.look(fleet.agents, fleet.config, now, fleet.roster, fleet.gate)
            if result is not None:
                return result
        elif now >= deadline and has_looked:
            return course.unanswered(fleet.agents, fleet.roster)
        elif now >= deadline:
            raise ZooKeeperError(f"{proof.subject}: {UNANSWERED}", path=proof.subject) from trouble.__cause__
        fleet.wait(course.left(now))


class Fleet:
    """The live agents' statuses, kept current by watches; changes are read again, and everything each `READ_AGAIN`.

    `config` is the znode of the release that is published now; None if none is. `roster` are the names of all hosts of
    the fleet. `gate` is the znode at `gate_path`, which has the state of a rollout. Answers are waited for until
    `deadline`, on the monotonic clock.
    """

    def __init__(self, client: KazooClient, paths: AppPaths, deadline: float, gate_path: str | None = None) -> None:
        self.agents: dict[str, AgentStatus] = {}
        self.config: Node | None = None
        self.roster: set[str] = set()
        self.gate: Node | None = None
        self._gate_path = gate_path
        self._client = client
        self._paths = paths
        self._deadline = deadline
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._stale_list = True
        self._stale: set[str] = set()
        self._stale_config = True
        self._stale_roster = True
        self._stale_gate = gate_path is not None
        self._read_again_at = time.monotonic() + READ_AGAIN
        # A single look needs no watches, and ten thousand of them take a second.
        self._looks_once = time.monotonic() >= deadline

    def wait(self, seconds: float) -> None:
        """Wait until something may have changed, for at most `seconds`."""
        self._woken.wait(max(0.0, min(seconds, self._read_again_at - time.monotonic())))
        self._woken.clear()

    def refresh(self) -> ZooKeeperError | None:
        """Read again what may have changed. An outage is returned after a pause; everything is read again after it."""
        if time.monotonic() >= self._read_again_at:
            self._forget()
        try:
            with translated(self._paths.agents):
                self._refresh_config()
                self._refresh_gate()
                self._refresh_roster()
                self._refresh_list()
                self._refresh_statuses()
        except ZooKeeperError as exc:
            if not isinstance(exc.__cause__, (ConnectionLoss, SessionExpiredError, KazooTimeoutError)):
                raise
            self._forget()
            self._woken.wait(0.2)
            self._woken.set()
            return exc
        return None

    def _forget(self) -> None:
        """Have everything read again."""
        with self._lock:
            self._stale_list = self._stale_config = self._stale_roster = True
            self._stale_gate = self._gate_path is not None
            self._stale = set(self.agents)
        self._read_again_at = time.monotonic() + READ_AGAIN

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

    def _mark_gate(self) -> None:
        self._stale_gate = True

    def _mark_roster(self) -> None:
        self._stale_roster = True

    def _answer(self, request: Any) -> Any:
        """The answer; kazoo holds requests back while there is no connection, so the wait has a limit."""
        return request.get(timeout=max(self._deadline - time.monotonic(), LONGEST_LAST_READ))

    def _refresh_config(self) -> None:
        with self._lock:
            stale, self._stale_config = self._stale_config, False
        if stale:
            self.config = self._read(self._paths.config, self._mark_config)

    def _refresh_gate(self) -> None:
        with self._lock:
            stale, self._stale_gate = self._stale_gate, False
        if stale and self._gate_path:
            self.gate = self._read(self._gate_path, self._mark_gate)

    def _read(self, path: str, mark: Callable[[], Any]) -> Node | None:
        """A znode, None if it does not exist; either way it is watched."""
        watch = self._watch(mark)
        try:
            return Node(path, *self._answer(self._client.get_async(path, watch=watch)))
        except NoNodeError:
            if self._answer(self._client.exists_async(path, watch=watch)):
                watch(None)
            return None

    def _refresh_roster(self) -> None:
        with self._lock:
            stale, self._stale_roster = self._stale_roster, False
        if stale:
            self.roster = self._names(self._paths.roster, self._mark_roster)

    def _refresh_list(self) -> None:
        with self._lock:
            stale, self._stale_list = self._stale_list, False
        if not stale:
            return
        names = self._names(self._paths.agents, self._mark_list)
        for name in set(self.agents) - names:
            del self.agents[name]
        with self._lock:
            self._stale |= names - set(self.agents)

    def _names(self, parent: str, mark: Callable[[], Any]) -> set[str]:
        """The names right below `parent`: none if there has not been any agent or release yet."""
        watch = self._watch(mark)
        with translated(parent):
            try:
                return set(self._answer(self._client.get_children_async(parent, watch=watch)))
            except NoNodeError:
                if self._answer(self._client.exists_async(parent, watch=watch)):
                    watch(None)
                return set()

    def _refresh_statuses(self) -> None:
        with self._lock:
            names, self._stale = sorted(self._stale), set()
        if self._looks_once:
            self._read_statuses(names)
            return
        pending = [(name, self._get(name)) for name in names]
        for name, request in pending:
            try:
                data, stat = self._answer(request)
            except (NoNodeError, NoAuthError):
                self.agents.pop(name, None)
            else:
                self.agents[name] = _status(Node(self._paths.agent(name), data, stat))

    def _read_statuses(self, names: Sequence[str]) -> None:
        """Read them in bulk, without watches."""
        answers = read_many(self._client, [self._paths.agent(name) for name in names])
        for name, answer in zip(names, answers):
            node = None if _is_forbidden(answer) else checked(answer)
            if node is None:
                self.agents.pop(name, None)
            else:
                self.agents[name] = _status(node)

    def _get(self, name: str) -> Any:
        return self._client.get_async(self._paths.agent(name), watch=self._watch(lambda: self._stale.add(name)))
