# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired release of an application, its history, and its proof by the fleet."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeVar

from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, explain, translated
from .fleet import read_children, wait_for_proof
from .fleet_outcome import NO_EARLIER_WAIT, Description, EarlierWait, Verdict, advice, reason_of
from .records import HISTORY_LIMIT, MAX_NODE_BYTES, AgentStatus, AppPaths, InvalidRecord, Release, quote
from .zookeeper import Node

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import (
        BadVersionError,
        KazooException,
        NodeExistsError,
        NoNodeError,
        RolledBackError,
        RuntimeInconsistency,
    )

PROVED = "provedAt"
"""The key of a history entry that says when the whole fleet had proved it, RFC 3339; set by who waited for that.

It is not there where no agent was live, or one that was live is lost.
"""
ROLLED_BACK_FROM = "rolledBackFrom"
"""The key of a release that was published to go back: the commit that was desired before."""
NOTHING = "none"
"""What a publisher expects to be desired who has seen that nothing is."""
SUPERSEDED = "another release was published meanwhile, so this one is not waited for any more: "
TRIES = 10
"""How often a publication begins anew when another publisher was quicker."""
FIRST_PAUSE = 0.01
"""Seconds at the most before a second try, doubled before each further one."""
Result = TypeVar("Result")


class Published(NamedTuple):
    """What `<app>/config` holds: a `release`, or the `problem` with its data; both None where it is not there.

    `since` is when it was written, RFC 3339.
    """

    generation: int | None = None
    version: int | None = None
    release: Release | None = None
    problem: str | None = None
    since: str | None = None

    def __str__(self) -> str:
        """What is desired now, by whom, since when."""
        if self.generation is None:
            return "no release is published"
        if self.release is None:
            return f"since {self.since} there is no release in it ({self.problem})"
        by = f" by {quote(self.release.publisher)}" if self.release.publisher else ""
        return f"{self.release.commit_id} is published{by} since {self.since}, generation {self.generation}"


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
    return _published(data, stat)


def _published(data: bytes, stat: Any) -> Published:
    release, problem = _read_release(data)
    return Published(stat.mzxid, stat.version, release, problem, _moment(stat.mtime / 1000))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _read_release(data: bytes | None) -> tuple[Release | None, str | None]:
    try:
        return Release.from_node(data), None
    except InvalidRecord as exc:
        return None, str(exc)


def begin_anew(attempt: Callable[[], Result]) -> Result:
    """What an attempt to read, decide and publish comes to; it begins anew where another publisher was quicker."""
    for number in range(TRIES):
        # Longer and longer, so that of many who began together some are late enough.
        time.sleep(random.uniform(0, FIRST_PAUSE * 2**number) if number else 0)  # noqa: S311  # no secret
        try:
            return attempt()
        except Overtaken as exc:
            overtaken = exc
    raise ZooKeeperError(f"{overtaken}, and others before that in each of {TRIES} tries; publish again")


def is_desired(published: Published, name: str) -> bool:
    """Whether the commit, or its beginning, or the generation `name` is the desired one.

    `NOTHING` is the generation where none is published.
    """
    commit_id = published.release.commit_id if published.release else ""
    generation = NOTHING if published.generation is None else str(published.generation)
    return (len(name) > 6 and commit_id.startswith(name.lower())) or name == generation


def check_only_if(paths: AppPaths, published: Published, only_if: str | None) -> None:
    """Raise a `ZooKeeperError` unless `only_if`, where it is given, is the desired release."""
    if only_if is not None and not is_desired(published, only_if):
        raise ZooKeeperError(f"{paths.config}: only_if expects {quote(only_if)}, but {published}; nothing is published")


