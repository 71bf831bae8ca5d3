# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout of a release as a publisher reads it, and what precedes it: its plan, and commits that are bad."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, translated, unless_refused
from .fleet import live_names, names_below, readable_children, roster_names
from .records import (
    COMMIT_ID,
    ROLLED_BACK_FROM,
    AppPaths,
    InvalidRecord,
    Release,
    RosterEntry,
    parse_object,
    quote,
)
from .releases import ROLLOUT, read_history
from .rollout_phases import STOPPED
from .rollout_plan import KEYS, check_publishable, read_plan
from .rollout_records import (
    PROVED,
    HostEntry,
    RolloutPaths,
    RolloutRecord,
    describe,
    is_of_this_ensemble,
    newest_known,
    rollout_of,
    was_proved,
)
from .zookeeper import checked, read_many

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import NoAuthError, NoNodeError


@dataclass(frozen=True)
class Rollout:
    """A rollout as it was read: its state, the `version` of that, and the entries of its hosts by name.

    `proving` are the hosts that have proved the release, and are proving it once more.
    """

    generation: int
    state: RolloutRecord
    version: int
    entries: Mapping[str, HostEntry]
    proving: Sequence[str] = ()

    def to_object(self) -> dict[str, Any]:
        """The part of a module's result about it."""
        plan = self.state.parsed_plan()
        return {
            "phase": self.state.phase,
            "step": self.state.step + 1,
            "steps": len(plan.steps),
            "moves": self.state.moves,
            "waits_for": self.state.waits_for,
            "says": describe(plan, self.state),
            "places": self.state.places,
            "fleet": self.state.fleet,
            "counts": {name: number for name, number in self.state.counts.items() if number},
            "since": self.state.since,
            "by": self.state.by,
            "reason": self.state.reason,
            "from": self.state.stable and self.state.stable["commitId"],
            "plan": self.state.plan,
            "proving": list(self.proving),
            "hosts": {name: _in_result(entry) for name, entry in sorted(self.entries.items())},
        }


def _in_result(entry: HostEntry) -> dict[str, Any]:
    """A host's entry as in a module's result: people count steps from 1."""
    return {**entry.to_object(), **({} if entry.step is None else {"step": entry.step + 1})}


def read_rollout(client: KazooClient, paths: AppPaths, generation: int) -> Rollout | None:
    """The rollout of a generation; None if none has begun. Raises `ZooKeeperError`, also if it can't be read."""
    rollout = read_state(client, paths, generation)
    return None if rollout is None else with_entries(client, paths, rollout)


def read_state(client: KazooClient, paths: AppPaths, generation: int) -> Rollout | None:
    """As `read_rollout`, without the entries of its hosts: thousands of them take long to read."""
    root = paths.rollout(generation)
    with translated(root):
        try:
            data, stat = client.get(root)
        except NoNodeError:
            return None
    try:
        return Rollout(generation, RolloutRecord.from_node(data), stat.version, {})
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{root}: {exc}", path=root) from exc


def with_entries(client: KazooClient, paths: AppPaths, rollout: Rollout) -> Rollout:
    """A rollout with the entries of its hosts as they are now. Raises `ZooKeeperError`."""
    root = paths.rollout(rollout.generation)
    below = RolloutPaths(root)
    nodes = [*readable_children(client, below.hosts), *readable_children(client, below.in_flight)]
    try:
        entries = {node.path.rpartition("/")[2]: HostEntry.from_node(node.data) for node in nodes}
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{root}: {exc}", path=root) from exc
    return replace(rollout, entries=entries, proving=proving_hosts(client, paths, rollout.generation))


def gone_hosts(client: KazooClient, paths: AppPaths, generation: int) -> list[str]:
    """The hosts that have proved a generation in its rollout, belong to the fleet, and are not live.

    Empty if the fleet may not be read: publishers need not be able to.
    """
    return unless_refused(lambda: _gone_hosts(client, paths, generation), [])


def _gone_hosts(client: KazooClient, paths: AppPaths, generation: int) -> list[str]:
    parent = RolloutPaths(paths.rollout(generation)).hosts
    absent = set(names_below(client, parent)).difference(live_names(client, paths))
    names = sorted(absent.intersection(roster_names(client, paths)))
    nodes = [node for node in map(checked, read_many(client, [f"{parent}/{name}" for name in names])) if node]
    return [node.path.rpartition("/")[2] for node in nodes if _is_proved(node.data)]


def proving_hosts(client: KazooClient, paths: AppPaths, generation: int) -> list[str]:
    """The hosts that have proved a generation in its rollout, and are proving it once more, as after a boot.

    Empty if that may not be read.
    """
    parent = RolloutPaths(paths.rollout(generation)).proving
    return unless_refused(lambda: names_below(client, parent), [])


def _is_proved(data: bytes) -> bool:
    try:
        return HostEntry.from_node(data).state == PROVED
    except InvalidRecord:
        return False


def rollout_result(client: KazooClient, paths: AppPaths, generation: int | None) -> dict[str, Any]:
    """The part of a module's result about a generation's rollout; empty if there is none, or it can't be read now."""
    try:
        return readable_result(client, paths, generation)
    except ZooKeeperError:
        return {}


