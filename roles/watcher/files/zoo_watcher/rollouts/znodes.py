# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout in ZooKeeper: reads it, lets `decide` determine what follows an event, and writes by compare-and-set."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any, Callable

from zoo_watcher.errors import RefusedError, SessionTroubleError
from zoo_watcher.host.controls import now
from zoo_watcher.wire.access import all_may_write
from zoo_watcher.wire.records import HISTORY_LIMIT, MAX_NODE_BYTES, AgentStatus, AppPaths, InvalidRecord, Release
from zoo_watcher.wire.rollout_events import Count, Decision, Event, Outcome
from zoo_watcher.wire.rollout_phases import GOING_BACK, GOING_ON
from zoo_watcher.wire.rollout_plan import Plan
from zoo_watcher.wire.rollout_records import (
    LOST,
    PROVED,
    HostEntry,
    RolloutPaths,
    RolloutRecord,
    begin,
    choose_stable,
    is_of_this_ensemble,
)
from zoo_watcher.wire.rollout_rules import decide
from zoo_watcher.wire.rollout_steps import count
from zoo_watcher.wire.rollout_writes import CREATE, DELETE, Actor, Write, bad_write, begin_writes, change_writes
from zoo_watcher.zookeeper.session import Session, Znode, session_trouble

KEPT = 10
"""How many rollouts are kept."""
COUNTED = 10.0
"""Seconds for which a count of the hosts that had the release is valid."""
LARGEST = MAX_NODE_BYTES - 10_000
"""The most bytes of a rollout's record when it begins: there has to be room for later additions."""
_GENERATION = re.compile(r"[0-9]{1,19}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """A rollout as it was read: its state, the `version` of that, and a host's entry, its `record`."""

    state: RolloutRecord
    version: int
    record: HostEntry | None = None

    @property
    def entry(self) -> str | None:
        """The state of the host's entry; None if it has none."""
        return self.record.state if self.record else None

    @property
    def step(self) -> int | None:
        """The step in which the host was admitted; None if it was not, or nobody has noted that."""
        return self.record.step if self.record else None

    @property
    def is_given_up(self) -> bool:
        """Whether the host did not get there, or back, and nobody waits for it."""
        return self.record is not None and self.record.is_given_up

    @cached_property
    def plan(self) -> Plan:
        """The plan that the rollout follows."""
        return self.state.parsed_plan()


class RolloutZnodes:
    """The znodes of the rollout of one generation. Raises `SessionTroubleError`, also for znodes that can't be read."""

    def __init__(self, session: Session, app: AppPaths, generation: int, name: str) -> None:
        self._session = session
        self._app = app
        self.generation = generation
        self._name = name
        self._counted: tuple[float, int] | None = None
        """When the hosts that had the release before were counted, and how many there were."""
        self._unread: set[str] = set()
        """The hosts whose entries could not be read."""
        self._published: set[tuple[str, str, str]] = set()
        """The releases known to be in the history."""
        self.root = app.rollout(generation)
        self.paths = RolloutPaths(self.root)

    def read(self, host: str, watch: Callable[[Any], None] | None = None) -> View | None:
        """The current rollout, with the entry of `host`; None if there is none yet. `watch` is for the gate."""
        with session_trouble(self.root):
            # In this order: the state that is read is no older than the gate, and the entry no older than the state.
            gate = self._session.begin_read(self.paths.gate, watch)
            state = self._session.begin_read(self.root)
            entries = [
                self._session.begin_read(f"{parent}/{host}") for parent in (self.paths.in_flight, self.paths.hosts)
            ]
            gate()
            znode, found = state(), [entry() for entry in entries]
        if znode is None:
            return None
        known = next((one for one in found if one), None)
        return View(
            self._record(self.root, RolloutRecord, znode),
            znode.stat.version,
            self._record(f"{self.paths.hosts}/{host}", HostEntry, known) if known else None,
        )

    @staticmethod
    def _record(path: str, kind: Any, znode: Znode) -> Any:
        try:
            return kind.from_node(znode.data)
        except InvalidRecord as exc:
            raise SessionTroubleError(f"{path}: {exc}") from exc

    def begin(self, release: Release, content: object) -> bool:
        """Begin it, for the fleet as it is now; returns whether nobody else has meanwhile.

        Raises `InvalidRecord` if the release can't be rolled out.
        """
        with session_trouble(self._app.root):
            history = dict(self._history())
            earlier = _states(self._rollouts())
            live, expected = (self._size(path) for path in (self._app.agents, self._app.roster))
        stable = choose_stable(release, content, history, earlier)
        # Missing hosts belong to the fleet too.
        state = begin(release, content, stable, max(1, live, expected), live)
        size = len(state.to_node())
        if size > LARGEST:
            raise InvalidRecord(f"{size} bytes with the release and the previous one: expected at most {LARGEST}")
        for parent in (self._app.rollouts, self._app.bad_commits):
            self._session.create(parent, b"")
        return self._session.commit(begin_writes(self.root, state, now()))

    def check_published(self, stable: Release, desired: Release, plan: object) -> None:
        """If only publishers may publish, refuse a `stable` release that none of them has named.

        They name it by the `from` of the `plan` of `desired`, or by publishing it.

        Every agent may write the rollout; one whose credentials are stolen must not choose what the others deploy.
        If only those who may publish may write it, it shows by itself what was published: a program that only writes
        `config` keeps no history. Raises `SessionTroubleError`.
        """
        release = _identity(stable)
        named = str(plan.get("from")).lower() if isinstance(plan, Mapping) else None
        known = {*self._published, (desired.url, named, desired.relative_path)}
        if not self._session.is_closed or release in known:
            return
        with session_trouble(self._app.history):
            self._published.update(_identity(release) for _generation, release in self._history())
        if release not in self._published and not self._is_of_publishers():
            raise SessionTroubleError(
                f"{self.root}: {stable.commit_id} of {stable.url} is not deployed: it is to be the previous release, "
                "but no publisher has published it; publish what hosts are to have instead"
            )

    def _is_of_publishers(self) -> bool:
        """Whether everybody who may begin or write this rollout may also publish."""
        where = (self._app.config, self._app.root, self._app.rollouts, self.root)
        config, *others = [self._session.read_acl(path) for path in where]
        return all_may_write(config, others)

    def history(self) -> list[Release]:
        """What was published last, the newest first. Raises `SessionTroubleError`."""
        with session_trouble(self._app.history):
            releases = self._history()
        # Publishers keep no more. Nobody who may write there must make this host verify for ever.
        return [release for _generation, release in releases[: -HISTORY_LIMIT - 1 : -1]]

    def _size(self, parent: str) -> int:
        """How many children a znode has. They are not listed, because many hosts ask at once."""
        znode = self._session.begin_read(parent)()
        return int(znode.stat.numChildren) if znode else 0

    def _history(self) -> list[tuple[int, Release]]:
        """What was published, oldest first, with its generation: the same for entries copied in one transaction."""
        found = []
        for znode in self._children(self._app.history):
            with contextlib.suppress(InvalidRecord):
                found.append((int(znode.stat.czxid), Release.from_node(znode.data)))
        return sorted(found, key=itemgetter(0))

    def _rollouts(self) -> dict[int, Znode]:
        """The rollouts that are kept, by generation; anybody may have created others, whose names are not numbers."""
        names = filter(_GENERATION.fullmatch, self._session.begin_list(self._app.rollouts)())
        reads = {int(name): self._session.begin_look(f"{self._app.rollouts}/{name}") for name in names}
        found = {number: read() for number, read in reads.items()}
        return {number: znode for number, znode in found.items() if znode is not None}

    def _children(self, parent: str) -> list[Znode]:
        names = sorted(self._session.begin_list(parent)())
        reads = [self._session.begin_read(f"{parent}/{name}") for name in names]
        return [znode for znode in (read() for read in reads) if znode is not None]

    def decide(self, view: View, event: Event) -> Decision:
        """The decision about an event; before the release is found to be bad, the hosts that had it are counted."""
        decision = decide(view.plan, view.state, event)
        if decision.is_bad and isinstance(event, Outcome):
            decision = decide(view.plan, view.state, event._replace(having=self._having(view)))
        return decision

    def _having(self, view: View) -> int:
        """How many live hosts have the release and no entry: they had it before, and have not reported that yet.

        They are counted only now and then: for thousands, that takes so long that the state always changes meanwhile.
        A host that has reported it meanwhile is in the state, and counts there.
        """
        if self._counted is None or time.monotonic() - self._counted[0] > COUNTED:
            self._counted = time.monotonic(), self._count_had(view)
        return max(0, self._counted[1] - view.state.had)

    def _count_had(self, view: View) -> int:
        """How many hosts had the release: those that have reported it, and the live ones that have it and no entry."""
        with session_trouble(self.root):
            # One right after the other: a host that gets an entry in between would count in neither, or in both.
            state = self._session.begin_read(self.root)
            entries = [self._session.begin_list(path) for path in (self.paths.hosts, self.paths.in_flight)]
            agents = self._session.begin_list(self._app.agents)
            znode, entered = state(), {name for names in entries for name in names()}
            reads = [self._session.begin_look(self._app.agent(name)) for name in agents() if name not in entered]
            having: int = sum(_live_commit(read()) == view.state.release["commitId"] for read in reads)
        said = self._record(self.root, RolloutRecord, znode) if znode else view.state
        return int(said.had) + having

    def write(
        self,
        view: View,
        decision: Decision,
        host: str | None = None,
        message: str | None = None,
        exits: Sequence[Write] = (),
    ) -> bool:
        """Carry out a decision about a `host`, or about none; returns whether that is done, because nobody was quicker.

        `exits` take this host out of a line in the same transaction.
        """
        if decision.state is view.state:
            return False
        actor = Actor(host, view.entry, message, view.step) if host else None
        writes = [*change_writes(self.root, view.state, view.version, decision, now(), actor), *exits]
        mark = self._mark(decision.state) if decision.is_bad else []
        if decision.state.has_proved and not view.state.has_proved:
            mark = self._unmark(decision.state)
        try:
            return self._session.commit([*writes, *mark])
        except RefusedError as exc:
            if exc.path not in {write.path for write in mark}:
                raise
            # An agent that may not mark the commit has to stop, or end, the rollout anyway.
            log.warning("rollout, generation=%s: the mark of a bad commit is left as it is: %s", self.generation, exc)
            return self._session.commit(writes)

    def _unmark(self, state: RolloutRecord) -> list[Write]:
        """The writes that remove the mark of a commit that the whole fleet has proved after all."""
        path = self._app.bad(str(state.release["commitId"]))
        with session_trouble(path):
            return [Write(DELETE, path)] if self._session.begin_look(path)() else []

    def _mark(self, state: RolloutRecord) -> list[Write]:
        write, parent = bad_write(self._app, state, self.generation, self._name, now()), self._app.bad_commits
        with session_trouble(write.path):
            # Somebody may have deleted all marks. A mark that may not be read exists.
            there = self._session.read_all([parent, write.path])
        has_parent, is_marked = (there[path] is not None for path in (parent, write.path))
        return [] if is_marked else [*([] if has_parent else [Write(CREATE, parent)]), write]

    def trim(self) -> None:
        """Delete the oldest rollouts. What can't be deleted is left to the host that begins the next."""
        with contextlib.suppress(SessionTroubleError), session_trouble(self._app.rollouts):
            rollouts = self._rollouts()
            # Rollouts of another ensemble are older, whatever their numbers; this one stays in any case.
            numbers = sorted(rollouts, key=lambda number: (_is_own(number, rollouts[number]), number))
            # The last rollout that has proved its release shows what is known to work.
            proved = max((number for number, state in _states(rollouts).items() if state.has_proved), default=None)
            for number in [number for number in numbers if number != self.generation][: -(KEPT - 1)]:
                if number != proved:
                    # One that may not be deleted does not protect the others.
                    with contextlib.suppress(SessionTroubleError):
                        self._session.delete_below(self._app.rollout(number))

    def is_bad(self, commit_id: str) -> bool:
        """Whether a commit is known to be bad."""
        path = self._app.bad(commit_id)
        with session_trouble(path):
            return self._session.begin_look(path)() is not None

    def in_flight(self) -> list[str]:
        """The hosts that are on their way."""
        with session_trouble(self.paths.in_flight):
            return self._session.begin_list(self.paths.in_flight)()

    def in_flight_entries(self) -> dict[str, HostEntry]:
        """The same, each with its entry in the rollout."""
        names = self.in_flight()
        with session_trouble(self.paths.in_flight):
            return self._read_entries({name: f"{self.paths.in_flight}/{name}" for name in names})

    def missing(self) -> list[str]:
        """The hosts that have disappeared on their way."""
        names = self.in_flight()
        with session_trouble(self.paths.in_flight):
            reads = {name: self._session.begin_look(self._app.agent(name)) for name in names}
            return [name for name, read in reads.items() if read() is None]

    def gone(self) -> list[str]:
        """The proved hosts of the fleet that are not live."""
        with session_trouble(self.paths.hosts):
            names = [self._session.begin_list(path) for path in (self.paths.hosts, self._app.agents)]
            entered, live = (set(read()) for read in names)
            entries = self._read_entries({name: f"{self.paths.hosts}/{name}" for name in entered - live})
            roster = {name: self._app.roster_entry(name) for name, entry in entries.items() if entry.state == PROVED}
            found = self._session.read_all(roster.values())
            # A host whose entry can't be read is there.
            return [name for name, path in roster.items() if found[path] is not None]

    def is_any_proving(self) -> bool:
        """Whether a proved host is proving the release again."""
        with session_trouble(self.paths.proving):
            return self._size(self.paths.proving) > 0

    def is_live(self, name: str) -> bool:
        """Whether this host is live."""
        with session_trouble(self._app.agents):
            return self._session.begin_look(self._app.agent(name))() is not None

    def is_missing(self, name: str) -> bool:
        """Whether this host has disappeared on its way."""
        with session_trouble(self.paths.in_flight):
            entry = self._session.begin_read(f"{self.paths.in_flight}/{name}")
            status = self._session.begin_look(self._app.agent(name))
            return entry() is not None and status() is None

    def count(self, view: View) -> Count:
        """Count the fleet, for the state that was read before."""
        with session_trouble(self.root):
            names = self._session.begin_list(self._app.agents)()
            entries = self._entries(view)
            states = {name: entry.state for name, entry in entries.items()}
            asked = [name for name in names if view.state.phase in GOING_BACK or states.get(name) in {None, LOST}]
            labels = self._labels(view, asked)
            statuses = self._statuses(asked)
            names = [name for name in names if statuses.get(name, True) is not None]
            unable = self._unable(view, statuses, entries)
            roster = self._size(self._app.roster)
        found = count(view.plan, view.state, {name: labels.get(name, {}) for name in names}, states, unable)
        # Missing hosts belong to the fleet, as when it began.
        return found._replace(fleet=max(found.fleet, roster))

    def _entries(self, view: View) -> dict[str, HostEntry]:
        """The entries of hosts in the rollout. If only the names count, the entries themselves are not read."""
        outcomes = dict.fromkeys(self._session.begin_list(self.paths.hosts)(), self.paths.hosts)
        parents = {**outcomes, **dict.fromkeys(self._session.begin_list(self.paths.in_flight)(), self.paths.in_flight)}
        if view.state.phase in GOING_ON and not view.state.counts[LOST]:
            return dict.fromkeys(parents, HostEntry(PROVED))
        return self._read_entries({name: f"{parent}/{name}" for name, parent in parents.items()})

    def _read_entries(self, paths: Mapping[str, str]) -> dict[str, HostEntry]:
        """The entries at these paths, by the hosts' names, without unreadable ones: these must not stop the others."""
        found, entries = self._session.read_all(paths.values()), {}
        for name, path in paths.items():
            try:
                if isinstance(found[path], SessionTroubleError):
                    raise found[path]
                if found[path] is not None:
                    entries[name] = self._record(path, HostEntry, found[path])
            except SessionTroubleError as exc:
                self._note_unread(name, exc)
        return entries

    def _note_unread(self, name: str, problem: SessionTroubleError) -> None:
        if name not in self._unread:
            log.warning("rollout, generation=%s: %s is left out: %s", self.generation, name, problem)
        self._unread.add(name)

    def _labels(self, view: View, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The labels of hosts, if the open step is for some."""
        if view.state.phase in GOING_BACK or not view.plan.steps[view.state.step].labels:
            return {}
        reads = {name: self._session.begin_look(self._app.roster_entry(name)) for name in names}
        return {name: _labels_of(read()) for name, read in reads.items()}

    def _statuses(self, names: Sequence[str]) -> dict[str, Znode | None]:
        """The statuses of these hosts; None for one that is gone, or not a host's: unreadable, or not an ephemeral."""
        reads = {name: self._session.begin_look(self._app.agent(name)) for name in names}
        found = {name: read() for name, read in reads.items()}
        return {name: znode if znode and znode.stat.ephemeralOwner else None for name, znode in found.items()}

    def _unable(
        self, view: View, statuses: Mapping[str, Znode | None], entries: Mapping[str, HostEntry]
    ) -> dict[str, str]:
        """The hosts that can't go on by themselves, and why: held, refuses the release, gave up, or has it silently."""
        found = {name: _obstacle(znode, self.generation, entries.get(name)) for name, znode in statuses.items()}
        is_back = view.state.phase in GOING_BACK
        unable = {name: why for name, why in found.items() if why and (name in entries or not is_back)}
        said = "did not return" if is_back else "was given up"
        return {**unable, **{name: said for name, entry in entries.items() if entry.is_given_up}}


def _identity(release: Release) -> tuple[str, str, str]:
    return release.url, release.commit_id, release.relative_path


def _is_own(generation: int, znode: Znode) -> bool:
    return is_of_this_ensemble(generation, znode.stat.czxid)


def _states(rollouts: Mapping[int, Znode]) -> dict[int, RolloutRecord]:
    """The states of the rollouts of this ensemble, without those that can't be read."""
    found = {}
    for generation, znode in rollouts.items():
        with contextlib.suppress(InvalidRecord):
            if _is_own(generation, znode):
                found[generation] = RolloutRecord.from_node(znode.data)
    return found


def _labels_of(znode: Znode | None) -> dict[str, str]:
    try:
        labels = json.loads(znode.data).get("labels") if znode else None
    except (ValueError, AttributeError, RecursionError):
        return {}
    return labels if isinstance(labels, dict) else {}


def _live_commit(znode: Znode | None) -> str | None:
    try:
        return AgentStatus.from_node(znode.data if znode else None).commit_id
    except InvalidRecord:
        return None


def _obstacle(znode: Znode | None, generation: int, entry: HostEntry | None) -> str | None:
    """Why a host with this entry does not deploy the published release, by its status; None if nothing prevents it."""
    try:
        status = AgentStatus.from_node(znode.data if znode else None)
    except InvalidRecord:
        return None
    if status.held is not None:
        return "is held"
    if entry is None and status.converged(generation):
        # An agent older than rollouts has deployed it at once; any other reports it in the turn that proves it.
        return "has it, and takes no part in the rollout"
    return "does not deploy it" if status.gave_up(generation) else None