def publish(client: KazooClient, paths: AppPaths, release: Release, before: Published) -> int:
    """Publish a release with its history entry in one transaction; its generation.

    Raises `Overtaken` where `before`, which was read to decide that, is not what is published any more.
    """
    data = release.to_node()
    if len(data) > MAX_NODE_BYTES:
        raise ZooKeeperError(f"{paths.config}: {len(data)} bytes, more than a znode takes ({MAX_NODE_BYTES})")
    for directory in (paths.history, paths.agents):
        with translated(directory):
            client.ensure_path(directory)
    generation = _publish_once(client, paths, data, before)
    # It is published, whatever becomes of this.
    with contextlib.suppress(ZooKeeperError):
        _trim_history(client, paths)
    return generation


def _publish_once(client: KazooClient, paths: AppPaths, data: bytes, before: Published) -> int:
    with translated(paths.config):
        stat = client.exists(paths.config)
        # A znode that was deleted and created may have the same version.
        if (stat.mzxid if stat else None) != before.generation:
            raise _overtaken(client, paths)
        transaction = client.transaction()
        if stat is None:
            transaction.create(paths.config, data)
        else:
            transaction.set_data(paths.config, data, stat.version)
        transaction.create(paths.history_prefix, data, sequence=True)
        results = transaction.commit()
    if isinstance(results[0], (BadVersionError, NodeExistsError, NoNodeError)):
        raise _overtaken(client, paths)
    for path, result in zip((paths.config, paths.history), results):
        if isinstance(result, KazooException) and not isinstance(result, (RolledBackError, RuntimeInconsistency)):
            raise ZooKeeperError(f"{path}: {explain(result)}", path=path) from result
    return int(client.last_zxid)  # the transaction's answer carries its own; no other request is under way


def _overtaken(client: KazooClient, paths: AppPaths) -> Overtaken:
    return Overtaken(f"{paths.config}: changed meanwhile: {read_published(client, paths)}")


def _trim_history(client: KazooClient, paths: AppPaths) -> None:
    """Keep the newest entries. One that can't be deleted is left: the next publication tries again."""
    prefix = paths.history_prefix.rpartition("/")[2]
    with translated(paths.history):
        names = sorted((name for name in client.get_children(paths.history) if name.startswith(prefix)), key=_sequence)
        for pending in [client.delete_async(f"{paths.history}/{name}") for name in names[:-HISTORY_LIMIT]]:
            pending.wait()


