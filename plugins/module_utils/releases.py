# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired release of an application, its history, and its proof by the fleet."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeVar

from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, explain, translated, unless_refused
from .fleet import read_children, wait_for_proof
from .fleet_outcome import (
    NO_EARLIER_WAIT,
    NO_ROLLOUT,
    Description,
    EarlierWait,
    Stand,
    Verdict,
    advice,
    reason_of,
)
from .lock import Lock, add_guard, is_overtaken
from .records import (
    HISTORY_LIMIT,
    MAX_NODE_BYTES,
    PROVED_AT,
    ROLLED_BACK_FROM,
    AgentStatus,
    AppPaths,
    InvalidRecord,
    Release,
    parse_object,
    quote,
)
from .rollout_phases import DONE, HALTED, PAUSED, ROLLED_BACK, ROLLING_BACK, RUNNING, SOAKING
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

ROLLOUT = "rollout"
"""The key of a release with the plan of its rollout."""
SUBJECT = "subject"
"""The key of a release with the first line of its commit's message, if its publisher has that at hand."""
WAITING = "waiting"
"""The state of an agent whose turn in a rollout has not come; in a halted rollout it is `HALTED`."""
NOTHING = "none"
"""What a publisher expects to be desired if it has seen that nothing is."""
SUPERSEDED = "another release was published meanwhile, so this one is not waited for any more: "
TRIES = 10
"""How often a publication is tried while other publishers are faster."""
FIRST_PAUSE = 0.01
"""The most seconds before the second try, doubled before each further one."""
_DIGITS = re.compile(r"[0-9]{1,19}")
Result = TypeVar("Result")