def readable_result(client: KazooClient, paths: AppPaths, generation: int | None) -> dict[str, Any]:
    """As `rollout_result`, but raises `ZooKeeperError` if the rollout can't be read now."""
    rollout = None if generation is None else read_rollout(client, paths, generation)
    if rollout is None:
        return {}
    # Only a stopped rollout may be bad: nothing is asked while it goes on.
    commit_id = rollout.state.release.get("commitId")
    bad = why_bad(client, paths, commit_id) if rollout.state.phase in STOPPED and commit_id else None
    return {"rollout": {**rollout.to_object(), **({"bad": bad} if bad else {})}}


def published_plan(client: KazooClient, paths: AppPaths, release: Release, generation: int) -> Any:
    """The plan of the published release, from its record or else the policy; None for all at once.

    Raises `InvalidRecord` if it can't be followed.
    """
    content = rollout_of(release, read_policy(client, paths, generation))
    return content if read_plan(content) else None


def read_policy(client: KazooClient, paths: AppPaths, generation: int | None) -> Mapping[str, Any]:
    """The policy that counts for a generation (None for a future one): it was created before that; empty for none.

    Raises `InvalidRecord`.
    """
    with translated(paths.policy):
        try:
            data, stat = client.get(paths.policy)
        except NoNodeError:
            return {}
    if generation is not None and stat.czxid >= generation:
        return {}
    try:
        return parse_object(data)
    except InvalidRecord as exc:
        raise InvalidRecord(f"{paths.policy}: {exc}") from exc


def with_policy(client: KazooClient, paths: AppPaths, release: Release) -> Release:
    """A release to be published, with its rollout plan: the policy's if it has none of its own.

    That fixes the plan at the time of publication. Raises `InvalidRecord` if it can't be followed.
    """
    if release.extra.get(ROLLOUT) is not None:
        return release
    policy = read_policy(client, paths, None)
    content = policy.get(ROLLOUT)
    try:
        _check_has_plan(policy)
        read_plan(content)
        check_publishable(content)
        _check_from(content)
    except InvalidRecord as exc:
        raise InvalidRecord(f"{paths.policy}: {exc}; correct it first") from exc
    return _planned(release, content)


def _check_has_plan(policy: Mapping[str, Any]) -> None:
    """Refuse a policy whose plan is not below `rollout`: without a plan, all hosts switch at once."""
    strays = [key for key in sorted(policy) if _may_mean_a_plan(key.lower())]
    if strays and ROLLOUT not in policy:
        raise InvalidRecord(f"no such key {quote(strays[0])}; expected a plan as rollout")


def _may_mean_a_plan(key: str) -> bool:
    in_plan = key in {one.lower() for one in KEYS}
    return in_plan or ROLLOUT in key or bool(difflib.get_close_matches(key, [ROLLOUT], cutoff=0.75))


def _check_from(content: object) -> None:
    """Refuse a commit that is not named by its id: nobody looks it up. Raises `InvalidRecord`."""
    named = content.get("from") if isinstance(content, Mapping) else None
    if named is not None and not (isinstance(named, str) and COMMIT_ID.fullmatch(named.lower())):
        raise InvalidRecord(f"rollout.from: expected 40 or 64 hex digits, got {quote(named)}")


def with_plan_back(client: KazooClient, paths: AppPaths, release: Release) -> tuple[Release, str | None]:
    """A rollback to be published, with the plan of the release it rolls back from, or else the policy's.

    A plan that can't be followed does not prevent a rollback: it then uses the defaults, and the second value is a
    warning for the publisher.
    """
    own = release.extra.get(ROLLOUT)
    where = paths.policy if own is None else paths.config
    try:
        policy = {ROLLOUT: own} if own is not None else read_policy(client, paths, None)
        _check_has_plan(policy)
        content = policy.get(ROLLOUT)
        read_plan(content)
    except InvalidRecord as exc:
        problem = str(exc).removeprefix(f"{where}: ")
        return _planned(release, True), f"{where}: {problem}; the rollback goes without it, one host at a time"
    return _planned(release, content), None


def _planned(release: Release, content: Any) -> Release:
    return replace(release, extra={**release.extra, ROLLOUT: content}) if content is not None else release


class Unknown(NamedTuple):
    """The names, and labels in words, that steps of a rollout ask for and no host has."""

    names: list[str]
    labels: list[str]


def unknown_hosts(client: KazooClient, paths: AppPaths, release: Release) -> Unknown:
    """The names and labels in a release's plan that no host of the fleet has; only the roster's labels are known.

    Empty if the fleet may not be read: publishers need not be able to.
    """
    return unless_refused(lambda: _unknown_hosts(client, paths, release), Unknown([], []))


