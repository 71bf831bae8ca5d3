# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a publisher steers a rollout: begins, promotes, pauses or halts it; and what it can roll back to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .access import all_may_write, is_replaceable
from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, explain, translated
from .fleet import live_names, roster_names
from .fleet_outcome import describe_proving, listed
from .lock import Lock, add_guard, check_free, guard_of, read_lock
from .records import AppPaths, Release
from .releases import HistoryEntry, Published, begin_anew, now, read_history
from .rollout_events import Command, Decision, unchanged
from .rollout_phases import DONE, GOING_ON, RUNNING
from .rollout_records import RolloutPaths, RolloutRecord, begin, choose_stable, describe
from .rollout_rules import decide
from .rollout_writes import CREATE, DELETE, Write, begin_writes, change_writes
from .rollouts import (
    Rollout,
    gone_hosts,
    past_of,
    proving_hosts,
    published_plan,
    read_rollouts,
    read_state,
    with_entries,
)

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import KazooException, NoAuthError, NodeExistsError, NoNodeError


OPENING = frozenset({"promote", "pass"})
"""The verbs that the lock affects: a rollout can be paused, halted and rolled back whoever holds it."""
AT_ONCE = 50
"""How many writes are tried, to a state that many hosts change too, before that counts as one try."""
PAUSE = 0.5
"""Seconds between two looks at whether proved hosts still prove the release once more."""
NOT_PROMOTED = "not promoted; wait for it (lock_timeout), or promote in spite of it (force)"


class Proving(ZooKeeperError):
    """No further step is opened while `hosts` prove the release once more, as after a boot: that ends on its own."""

    def __init__(self, message: str, hosts: Sequence[str], **details: Any) -> None:
        super().__init__(message, **details)
        self.hosts = hosts


class Steered(NamedTuple):
    """The result of a person's command: the rollout `before` and after, the decision, and the lock if it was read."""

    before: Rollout
    rollout: Rollout
    decision: Decision
    lock: Lock | None


def command(
    client: KazooClient, paths: AppPaths, published: Published, asked: Command, *, writes: bool = True
) -> Steered:
    """Carry out a person's command for the rollout of the published release.

    If no host has begun the rollout, this begins it, unless there is nothing to do. Raises `ZooKeeperError` if nothing
    is rolled out, or if the next step would open although proved hosts are gone, `Proving` if they are proving it once
    more, `Locked` if it would open while somebody holds the lock. Unless it `writes`, it only says what would happen.

    Nothing else is read between the look and the write: in a large fleet the state changes many times a second.
    """
    generation = published.generation if asked.verb in OPENING and not asked.force else None
    gone = gone_hosts(client, paths, generation) if generation else []
    proving = proving_hosts(client, paths, generation) if generation else []

    def look_and_write() -> Steered:
        lock = read_lock(client, paths) if asked.verb in OPENING else None
        rollout, content = _rollout(client, paths, published)
        decision = _decide(rollout.state, asked)
        if decision.state is rollout.state:
            told = _told_of_followers(client, paths, rollout, decision)
            return Steered(rollout, replace(rollout, state=decision.state.dated(now())), told, None)
        if lock is not None:
            check_free(lock, NOT_PROMOTED, force=asked.force)
        _check_proved(paths, rollout, decision.state, gone, proving)
        if writes:
            _begin_first(client, paths, published, content)
            try:
                _commit(client, _writes(client, paths, rollout, decision), guard_of(lock))
            except Overtaken:
                _complete(client, paths, rollout)
                raise
        return Steered(rollout, replace(rollout, state=decision.state.dated(now())), decision, lock)

    before, after, decision, lock = begin_anew(lambda: _many_times(look_and_write))
    with contextlib.suppress(ZooKeeperError):  # the command is done
        if writes:
            _complete(client, paths, after)
        before = with_entries(client, paths, before)
    return Steered(before, replace(after, entries=before.entries, proving=before.proving), decision, lock)


def _many_times(attempt: Callable[[], Steered]) -> Steered:
    """Try what may be overtaken, at once again if it is. In the end raises `Overtaken`; other errors at once."""
    for _number in range(AT_ONCE - 1):
        with contextlib.suppress(Overtaken):
            return attempt()
    return attempt()


