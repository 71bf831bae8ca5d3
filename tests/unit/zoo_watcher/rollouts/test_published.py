"""The release to which a rollout has hosts go back, where only publishers may publish."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from support.simulated_fleet import APP, NEW, OLD, URL, Ensemble, FakeSession, Fleet
from zoo_watcher.desired import Desired
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.rollouts.participation import Participation
from zoo_watcher.rollouts.znodes import RolloutZnodes
from zoo_watcher.wire.access import ADMIN, ALL, READ, Grant, Principal
from zoo_watcher.wire.access import CREATE as MAY_CREATE
from zoo_watcher.wire.records import HISTORY_LIMIT, InvalidRecord, Release
from zoo_watcher.wire.rollout_records import RETURNING, HostEntry
from zoo_watcher.wire.rollout_records import begin as begin_rollout
from zoo_watcher.wire.rollout_writes import CREATE, Write, begin_writes

PLAN = {"from": OLD, "minHealthy": 0}


@pytest.mark.parametrize(("own", "policy"), [(PLAN, None), (None, PLAN), (None, {**PLAN, "from": OLD.upper()})])
def test_hosts_go_back_only_to_what_the_record_or_the_policy_of_a_publisher_names(
    begin: Callable[..., Fleet], own: Any, policy: Any
) -> None:
    host = begin(1, 1, PLAN).hosts[0]
    host.has = NEW
    desired = Release(URL, NEW, "site", extra={} if own is None else {"rollout": own})
    told = {OLD: None, "f" * 40: f"{'f' * 40} of {URL} is not deployed"}
    for commit, refusal in told.items():
        ensemble = Ensemble()
        state = begin_rollout(desired, own or policy, Release(URL, commit, "site"), 1)
        state = replace(state, phase="rolling_back", counts={**state.counts, RETURNING: 1})
        entry = Write(CREATE, f"{APP.rollout(7)}/in_flight/{host.name}", HostEntry(RETURNING).to_node())
        ensemble.apply([*begin_writes(APP.rollout(7), state, ""), entry])
        session = FakeSession(ensemble, random.Random(0), 0.0)
        session.is_closed = True
        wanted = Desired(7, 1, desired, policy=policy and json.dumps({"rollout": policy}).encode())
        part = Participation(host, session, wanted, lambda: None, resumes=False)  # type: ignore[arg-type]
        part.keep()
        assert (refusal in (part.refused or "")) if refusal else part.refused is None
        # Its status reports this too, as it reports that the rollout was rolled back.
        assert part.assignment.standstill is not None
        assert ("is not deployed" in part.assignment.standstill.message) == (refusal is not None)


def returning(begin: Callable[..., Fleet], ensemble: Ensemble, stable: str) -> tuple[Any, FakeSession, Desired]:
    """A host that a rollout tells to go back to `stable`, its session, and what is published."""
    host = begin(1, 1, PLAN).hosts[0]
    host.has = NEW
    desired = Release(URL, NEW, "site", extra={"rollout": PLAN})
    state = begin_rollout(desired, PLAN, Release(URL, stable, "site"), 1)
    state = replace(state, phase="rolling_back", counts={**state.counts, RETURNING: 1})
    entry = Write(CREATE, f"{APP.rollout(7)}/in_flight/{host.name}", HostEntry(RETURNING).to_node())
    ensemble.apply([*begin_writes(APP.rollout(7), state, ""), entry])
    return host, FakeSession(ensemble, random.Random(0), 0.0), Desired(7, 1, desired)


PUBLISHER = Grant(ALL, Principal("digest", "publisher:hash"))
AGENT = Grant(ALL & ~ADMIN, Principal("digest", "agent:hash"))
CREATES = AGENT._replace(perms=READ | MAY_CREATE)


@pytest.mark.parametrize(
    ("acls", "is_refused"),
    [
        ({}, False),
        ({APP.rollout(7): [PUBLISHER, PUBLISHER]}, False),
        ({APP.config: [PUBLISHER, AGENT], APP.rollouts: [PUBLISHER, AGENT]}, False),
        ({APP.root: [PUBLISHER, CREATES]}, True),
        ({APP.rollouts: [PUBLISHER, CREATES]}, True),
        ({APP.rollout(7): [PUBLISHER, AGENT]}, True),
        ({APP.rollout(7): []}, True),
        ({APP.config: []}, True),
    ],
)
def test_a_rollout_that_only_publishers_may_write_proves_what_was_published(
    begin: Callable[..., Fleet], acls: dict[str, list[Any]], is_refused: bool
) -> None:
    """A script that only writes `config` keeps no history. Hosts go back even where it has the agents' identity."""
    ensemble = Ensemble()
    ensemble.acls = {path: [PUBLISHER] for path in (APP.root, APP.config, APP.rollouts, APP.rollout(7))} | acls
    host, session, wanted = returning(begin, ensemble, "f" * 40)
    session.is_closed = True
    part = Participation(host, session, wanted, lambda: None, resumes=False)  # type: ignore[arg-type]
    part.keep()
    assert (part.refused is not None) == is_refused