def _unknown_hosts(client: KazooClient, paths: AppPaths, release: Release) -> Unknown:
    plan = read_plan(release.extra.get(ROLLOUT))
    steps = plan.steps if plan else ()
    named = {name for step in steps for name in step.names}
    names = named.difference(roster_names(client, paths), live_names(client, paths)) if named else set()
    by_labels = [step for step in steps if step.labels]
    known = roster_labels(client, paths) if by_labels else {}
    unknown = [step for step in by_labels if not any(step.takes(name, labels) for name, labels in known.items())]
    return Unknown(sorted(names), [", ".join(f"{key}={value}" for key, value in step.labels) for step in unknown])


def roster_labels(client: KazooClient, paths: AppPaths) -> dict[str, Mapping[str, str]]:
    """The labels of each host in the roster; none if its agent has never reported any."""
    return {node.path.rpartition("/")[2]: _labels(node.data) for node in readable_children(client, paths.roster)}


def _labels(data: bytes) -> Mapping[str, str]:
    try:
        labels = RosterEntry.from_node(data).labels
    except InvalidRecord:
        return {}
    return labels if isinstance(labels, Mapping) else {}


def describe_unknown(unknown: Unknown) -> str:
    """The warning for a publisher; empty if all are known."""
    names = f"no host of the fleet has the name {' or '.join(unknown.names)}" if unknown.names else ""
    labels = f"no host in the roster has the labels {' or '.join(unknown.labels)}" if unknown.labels else ""
    said = ", and ".join(filter(None, [names, labels]))
    return f"rollout.steps: {said}: the rollout goes without" if said else ""


def why_without_steps(client: KazooClient, paths: AppPaths, release: Release, before: Release | None) -> str | None:
    """The warning that a plan has no steps because no release is known to work; None for none.

    The first release of an application, which has no `before`, is not expected to have steps, nor is a rollback. But
    after a rollback to a release that was never proved, one may expect that the plan stops it.
    """
    content = release.extra.get(ROLLOUT)
    plan = read_plan(content)
    if plan is None:
        return None
    # A publisher need not be able to read all that.
    if ROLLED_BACK_FROM in release.extra:
        if unless_refused(lambda: was_proved(release, *past_of(client, paths)), True):
            return None
        where = f"{release.commit_id} is not known to work at {release.relative_path}"
        return (
            f"rollout: {where}: a rollback to it has no steps, and only abort.yml stops it; deploy.yml rolls it out by "
            "the plan"
        )
    is_named = isinstance(content, Mapping) and content.get("from") is not None
    if plan == plan.without_steps() or before is None or is_named:
        return None
    if unless_refused(lambda: newest_known(release.relative_path, *past_of(client, paths)) is not None, True):
        return None
    return (
        f"rollout.steps: no release is known to work at {release.relative_path}, so there are no steps, and all hosts "
        "get this one, maxInFlight at a time; name the commit that they are to have meanwhile with from"
    )


def past_of(client: KazooClient, paths: AppPaths) -> tuple[dict[int, Release], dict[int, RolloutRecord]]:
    """The publications, and their rollouts, by generation.

    Entries that were copied here in one transaction have one generation, which is that of the newest of them.
    """
    newest_last = reversed(read_history(client, paths))
    history = {entry.generation: entry.release for entry in newest_last if entry.release}
    return history, read_rollouts(client, paths)


def read_rollouts(client: KazooClient, paths: AppPaths) -> dict[int, RolloutRecord]:
    """The states of the rollouts that are kept, by generation.

    Unreadable ones, and those copied from another ensemble, are left out.
    """
    states = {}
    for node in readable_children(client, paths.rollouts):
        name = node.path.rpartition("/")[2]
        try:
            if is_of_this_ensemble(int(name), node.stat.czxid):
                states[int(name)] = RolloutRecord.from_node(node.data)
        except ValueError:
            continue
    return states


def bad_commits(client: KazooClient, paths: AppPaths) -> list[str]:
    """The commits that are known to be bad."""
    return names_below(client, paths.bad_commits)


def why_bad(client: KazooClient, paths: AppPaths, commit_id: str) -> str | None:
    """Why a commit is known to be bad, for a message; None if it is not, or if its mark may not be read."""
    with translated(paths.bad(commit_id)):
        try:
            data = client.get(paths.bad(commit_id))[0]
        except (NoNodeError, NoAuthError):
            return None
    try:
        mark = json.loads(data)
        return f"{mark['reason']} (since {mark['since']}, by {mark['by']})"
    except (ValueError, KeyError, TypeError):
        return "its mark can't be read"


def check_not_bad(client: KazooClient, paths: AppPaths, release: Release) -> None:
    """Raise an `InvalidRecord` if a release's commit, or the one that hosts have meanwhile, is known to be bad."""
    why = why_bad(client, paths, release.commit_id)
    if why:
        raise InvalidRecord(f"{release.commit_id} is known to be bad: {why}; publish another one, or this with force")
    content = release.extra.get(ROLLOUT)
    named = str(content.get("from")).lower() if isinstance(content, Mapping) else ""
    # In a rollback no host waits, and another publisher may have written anything.
    if ROLLED_BACK_FROM in release.extra or not COMMIT_ID.fullmatch(named):
        return
    why = why_bad(client, paths, named)
    if why:
        raise InvalidRecord(
            f"rollout.from: {named} is known to be bad: {why}; name another one, or publish this with force"
        )