def still_prove(client: KazooClient, paths: AppPaths, generation: int, hosts: Collection[str], deadline: float) -> bool:
    """Wait while all of these hosts prove a generation once more, until `deadline` of the monotonic clock.

    Whether they still do then.
    """
    while set(hosts) <= set(proving_hosts(client, paths, generation)):
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, PAUSE))
    return False


def _check_proved(paths: AppPaths, rollout: Rollout, after: RolloutRecord, gone: list[str], proving: list[str]) -> None:
    """Refuse to open a step, or to end the last one, if more hosts are `gone` or `proving` than may fail.

    Raises `ZooKeeperError`, `Proving`.
    """
    plan, state, unproved = rollout.state.parsed_plan(), rollout.state, {*gone, *proving}
    opens = after.step != state.step
    if not unproved or not (opens or after.has_proved) or plan.accepts(state.failures + len(unproved), state.fleet):
        return
    away = sorted(unproved - {*proving})
    refusal = "no further step is opened" if opens else "the rollout is not done"
    where, details = paths.rollout(rollout.generation), {"rollout": rollout.to_object()}
    if not away or plan.accepts(state.failures + len(away), state.fleet):
        advice = "promote it after that, or in spite of that (force)"
        raise Proving(f"{where}: {describe_proving(proving)}: {refusal}; {advice}", proving, **details)
    proved = "has proved the release and is" if len(away) == 1 else "have proved the release and are"
    removal = "remove hosts that will not come back from the roster (zk_fleet)"
    advice = f"{removal}, roll it back, or promote it in spite of that (force)"
    raise ZooKeeperError(f"{where}: {listed(away)} {proved} not live any more: {refusal}; {advice}", **details)


def _decide(state: RolloutRecord, asked: Command) -> Decision:
    """The decision on a command. Of two persons who promote one pause, only one does: the other has nothing to do."""
    plan = state.parsed_plan()
    decision = decide(plan, state, asked)
    if asked.verb != "promote" or state.phase not in GOING_ON:
        return decision
    by = state.by if state.phase == RUNNING else ""
    known = f"it was promoted by {by} already" if by else "it has moved on meanwhile"
    if asked.moves not in {None, state.moves}:
        return unchanged(state, asked, f"{known}: {describe(plan, state)}")
    # Gates that this person had asked are not somebody else.
    if by in {"", asked.by, f"the gates of {asked.by}"} or asked.force or decision.state is state:
        return decision
    return unchanged(state, asked, f"{known}: {describe(plan, state)}; the next step too by force")


def _told_of_followers(client: KazooClient, paths: AppPaths, rollout: Rollout, decision: Decision) -> Decision:
    """The decision; if the rollout is done, it tells where hosts follow it, which no command stops."""
    if rollout.state.phase != DONE:
        return decision
    line = RolloutPaths(paths.rollout(rollout.generation)).line
    with translated(line):
        stat = client.exists(line)
    number = stat.numChildren if stat else 0
    follow = f"{number} {'host follows' if number == 1 else 'hosts follow'} it in line"
    why = f"{decision.why}; {follow}, which only another release stops (rollback.yml)"
    return decision._replace(why=why) if number else decision


def _writes(client: KazooClient, paths: AppPaths, rollout: Rollout, decision: Decision) -> list[Write]:
    """The writes for a decision; if it means that the fleet has proved the commit, its mark as bad is deleted."""
    writes = change_writes(paths.rollout(rollout.generation), rollout.state, rollout.version, decision, now())
    if decision.state.has_proved and not rollout.state.has_proved:
        mark = paths.bad(str(rollout.state.release["commitId"]))
        with translated(mark):
            writes += [Write(DELETE, mark)] if client.exists(mark) else []
    return writes


def _rollout(client: KazooClient, paths: AppPaths, published: Published) -> tuple[Rollout, Any]:
    """The rollout of the published release; if no host has begun it, its first state, and the content to begin it with.

    Raises `ZooKeeperError` if nothing is rolled out.
    """
    if published.release is None or published.generation is None:
        raise ZooKeeperError(f"{paths.config}: {published}: there is no rollout")
    rollout = read_state(client, paths, published.generation)
    if rollout is not None:
        return rollout, None
    content = published_plan(client, paths, published.release, published.generation)
    if content is None:
        raise ZooKeeperError(f"{paths.config}: {published}; it is not rolled out in steps, but at once")
    return Rollout(published.generation, beginning(client, paths, published.release, content), 0, {}), content