class Published(NamedTuple):
    """What `<app>/config` holds: a `release`, or the `problem` with its data; both None if it does not exist.

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
    """What is published now; asks the leader, to see the last write."""
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
    """The result of an attempt to read, decide and publish; it is repeated if another publisher was faster."""
    for number in range(TRIES):
        # Longer and longer, so that of many that began together some are late enough.
        time.sleep(random.uniform(0, FIRST_PAUSE * 2**number) if number else 0)  # noqa: S311  # no secret
        try:
            return attempt()
        except Overtaken as exc:
            overtaken = exc
    text = f"{overtaken}, and others before that in each of {TRIES} tries; run it again"
    raise ZooKeeperError(text, **overtaken.details)


def is_desired(published: Published, name: str) -> bool:
    """Whether `name` is the desired commit, its beginning, or the desired generation.

    `NOTHING` is the generation if none is published.
    """
    commit_id = published.release.commit_id if published.release else ""
    generation = NOTHING if published.generation is None else str(published.generation)
    return (len(name) > 6 and commit_id.startswith(name.lower())) or name == generation


def check_only_if(paths: AppPaths, published: Published, only_if: str | None) -> None:
    """Raise a `ZooKeeperError` unless `only_if`, if given, is the desired release."""
    if only_if is not None and not is_desired(published, only_if):
        raise ZooKeeperError(f"{paths.config}: only_if expects {quote(only_if)}, but {published}; nothing is done")


def node_of(paths: AppPaths, release: Release) -> bytes:
    """The value for `config`. Raises `ZooKeeperError` if it is too long."""
    data = release.to_node()
    # The same request also writes it to the history, and may be no longer than a znode.
    if 2 * len(data) > MAX_NODE_BYTES:
        most = MAX_NODE_BYTES // 2
        raise ZooKeeperError(f"{paths.config}: {len(data)} bytes, more than a release may have ({most})")
    return data


def publish(client: KazooClient, paths: AppPaths, release: Release, before: Published, lock: Lock | None = None) -> int:
    """Publish a release with its history entry in one transaction; its generation.

    Raises `Overtaken` if `before`, which was read to decide this, is no longer what is published, or if the `lock` is
    not as it was read; without a `lock`, the release is published whoever holds it.
    """
    data = node_of(paths, release)
    for directory in (paths.history, paths.agents):
        with translated(directory):
            client.ensure_path(directory)
    entry = unless_refused(lambda: _entry_after_newest(client, paths), None)
    generation = _publish_once(client, paths, data, before, lock, entry)
    # It is published, whatever happens here.
    with contextlib.suppress(ZooKeeperError):
        _trim_history(client, paths)
    return generation


def _publish_once(
    client: KazooClient, paths: AppPaths, data: bytes, before: Published, lock: Lock | None, entry: str | None
) -> int:
    with translated(paths.config):
        stat = client.exists(paths.config)
        # A znode that was deleted and recreated may have the same version.
        if (stat.mzxid if stat else None) != before.generation:
            raise _overtaken(client, paths)
        transaction = client.transaction()
        if stat is None:
            transaction.create(paths.config, data)
        else:
            transaction.set_data(paths.config, data, stat.version)
        transaction.create(entry or paths.history_prefix, data, sequence=entry is None)
        if lock is not None:
            add_guard(transaction, lock)
        results = transaction.commit()
    if isinstance(results[0], (BadVersionError, NodeExistsError, NoNodeError)):
        raise _overtaken(client, paths)
    if lock is not None and is_overtaken(results[-1]):
        raise Overtaken(f"{paths.lock}: changed meanwhile")
    for path, result in zip((paths.config, paths.history, paths.lock), results):
        if isinstance(result, KazooException) and not isinstance(result, (RolledBackError, RuntimeInconsistency)):
            raise ZooKeeperError(f"{path}: {explain(result)}", path=path) from result
    return int(client.last_zxid)  # the transaction's answer carries its own; no other request is pending


def _entry_after_newest(client: KazooClient, paths: AppPaths) -> str | None:
    """The entry after the newest, if the server would give a lower number; None if it gives the next one.

    The server counts what was ever created there: too little if the history was copied to it.
    """
    with translated(paths.history):
        names, stat = client.get_children(paths.history, include_data=True)
    made = (stat.cversion + len(names)) // 2  # `cversion` counts deletions too
    newest = max((_sequence(name) for name in names if _is_entry(paths, name)), default=-1)
    return f"{paths.history_prefix}{newest + 1:010d}" if newest >= made else None


def _is_entry(paths: AppPaths, name: str) -> bool:
    return name.startswith(paths.history_prefix.rpartition("/")[2])


def _overtaken(client: KazooClient, paths: AppPaths) -> Overtaken:
    return Overtaken(f"{paths.config}: changed meanwhile: {read_published(client, paths)}")


def _trim_history(client: KazooClient, paths: AppPaths) -> None:
    """Keep the newest entries. One that can't be deleted is left: the next publication tries again."""
    with translated(paths.history):
        names = sorted((name for name in client.get_children(paths.history) if _is_entry(paths, name)), key=_sequence)
        for pending in [client.delete_async(f"{paths.history}/{name}") for name in names[:-HISTORY_LIMIT]]:
            pending.wait()


def _sequence(name: str) -> int:
    digits = _DIGITS.fullmatch(name.rpartition("-")[2])
    return int(digits[0]) if digits else -1


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
    """Wait as the `WAITING_OPTIONS` ask, and record it if the whole fleet has proved the generation.

    Returns the part of a module's result about it; if the fleet did not prove it, that is in the `ZooKeeperError`'s
    details.
    """
    result = wait_for_proof(client, paths, proof, options, earlier)
    if proof.generation is not None and is_proved_by_all(result):
        with contextlib.suppress(ZooKeeperError):
            mark_proved(client, paths, proof.generation, now())
    return result


def is_proved_by_all(result: Mapping[str, Any]) -> bool:
    """Whether a successful wait means that the whole fleet runs the release: at least one, none failed or lost.

    A rollback returns to such a release, so it must be known to work. A host that was missing all the time never ran
    it; if it were waited for, one dead host would leave a fleet without a release to roll back to.
    """
    is_whole = not result["failed_agents"] and not result["lost_agents"]
    return bool(result["agents"]) and is_whole and bool(result["converged"])