def judged(begin: Callable[..., Fleet], said: Exception) -> tuple[Participation, list[str]]:
    """The part of a host that is to go back to a release that is judged by `said`, and the commits that were judged."""
    asked: list[str] = []

    def check(stable: Release, _desired: Release, _history: Any) -> None:
        asked.append(stable.commit_id)
        raise said

    host, session, wanted = returning(begin, Ensemble(), "f" * 40)
    return Participation(host, session, wanted, lambda: None, check, resumes=False), asked  # type: ignore[arg-type]


def test_a_release_that_no_signature_vouches_for_is_judged_once_until_the_rollout_is_read_again(
    begin: Callable[..., Fleet],
) -> None:
    part, asked = judged(begin, InvalidRecord("it is signed by nobody"))
    for _turn in range(5):
        part.keep()
        assert part.refused == "it is signed by nobody"
    assert asked == ["f" * 40]
    part.mark_stale()
    part.keep()
    assert asked == ["f" * 40] * 2


def test_a_release_that_cannot_be_verified_now_is_judged_again_at_each_turn(begin: Callable[..., Fleet]) -> None:
    part, asked = judged(begin, SessionTroubleError("no file of signers"))
    for turn in range(3):
        part.keep()
        assert (part.refused, len(asked)) == ("no file of signers", turn + 1)


def test_only_as_much_of_a_long_history_counts_as_publishers_keep() -> None:
    ensemble = Ensemble()
    for number in range(HISTORY_LIMIT + 20):
        data = Release(URL, f"{number:040}", "site").to_node()
        ensemble.apply([Write(CREATE, f"{APP.history}/release-{number:010}", data)])
    znodes = RolloutZnodes(FakeSession(ensemble, random.Random(0), 0.0), APP, 7, "server1")  # type: ignore[arg-type]
    commits = [int(release.commit_id) for release in znodes.history()]
    assert commits == list(range(HISTORY_LIMIT + 19, 19, -1))


def test_each_entry_of_a_history_that_was_copied_in_one_transaction_counts_as_published(
    begin: Callable[..., Fleet],
) -> None:
    ensemble = Ensemble()
    releases = {number: Release(URL, f"{number:040}", "site").to_node() for number in range(3)}
    ensemble.apply([Write(CREATE, f"{APP.history}/release-{number:010}", data) for number, data in releases.items()])
    host, session, wanted = returning(begin, ensemble, f"{1:040}")
    session.is_closed = True
    part = Participation(host, session, wanted, lambda: None, resumes=False)  # type: ignore[arg-type]
    part.keep()
    assert part.refused is None
    znodes = RolloutZnodes(session, APP, 7, "server1")  # type: ignore[arg-type]
    assert [int(release.commit_id) for release in znodes.history()] == [2, 1, 0]


def test_a_release_that_the_plan_names_needs_no_right_to_read_the_history(begin: Callable[..., Fleet]) -> None:
    ensemble = Ensemble()
    ensemble.forbidden = {APP.history}
    for stable, is_refused in ((OLD, False), ("f" * 40, True)):
        ensemble.nodes = {}
        host, session, wanted = returning(begin, ensemble, stable)
        session.is_closed = True
        part = Participation(host, session, wanted, lambda: None, resumes=False)  # type: ignore[arg-type]
        part.keep()
        assert (part.refused is not None) == is_refused