def _begin_first(client: KazooClient, paths: AppPaths, published: Published, content: Any) -> None:
    """Begin a rollout with `content`, if any. Raises `Overtaken`: a host may have begun it differently."""
    if content is not None and published.release is not None and published.generation is not None:
        begin_rollout(client, paths, published.generation, published.release, content)
        raise Overtaken(f"{paths.rollout(published.generation)}: has begun")


def _complete(client: KazooClient, paths: AppPaths, rollout: Rollout) -> None:
    """Recreate what was deleted of a rollout: without its gate nothing moves, without the others no host does."""
    _root, *below = begin_writes(paths.rollout(rollout.generation), rollout.state, now())
    for write in below:
        with translated(write.path), contextlib.suppress(NodeExistsError, NoNodeError):
            if client.exists(write.path) is None:
                client.create(write.path, write.value)


def begin_rollout(client: KazooClient, paths: AppPaths, generation: int, release: Release, content: Any) -> None:
    """Begin a rollout, unless a host has. Raises `ZooKeeperError`."""
    state = beginning(client, paths, release, content)
    for parent in (paths.rollouts, paths.bad_commits):
        with translated(parent):
            client.ensure_path(parent)
    try:
        _commit(client, begin_writes(paths.rollout(generation), state, now()))
    except Overtaken:
        return  # somebody has begun it


def beginning(client: KazooClient, paths: AppPaths, release: Release, content: Any) -> RolloutRecord:
    """The first state of a rollout to the fleet as it is now."""
    stable = choose_stable(release, content, *past_of(client, paths))
    # As the hosts count it, which do not list the fleet.
    live, expected = len(live_names(client, paths)), len(roster_names(client, paths))
    return begin(release, content, stable, max(1, live, expected), live)


def known_releases(client: KazooClient, paths: AppPaths) -> tuple[list[HistoryEntry], list[int]]:
    """What can be rolled back to, the newest first, and the generations that their rollouts have proved.

    A program that only writes `config` keeps no history: its publications are known from their rollouts by the policy.
    """
    history = read_history(client, paths)
    proved = {number: state for number, state in read_rollouts(client, paths).items() if state.has_proved}
    unknown = sorted(proved.keys() - {entry.generation for entry in history})
    for number in [one for one in unknown if _is_of_publishers(client, paths, one)]:
        place = next((at for at, entry in enumerate(history) if entry.generation < number), len(history))
        history.insert(place, HistoryEntry(str(number), number, Release.from_object(proved[number].release), None))
    return history, sorted(proved)


def _is_of_publishers(client: KazooClient, paths: AppPaths, generation: int) -> bool:
    """Whether all who may begin a rollout, or write this one, may publish too: then it tells what was published."""
    with contextlib.suppress(NoNodeError, NoAuthError):
        # If nothing is published any longer, writers of the history count; without one, those who may create `config`.
        config = next((path for path in (paths.config, paths.history) if client.exists(path)), paths.root)
        where = (config, paths.root, paths.rollouts, paths.rollout(generation))
        published, root, *others = [client.get_acls(path)[0] for path in where]
        # If anybody may replace `config`, everybody may publish.
        return all_may_write(published, others if is_replaceable(root) else [root, *others])
    return False


def _commit(client: KazooClient, writes: list[Write], lock: Lock | None = None) -> None:
    """Carry out all of the writes, or none. Raises `Overtaken` if somebody was faster, `ZooKeeperError`."""
    transaction = client.transaction()
    for write in writes:
        if write.kind == CREATE:
            transaction.create(write.path, write.value)
        elif write.kind == DELETE:
            transaction.delete(write.path)
        else:
            transaction.set_data(write.path, write.value, write.version)
    if lock is not None:
        add_guard(transaction, lock)
    with translated(writes[0].path):
        results = transaction.commit()
    for path, result in zip([*(write.path for write in writes), *([lock.path] if lock else [])], results):
        if isinstance(result, NoAuthError):
            raise ZooKeeperError(f"{path}: {explain(result)}", path=path) from result
    if any(isinstance(result, KazooException) for result in results):
        raise Overtaken(f"{writes[0].path}: changed meanwhile")