def now() -> str:
    """The time, RFC 3339."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def mark_proved(client: KazooClient, paths: AppPaths, generation: int, now: str) -> None:
    """Record in a publication's history entry that the fleet has proved it. A failure to do so is ignored.

    Of entries that were copied here in one transaction, with `config`, that is the newest.
    """
    nodes = read_children(client, paths.history)
    node = next((node for node in reversed(nodes) if node.stat.czxid == generation), None)
    release = _read_release(node.data)[0] if node else None
    if node and release and PROVED_AT not in release.extra:
        noted = replace(release, extra={**release.extra, PROVED_AT: now})
        client.set_async(node.path, noted.to_node(), node.stat.version).wait()


def rollback_target(
    history: list[HistoryEntry],
    current: Release | None,
    to: str | None,
    done: Collection[int] = (),
    bad: Collection[str] = (),
) -> Release:
    """The release to roll back to, from the history (the newest first): the current one if that is a rollback itself.

    If the current release was deleted, the rollback is from the last publication, or that one is republished if it was
    proved.

    `to` is an entry's name, or a commit id or at least its first 7 digits; the release at the current one's place is
    preferred. Without `to`, it is another commit, the last that a whole fleet had proved at that place: a second
    rollback must not bring the bad release back, nor go further back than anybody asked for, and a release at another
    place would replace nothing. A release that a person has rolled back from counts again once it is proved later. The
    generations that are `done` were proved by their rollouts; a commit known to be `bad` is only chosen by its name.
    Raises `InvalidRecord` if there is none.
    """
    known = [(entry.name, entry.release) for entry in history if entry.release is not None]
    left = current or next((_unmarked(release) for _name, release in known), None)
    place = left.relative_path if left else None
    if to is not None:
        named = _named(known, to, place)
        return left if left and named.same_as(left) else _rolled_back(named, left)
    if left is not None and ROLLED_BACK_FROM in left.extra:
        return left
    others = [release for _name, release in known if not _is_same(release, current) and release.commit_id not in bad]
    if not others:
        raise InvalidRecord("there is no other release in the history to go back to")
    # Of entries that were copied here in one transaction, with `config`, the newest is what was rolled out.
    newest = {entry.generation: id(entry.release) for entry in reversed(history)}
    rolled_out = {newest.get(generation) for generation in done}
    kept = {id(release) for release in _kept([release for _name, release in known])}
    is_proved = [one for one in others if id(one) in kept and (PROVED_AT in one.extra or id(one) in rolled_out)]
    proved = [one for one in is_proved if place in {None, one.relative_path}]
    if not proved:
        where = f" at {place}" if place else ""
        raise InvalidRecord(
            f"no other release in the history has been proved by a whole fleet and kept since{where}; name one with to"
        )
    return _rolled_back(proved[0], left)


def _is_same(release: Release, other: Release | None) -> bool:
    """Whether both are the same commit at the same place, whatever address of its repository they have."""
    return other is not None and (release.commit_id, release.relative_path) == (other.commit_id, other.relative_path)


def _kept(releases: Iterable[Release]) -> Iterator[Release]:
    """The releases, the newest first, that nobody has rolled back from since they were published."""
    left: set[str] = set()
    for release in releases:
        if release.commit_id not in left:
            yield release
        left.add(str(release.extra.get(ROLLED_BACK_FROM)))


def _named(known: list[tuple[str, Release]], to: str, place: str | None) -> Release:
    """The newest release that `to` names, at `place` if it was published there; otherwise it may be elsewhere.

    Raises `InvalidRecord` if it names none, or several commits.
    """
    begin = to.lower()
    named = [release for name, release in known if name == to or (len(to) > 6 and release.commit_id.startswith(begin))]
    if not named:
        raise InvalidRecord(f"to: no entry of the history is or has the commit {to}")
    commits = sorted({release.commit_id for release in named})
    if len(commits) > 1:
        few = " and ".join(commits[:2])
        raise InvalidRecord(f"to: {to} is the beginning of {len(commits)} commits, {few}; give more of it")
    return next((release for release in named if release.relative_path == place), named[0])


def _rolled_back(release: Release, left: Release | None) -> Release:
    """A release as it was before it was proved, to be published in place of the one that is `left`."""
    extra = {key: value for key, value in _unmarked(release).extra.items() if key not in {ROLLED_BACK_FROM, ROLLOUT}}
    if left is not None:
        # A release that was deleted and is published again is not a rollback from itself.
        extra.update({} if _is_same(release, left) else {ROLLED_BACK_FROM: left.commit_id})
        # As many at a time as in the release that is rolled back from.
        extra.update({ROLLOUT: left.extra[ROLLOUT]} if ROLLOUT in left.extra else {})
    return replace(release, extra=extra)


def _unmarked(release: Release) -> Release:
    """A release as it was before it was proved."""
    return replace(release, extra={key: value for key, value in release.extra.items() if key != PROVED_AT})


class ReleaseProof:
    """A generation, to be proved by every live agent, or by those with these names; `subject` is its znode.

    `commit_id` is its commit, if known, `gate` the znode of its rollout's gate. If no generation is published, an agent
    only has to be live. A proof that `accepts_waiting` also counts agents that serve another release until it is their
    turn in a rollout; one that `accepts_failures` allows as many failures as its rollout was completed with.
    """

    undone = "not deployed"
    kind = "agents"

    def __init__(
        self,
        subject: str,
        generation: int | None,
        commit_id: str | None = None,
        names: Iterable[str] | None = None,
        gate: str | None = None,
        *,
        accepts_waiting: bool = False,
        accepts_failures: bool = True,
    ) -> None:
        self.subject = subject
        self._accepts_failures = accepts_failures
        self._accepts_waiting = accepts_waiting
        self.gate = gate
        self.generation = generation
        self._commit_id = commit_id
        self.names = None if names is None else set(names)

    def judge(self, agents: Mapping[str, AgentStatus]) -> Verdict:
        """Sort a fleet by what its statuses say about the generation."""
        names = set(agents) if self.names is None else self.names
        live = {name: agents[name] for name in names.intersection(agents)}
        if self.generation is None:
            return Verdict(sorted(live), [], sorted(names.difference(live)))
        proved = {name for name, status in live.items() if status.converged(self.generation) or self._waits(status)}
        failed = {name for name, status in live.items() if status.gave_up(self.generation)}
        return Verdict(sorted(proved), sorted(failed), sorted(names - proved - failed))

    def _waits(self, status: AgentStatus) -> bool:
        """Whether an agent that serves another release meanwhile counts."""
        waits = status.generation == self.generation and status.state in {WAITING, HALTED}
        return self._accepts_waiting and waits and bool(status.commit_id)

    def stand(self, gate: Node | None) -> Stand:
        """The state of the generation's rollout."""
        try:
            record = parse_object(gate.data) if gate else {}
        except InvalidRecord:
            return NO_ROLLOUT
        phase, why = record.get("phase"), record.get("reason") or "no reason given"
        number, moves = record.get("step"), record.get("moves")
        failures = record["failures"] if self._accepts_failures and isinstance(record.get("failures"), int) else 0
        said = f", {record['reason']}" if record.get("reason") else ""
        by, step = f" by {record['by']}" if record.get("by") else "", (number if isinstance(number, int) else 0) + 1
        goes_on = {
            RUNNING: f"the rollout goes on by itself, step {step} is open{said}",
            SOAKING: f"the rollout goes on by itself, step {step} soaks{said}",
            ROLLING_BACK: f"the rollout is rolling back by itself: {why}",
        }
        ended = {
            HALTED: f"the rollout is halted{by}: {why}",
            ROLLED_BACK: f"the rollout has rolled back: {why}",
        }
        rests = f"the rollout is paused{by} at step {step}: {why}; promote it to go on (promote.yml)"
        return Stand(
            goes_on=goes_on.get(str(phase)),
            ended=ended.get(str(phase)),
            rests=rests if phase == PAUSED else None,
            # A rollback that failures did not stop has them as its reason.
            accepted=failures if phase == DONE and (by or not said) else 0,
            moves=moves if isinstance(moves, int) else None,
            is_done=phase == DONE,
        )

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
        reason, turn = reason_of(status) if known else None, status.state in {WAITING, HALTED}
        return Description(what, reason=reason, waits_for=waits_for, waits_its_turn=turn)

    def advise(self, agents: Mapping[str, AgentStatus]) -> str:
        """What the fleet serves instead, and the next step."""
        return advice(agents.values(), self._commit_id) if self._commit_id and agents else ""