def _sequence(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def read_history(client: KazooClient, paths: AppPaths) -> list[HistoryEntry]:
    """What was published, the newest first."""
    entries = []
    for node in read_children(client, paths.history):
        release, problem = _read_release(node.data)
        entries.append(HistoryEntry(node.path.rsplit("/", 1)[1], node.stat.czxid, release, problem))
    return sorted(entries, key=lambda entry: _sequence(entry.name), reverse=True)


def prove(
    client: KazooClient,
    paths: AppPaths,
    proof: ReleaseProof,
    options: Mapping[str, Any],
    earlier: EarlierWait = NO_EARLIER_WAIT,
) -> dict[str, Any]:
    """Wait as the `WAITING_OPTIONS` say, and note it where the whole fleet has proved the generation.

    Returns what a module returns of it; where the fleet did not prove it, that is in the `ZooKeeperError`'s details.
    """
    result = wait_for_proof(client, paths, proof, options, earlier)
    if proof.generation is not None and is_proved_by_all(result):
        with contextlib.suppress(ZooKeeperError):
            mark_proved(client, paths, proof.generation, now())
    return result


def is_proved_by_all(result: Mapping[str, Any]) -> bool:
    """Whether a wait that ended well says that the whole fleet runs the release: somebody does, nobody failed or died.

    Such a release is what a rollback goes back to, so it must be one that is known to work.
    """
    return bool(result["agents"]) and not result["failed_agents"] and not result["lost_agents"]


def now() -> str:
    """The time, RFC 3339."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def mark_proved(client: KazooClient, paths: AppPaths, generation: int, now: str) -> None:
    """Note in a publication's history entry that the fleet has proved it. What can't be noted is left."""
    for node in reversed(read_children(client, paths.history)):
        release, _unused = _read_release(node.data)
        if node.stat.czxid == generation and release is not None and PROVED not in release.extra:
            noted = replace(release, extra={**release.extra, PROVED: now})
            client.set_async(node.path, noted.to_node(), node.stat.version).wait()
            return


def rollback_target(history: list[HistoryEntry], current: Release | None, to: str | None) -> Release:
    """The release to go back to, from the history (the newest first): the current one where that is a rollback itself.

    `to` is an entry's name, or a commit's id or its first 7 digits or more. Without it, it is the last release that a
    whole fleet had proved and that is not the current one: a second rollback must not bring the bad release back, nor
    go back further than anybody has asked for. Raises `InvalidRecord` where there is none.
    """
    known = [(entry.name, entry.release) for entry in history if entry.release is not None]
    if to is not None:
        return _rolled_back(_named(known, to), current)
    if current is not None and ROLLED_BACK_FROM in current.extra:
        return current
    others = [release for _name, release in known if not release.same_as(current)]
    proved = [release for release in others if PROVED in release.extra]
    if not others:
        raise InvalidRecord("there is no other release in the history to go back to")
    if not proved:
        raise InvalidRecord("no other release in the history has been proved by a whole fleet; name one with to")
    return _rolled_back(proved[0], current)


def _named(known: list[tuple[str, Release]], to: str) -> Release:
    """The newest release that `to` names. Raises `InvalidRecord` where it names none, or several commits."""
    named = [release for name, release in known if name == to or (len(to) > 6 and release.commit_id.startswith(to))]
    if not named:
        raise InvalidRecord(f"to: no entry of the history is or has the commit {to}")
    commits = sorted({release.commit_id for release in named})
    if len(commits) > 1:
        few = " and ".join(commits[:2])
        raise InvalidRecord(f"to: {to} is the beginning of {len(commits)} commits, {few}; give more of it")
    return named[0]


def _rolled_back(release: Release, current: Release | None) -> Release:
    """A release as it was before it was proved, to be published in the place of the current one."""
    extra = {key: value for key, value in release.extra.items() if key not in {PROVED, ROLLED_BACK_FROM}}
    return replace(release, extra={**extra, **({ROLLED_BACK_FROM: current.commit_id} if current else {})})


class ReleaseProof:
    """A generation, to be proved by every live agent, or by those with these names; `subject` is its znode.

    `commit_id` is its commit, where it is known. Where no generation is published, an agent need only be live.
    """

    undone = "not deployed"
    kind = "agents"

    def __init__(
        self, subject: str, generation: int | None, commit_id: str | None = None, names: Iterable[str] | None = None
    ) -> None:
        self.subject = subject
        self.generation = generation
        self._commit_id = commit_id
        self._names = None if names is None else set(names)

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort a fleet by what its statuses say of the generation."""
        names = set(agents) if self._names is None else self._names
        live = {name: agents[name] for name in names.intersection(agents)}
        if self.generation is None:
            return Verdict(sorted(live), [], sorted(names.difference(live)))
        proved = {name for name, status in live.items() if status.converged(self.generation)}
        failed = {name for name, status in live.items() if status.gave_up(self.generation)}
        return Verdict(sorted(proved), sorted(failed), sorted(names - proved - failed))

    def obstacle(self, config: Node | None) -> str | None:
        """Another generation that is published now: which, by whom and since when."""
        if config is None or self.generation in {None, config.stat.mzxid}:
            return None
        return f"{SUPERSEDED}{_published(config.data, config.stat)}"

    def describe(self, status: AgentStatus) -> Description:
        """The agent's state, and whether its host is held or drained."""
        state = ", ".join(filter(None, [status.state, status.controls]))
        what = f"{state} ({status.message})" if status.message else state
        about = self.generation is not None and status.generation == self.generation
        waits_for = status.waits_for if about and isinstance(status.waits_for, str) else None
        known = waits_for or (about and status.gave_up(self.generation or 0))
        return Description(what, reason=reason_of(status) if known else None, waits_for=waits_for)

    def advise(self, agents: Mapping[str, AgentStatus]) -> str:
        """What the fleet serves instead, and the next step."""
        return advice(agents.values(), self._commit_id) if self._commit_id and agents else ""
