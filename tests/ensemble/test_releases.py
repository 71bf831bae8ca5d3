"""Publishing releases, their history, and the fleet that proves them, in a real ensemble."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.protocol.states import ZnodeStat
from kazoo.security import make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import releases
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import read_agents, wait_for_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import (
    UNANSWERED,
    EarlierWait,
    Limits,
    Verdict,
    WaitResult,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    PROVED_AT,
    ROLLED_BACK_FROM,
    AgentStatus,
    AppPaths,
    InvalidRecord,
    Release,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    ROLLOUT,
    Published,
    ReleaseProof,
    begin_anew,
    mark_proved,
    read_history,
    read_published,
    rollback_target,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import PROVED, RolloutRecord
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steering import (
    begin_rollout,
    beginning,
    known_releases,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import (
    Unknown,
    describe_unknown,
    published_plan,
    read_rollouts,
    with_plan_back,
    with_policy,
)
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info, zk_release
from support.agent_status import report
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.waiting import wait_for


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


def release(number: int = 0, **keys: Any) -> Release:
    """A release, a different one for each number."""
    return Release(url="https://example.org/x.git", commit_id=f"{number:040x}", relative_path="site", **keys)


def publish(client: KazooClient, paths: AppPaths, what: Release) -> int:
    """Publish a release, whichever release is published."""
    return begin_anew(lambda: releases.publish(client, paths, what, read_published(client, paths)))


def wait(client: KazooClient, paths: AppPaths, generation: int, limits: Limits, seconds: float) -> WaitResult:
    """Wait for a fleet to prove a generation."""
    return wait_for_fleet(client, paths, ReleaseProof(paths.config, generation), limits, seconds)


def judge(agents: dict[str, AgentStatus], generation: int) -> Verdict:
    """Sort a fleet by its reports on a generation."""
    return ReleaseProof("/app/config", generation).judge(agents)


class Waiting:
    """Waits for a fleet in a thread of its own."""

    def __init__(self, client: KazooClient, paths: AppPaths, generation: int, limits: Limits) -> None:
        self.outcomes: list[WaitResult] = []
        self._thread = threading.Thread(
            target=lambda: self.outcomes.append(wait(client, paths, generation, limits, 30)), daemon=True
        )
        self._thread.start()

    def end(self) -> WaitResult:
        """The outcome."""
        self._thread.join(30)
        return self.outcomes[0]


def test_nothing_is_published_at_first(zk: KazooClient, paths: AppPaths) -> None:
    assert read_published(zk, paths) == Published()
    assert read_history(zk, paths) == []
    assert read_agents(zk, paths) == {}


def test_a_published_release_is_read_with_the_generation_of_its_znode(zk: KazooClient, paths: AppPaths) -> None:
    for number in range(3):
        generation = publish(zk, paths, release(number, ref="main", extra={"key": [1]}))
        found = read_published(zk, paths)
        assert (found.generation, found.problem) == (generation, None)
        assert found.release == release(number, ref="main", extra={"key": [1]})
        assert zk.get(paths.config)[1].mzxid == generation


def test_a_history_entry_is_made_by_the_same_transaction(zk: KazooClient, paths: AppPaths) -> None:
    generations = [publish(zk, paths, release(number)) for number in range(3)]
    entries = read_history(zk, paths)
    assert [entry.generation for entry in entries] == generations[::-1]
    assert [entry.release for entry in entries] == [release(number) for number in (2, 1, 0)]
    data, stat = zk.get(f"{paths.history}/{entries[0].name}")
    assert data == zk.get(paths.config)[0]
    assert (stat.czxid, stat.ephemeralOwner) == (generations[-1], 0)


def test_the_newest_fifty_entries_are_kept(zk: KazooClient, paths: AppPaths) -> None:
    generations = [publish(zk, paths, release(number)) for number in range(53)]
    entries = read_history(zk, paths)
    assert [entry.generation for entry in entries] == generations[:-51:-1]


def test_a_znode_that_is_no_release_is_a_problem_and_is_replaced(zk: KazooClient, paths: AppPaths) -> None:
    for data, said in ((b"", "no data"), (b"{", "not JSON"), (b'{"url": "x"}', "commitId, relativePath: missing")):
        zk.ensure_path(paths.root)
        if zk.exists(paths.config):
            zk.set(paths.config, data)
        else:
            zk.create(paths.config, data)
        found = read_published(zk, paths)
        assert found.release is None
        assert said in str(found.problem)
    generation = publish(zk, paths, release())
    assert read_published(zk, paths).generation == generation


def test_a_history_entry_that_is_no_release_loses_none_of_the_others(zk: KazooClient, paths: AppPaths) -> None:
    publish(zk, paths, release(1))
    zk.create(f"{paths.history}/release-0000000001", b"\xff")
    zk.create(f"{paths.history}/notes", b"somebody's")
    publish(zk, paths, release(2))
    entries = read_history(zk, paths)
    assert {entry.release.commit_id for entry in entries if entry.release} == {f"{1:040x}", f"{2:040x}"}
    assert {entry.name for entry in entries if entry.problem} == {"release-0000000001", "notes"}


@pytest.mark.parametrize("number", ["\u00b2", "1" * 5000], ids=["superscript", "long"])
def test_an_entry_with_an_impossible_number_is_the_oldest(zk: KazooClient, paths: AppPaths, number: str) -> None:
    name = f"release-{number}"
    zk.create(f"{paths.history}/{name}", release(1).to_node(), makepath=True)
    publish(zk, paths, release(2))
    assert [entry.name for entry in read_history(zk, paths)] == ["release-0000000001", name]


def test_other_znodes_in_the_history_are_kept(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "HISTORY_LIMIT", 2)
    zk.create(f"{paths.history}/notes", b"somebody's", makepath=True)
    for number in range(4):
        publish(zk, paths, release(number))
    assert sorted(zk.get_children(paths.history)) == ["notes", "release-0000000003", "release-0000000004"]


def test_publishers_that_race_all_publish_and_each_has_its_own_generation(
    ensemble: Ensemble, zk: KazooClient, paths: AppPaths
) -> None:
    generations: list[int] = []

    def work(which: int) -> None:
        with connected(ensemble.hosts) as client:
            generations.extend(publish(client, paths, release(which * 100 + number)) for number in range(5))

    threads = [threading.Thread(target=work, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(generations)) == len(generations) == 15
    entries = read_history(zk, paths)
    assert sorted(generations) == [entry.generation for entry in entries][::-1]
    assert read_published(zk, paths).generation == max(generations)
    assert entries[0].release == read_published(zk, paths).release


@pytest.mark.parametrize("deed", ["publish", "delete"])
def test_a_publisher_that_was_overtaken_publishes_again(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    publish(zk, paths, release(1))
    pending = [deed]

    def overtake(_path: str) -> ZnodeStat:
        found = zk_exists(paths.config)
        if pending and pending.pop() == "publish":
            publish(other, paths, release(2))
        elif found is not None and deed == "delete":
            other.delete(paths.config)
        return found

    zk_exists = zk.exists
    monkeypatch.setattr(zk, "exists", overtake)
    generation = publish(zk, paths, release(3))
    monkeypatch.undo()
    found = read_published(zk, paths)
    assert (found.release, found.generation) == (release(3), generation)
    assert read_history(zk, paths)[0].release == release(3)
    assert len(read_history(zk, paths)) == (3 if deed == "publish" else 2)


def test_a_publisher_that_is_overtaken_every_time_reports_it_and_changes_nothing(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))

    def overtake(_path: str) -> ZnodeStat:
        found = zk_exists(paths.config)
        publish(other, paths, release(2))
        return found

    zk_exists = zk.exists
    monkeypatch.setattr(zk, "exists", overtake)
    with pytest.raises(
        ZooKeeperError,
        match=f"^{paths.config}: changed meanwhile: 0+2 is published .* in each of [0-9]+ tries; run it again",
    ):
        publish(zk, paths, release(3))
    monkeypatch.undo()
    assert release(3) not in [entry.release for entry in read_history(zk, paths)]


class Slow:
    """A slow git server: somebody else acts before each of its first `turns` answers."""

    def __init__(self, act: Callable[[], Any], turns: int = 1) -> None:
        self.asked = 0
        self._act = act
        self._turns = turns

    def resolve(self, _url: str, _ref: str) -> str:
        """A commit, a different one each time."""
        self.asked += 1
        if self.asked <= self._turns:
            self._act()
        return f"{100 + self.asked:040x}"


def options_of(paths: AppPaths, **given: Any) -> dict[str, Any]:
    """The options of a zk_release that does not wait, or of a further wait."""
    options = {name: option.get("default") for name, option in zk_release.argument_spec().items()}
    return {**options, "app": paths.root, "ref": "main", "wait": False, "wait_timeout": 30.0, **given}


def published_before(generation: int, *agents: str) -> dict[str, Any]:
    """The controller's record of a publication that is waited for."""
    known = {"generation": generation, "commit_id": f"{1:040x}", "agents": list(agents), "left": 30.0, "stuck": 0.0}
    return {**known, "moves": None, "outcomes": None}


def test_a_slow_publisher_reads_and_decides_again_after_another(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    server = Slow(lambda: publish(other, paths, release(2)))
    monkeypatch.setattr(zk_release, "resolve", server.resolve)
    result = zk_release.converge(zk, options_of(paths), check=False)
    assert (result["changed"], result["commit_id"]) == (True, f"{102:040x}")
    assert json.loads(result["diff"]["before"])["commitId"] == f"{2:040x}"
    assert len(read_history(zk, paths)) == 3


def test_a_release_that_another_has_published_meanwhile_is_not_a_change(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    server = Slow(lambda: publish(other, paths, release(102)))
    monkeypatch.setattr(zk_release, "resolve", server.resolve)
    result = zk_release.converge(zk, options_of(paths), check=False)
    assert (result["changed"], result["generation"]) == (False, read_published(zk, paths).generation)
    assert result["diff"]["before"] == result["diff"]["after"]


@pytest.mark.parametrize("deed", ["publish", "delete and create"])
def test_only_if_fails_where_another_publisher_was_faster(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    generation = publish(zk, paths, release(1))

    def act() -> None:
        if deed != "publish":
            other.delete(paths.config)
        publish(other, paths, release(2, publisher="ann\n@there"))

    monkeypatch.setattr(zk_release, "resolve", Slow(act).resolve)
    for only_if in (f"{1:040x}", str(generation)):
        with pytest.raises(ZooKeeperError) as caught:
            zk_release.converge(zk, options_of(paths, only_if=only_if), check=False)
        assert f'only_if expects "{only_if}", but {2:040x} is published by "ann\\n@there" since 2' in str(caught.value)
    found = read_published(zk, paths)
    assert found.release
    assert found.release.commit_id == f"{2:040x}"
    for only_if in (f"{2:040X}", f"{2:040x}"[:9], str(found.generation)):
        result = zk_release.converge(zk, options_of(paths, only_if=only_if), check=True)
        assert result["changed"]


def test_a_release_that_an_agent_gave_up_is_published_again_by_force(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "rolled_back", generation)
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{1:040x}")
    with pytest.raises(ZooKeeperError, match="not deployed on 1 of 1: a is rolled_back"):
        zk_release.converge(zk, options_of(paths, wait=True), check=False)
    assert read_published(zk, paths).generation == generation
    foretold = zk_release.converge(zk, options_of(paths, force=True), check=True)
    again = zk_release.converge(zk, options_of(paths, force=True), check=False)
    assert (foretold["changed"], again["changed"]) == (True, True)
    assert again["generation"] == read_published(zk, paths).generation != generation
    assert len(read_history(zk, paths)) == 2
    with pytest.raises(ZooKeeperError, match="only_if expects"):
        zk_release.converge(zk, options_of(paths, force=True, only_if=str(generation)), check=False)


def test_the_plan_of_a_release_is_the_policy_at_its_publication_even_if_that_is_deleted(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    plan = {"steps": [{"hosts": 1, "pause": True}]}
    zk.create(paths.policy, json.dumps({"rollout": plan}).encode())
    result = zk_release.converge(zk, options_of(paths), check=False)
    zk.delete(paths.policy)
    published = read_published(zk, paths)
    assert published.release
    assert published.release.extra["rollout"] == result["release"]["rollout"] == plan
    back = zk_release.converge(zk, options_of(paths, state="rolled_back", ref=None, to=f"{1:040x}"), check=False)
    assert back["release"]["rollout"] == plan, "a rollback reaches as many at a time"


def test_nothing_is_published_under_an_impossible_policy(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    zk.create(paths.policy, json.dumps({"rollout": {"maxInFlight": "a few"}}).encode())
    with pytest.raises(InvalidRecord, match=r"/policy: rollout\.maxInFlight: expected .*; correct it first"):
        zk_release.converge(zk, options_of(paths), check=False)
    assert zk_release.converge(zk, options_of(paths, rollout=False), check=False)["release"]["rollout"] is False


@pytest.mark.parametrize(
    "policy", [{"steps": [{"hosts": 1}], "maxInFlight": 1}, {"rolout": {"maxInFlight": 1}}, {"rollout_plan": True}]
)
def test_nothing_is_published_under_a_policy_with_a_misplaced_plan(
    zk: KazooClient, paths: AppPaths, policy: dict[str, Any]
) -> None:
    """Without this check, the release would go to all hosts at once."""
    zk.create(paths.policy, json.dumps(policy).encode(), makepath=True)
    with pytest.raises(
        InvalidRecord, match=r'/policy: no such key "(maxInFlight|rolout|rollout_plan)"; expected a plan'
    ):
        with_policy(zk, paths, release(1))
    assert with_policy(zk, paths, release(1, extra={ROLLOUT: False})).extra[ROLLOUT] is False
    back = replace(release(1), extra={ROLLED_BACK_FROM: f"{2:040x}"})
    planned, why = with_plan_back(zk, paths, back)
    assert planned.extra[ROLLOUT] is True
    assert why
    assert why.endswith("expected a plan as rollout; the rollback goes without it, one host at a time")


@pytest.mark.parametrize("policy", [{}, {"owner": "shop", "signers": []}, {"rollout": None}])
def test_a_policy_need_not_have_a_plan(zk: KazooClient, paths: AppPaths, policy: dict[str, Any]) -> None:
    zk.create(paths.policy, json.dumps(policy).encode(), makepath=True)
    assert with_policy(zk, paths, release(1)) == release(1)


def test_only_a_rollback_is_published_under_a_policy_with_a_misspelt_key(zk: KazooClient, paths: AppPaths) -> None:
    policy = {"rollout": {"steps": [{"hosts": 1, "puase": True}]}}
    zk.create(paths.policy, json.dumps(policy).encode(), makepath=True)
    with pytest.raises(InvalidRecord, match=r'/policy: rollout\.steps\[0\]: no such key "puase"; .*; correct it first'):
        with_policy(zk, paths, release(1))
    back = replace(release(1), extra={ROLLED_BACK_FROM: f"{2:040x}"})
    planned, why = with_plan_back(zk, paths, back)
    assert (planned.extra["rollout"], why) == (policy["rollout"], None)


@pytest.mark.parametrize("name", ["v1.2", "main", "a1b2c3d", 5])
def test_nothing_is_published_under_a_policy_whose_from_is_not_a_commit(
    zk: KazooClient, paths: AppPaths, name: object
) -> None:
    zk.create(paths.policy, json.dumps({"rollout": {"from": name}}).encode(), makepath=True)
    with pytest.raises(InvalidRecord, match=r"/policy: rollout\.from: expected 40 or 64 hex .*; correct it first"):
        with_policy(zk, paths, release(1))
    zk.set(paths.policy, json.dumps({"rollout": {"from": "A" * 40}}).encode())
    assert with_policy(zk, paths, release(1)).extra["rollout"] == {"from": "A" * 40}


LOTS = {"rollout": {"maxInFlight": "lots"}}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "policy", [None, json.dumps(LOTS).encode(), b"{"], ids=["record", "policy", "no policy at all"]
)
def test_an_impossible_plan_does_not_prevent_a_rollback(
    zk: KazooClient, paths: AppPaths, policy: bytes | None, force: bool
) -> None:
    publish(zk, paths, release(1, extra={"provedAt": "2026-01-01T00:00:00+00:00"}))
    publish(zk, paths, release(2, extra={} if policy else LOTS))
    if policy:
        zk.create(paths.policy, policy)
    where = paths.policy if policy else paths.config
    done = zk_release.converge(zk, options_of(paths, state="rolled_back", ref=None, force=force), check=False)
    assert done["changed"]
    assert done["release"]["commitId"] == f"{1:040x}"
    assert done["release"]["rollout"] is True
    assert done["default_plan"].startswith(f"{where}: ")
    assert done["default_plan"].count(where) == 1
    assert done["default_plan"].endswith("; the rollback goes without it, one host at a time")


def test_a_publisher_is_told_at_once_of_names_that_no_host_has(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    report(other, paths, "web1", "active", 1)
    zk.create(f"{paths.roster}/web2", b"{}", makepath=True)
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    plan = {"steps": [{"names": ["web1", "wbe1"]}, {"names": ["web2"]}]}
    assert zk_release.converge(zk, options_of(paths, rollout=plan), check=False)["unknown_hosts"] == ["wbe1"]


def test_a_publisher_is_told_at_once_of_labels_that_no_host_has(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    report(other, paths, "web1", "active", 1)
    zk.create(f"{paths.roster}/web1", b'{"labels": {"zone": "a", "tier": "front"}}', makepath=True)
    zk.create(f"{paths.roster}/web2", b'{"labels": {"zone": "b"}}')
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    plan = {"steps": [{"labels": one} for one in ({"zone": "a"}, {"zone": "b", "tier": "front"}, {"zone": "z"})]}
    told = zk_release.converge(zk, options_of(paths, rollout=plan), check=False)
    assert (told.get("unknown_hosts"), told["unknown_labels"]) == (None, ["tier=front, zone=b", "zone=z"])
    assert describe_unknown(Unknown(["wbe1"], told["unknown_labels"])) == (
        "rollout.steps: no host of the fleet has the name wbe1, and no host in the roster has the labels "
        "tier=front, zone=b or zone=z: the rollout goes without"
    )


def test_a_publisher_is_told_where_a_plan_has_no_steps_because_no_release_is_known_to_work(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")

    def told(**options: Any) -> str | None:
        place = {"url": "https://example.org/x.git", "relative_path": "site"}
        given: dict[str, Any] = {**place, "rollout": {"steps": [{"hosts": 1, "pause": True}]}, **options}
        return zk_release.converge(zk, options_of(paths, **given), check=True).get("without_steps")

    assert told() is None, "the first release of an application has none, as everybody knows"
    generation = publish(zk, paths, release(1))
    assert told() == (
        "rollout.steps: no release is known to work at site, so there are no steps, and all hosts get this one, "
        "maxInFlight at a time; name the commit that they are to have meanwhile with from"
    )
    assert told(rollout={"maxInFlight": 2}) is None
    assert told(rollout={"steps": [{"hosts": 1}], "from": f"{1:040x}"}) is None
    mark_proved(zk, paths, generation, "2026-11-24T10:15:30+00:00")
    assert told() is None
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{1:040x}")
    publish(zk, paths, release(3))
    assert told() is None, "what is known to work is published again"


def test_a_publisher_is_told_of_a_rollback_to_an_unproved_release(zk: KazooClient, paths: AppPaths) -> None:
    """For example, to a release that was rolled back when only its first host had it."""

    def told(to: int | None, **plan: Any) -> str | None:
        publish(zk, paths, release(3, extra=plan))
        given = options_of(paths, state="rolled_back", ref=None, to=f"{to:040x}" if to else None)
        return zk_release.converge(zk, given, check=True).get("without_steps")

    mark_proved(zk, paths, publish(zk, paths, release(1)), "2026-11-24T10:15:30+00:00")
    publish(zk, paths, release(2))
    assert told(2, rollout={"maxInFlight": 2}) == (
        f"rollout: {2:040x} is not known to work at site: a rollback to it has no steps, and only abort.yml stops it; "
        "deploy.yml rolls it out by the plan"
    )
    assert told(2) is None, "all at once is what it was before"
    assert (told(1, rollout={"maxInFlight": 2}), told(None, rollout={"maxInFlight": 2})) == (None, None)


@pytest.mark.parametrize("which", ["history", "rollouts", "roster", "agents", "policy"])
def test_a_publisher_who_may_not_read_everything_still_publishes(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    publish(zk, paths, release(1))
    for path in (paths.rollouts, paths.roster, paths.agents, paths.policy):
        zk.ensure_path(path)
    zk.set_acls(getattr(paths, which), [make_acl("world", "anyone", create=True)])
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    rollout = {"steps": [{"names": ["web9"]}, {"labels": {"zone": "z"}}]}
    done = zk_release.converge(zk, options_of(paths, wait=False, rollout=rollout), check=False)
    assert done["changed"]
    assert (done.get("without_steps") is None) == (which in {"history", "rollouts"})
    assert ("unknown_hosts" in done) == (which not in {"roster", "agents"})
    assert not zk_release.converge(zk, options_of(paths, wait=False, rollout=rollout), check=False)["changed"]


def test_only_if_with_a_commit_fails_where_nothing_is_published(zk: KazooClient, paths: AppPaths) -> None:
    with pytest.raises(ZooKeeperError, match=r'only_if expects "\d+", but no release is published'):
        releases.check_only_if(paths, read_published(zk, paths), f"{1:040x}")


def test_only_if_none_allows_only_the_first_publication(zk: KazooClient, paths: AppPaths) -> None:
    releases.check_only_if(paths, read_published(zk, paths), releases.NOTHING)
    publish(zk, paths, release(1))
    with pytest.raises(ZooKeeperError, match=r'only_if expects "none", but .*; nothing is done$'):
        releases.check_only_if(paths, read_published(zk, paths), releases.NOTHING)


def test_a_release_that_is_too_long_for_config_and_history_is_refused_and_the_old_one_stays(
    zk: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release())
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: [0-9]+ bytes, more than a release may have"):
        publish(zk, paths, release(1, extra={"padding": "x" * 530_000}))
    assert read_published(zk, paths).generation == generation


def test_check_mode_refuses_a_plan_that_makes_a_release_too_long(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{2:040x}")
    names = [f"{number:09d}{'x' * 91}" for number in range(5000)]
    for check in (True, False):
        with pytest.raises(ZooKeeperError, match=f"^{paths.config}: [0-9]+ bytes, more than a release may have"):
            zk_release.converge(zk, options_of(paths, rollout={"steps": [{"names": names}]}), check=check)


def test_publishing_without_permission_names_the_path_and_changes_nothing(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    zk.set_acls(paths.config, [make_acl("world", "anyone", read=True)])
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: permission denied"):
        publish(zk, paths, release(1))
    assert read_published(zk, paths).generation == generation
    assert len(read_history(zk, paths)) == 1


def test_a_history_that_may_not_be_written_prevents_the_publication(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    zk.set_acls(paths.history, [make_acl("world", "anyone", read=True)])
    with pytest.raises(ZooKeeperError, match=f"^{paths.history}: permission denied"):
        publish(zk, paths, release(1))
    assert read_published(zk, paths).generation == generation


def test_a_status_that_cannot_be_read_is_an_agent_that_proves_nothing(zk: KazooClient, paths: AppPaths) -> None:
    zk.create(paths.agent("a"), b"not a status", makepath=True)
    zk.create(paths.agent("b"), b'{"state": "dancing"}')
    report(zk, paths, "c", "active", 7)
    agents = read_agents(zk, paths)
    assert sorted(agents) == ["a", "b", "c"]
    assert "its status can't be read" in str(agents["a"].message)
    assert judge(agents, 7) == (["c"], [], ["a", "b"])


@pytest.mark.parametrize(
    ("state", "generation", "verdict"),
    [
        ("active", 7, 0),
        ("active", 6, 2),
        ("active", None, 2),
        ("failed", 7, 1),
        ("rolled_back", 7, 1),
        ("failed", 6, 2),
        *((state, 7, 2) for state in ("idle", "queued", "fetching", "staging", "activating", "checking", "draining")),
    ],
)
def test_an_agent_has_proved_a_generation_given_it_up_or_is_pending(
    state: str, generation: int | None, verdict: int
) -> None:
    agents = {"a": AgentStatus(name="a", state=state, generation=generation)}
    assert judge(agents, 7)[verdict] == ["a"]
    assert sum(map(len, judge(agents, 7))) == 1


def test_waiting_ends_when_the_last_agent_has_proved_it(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "idle", None)
    waiting = Waiting(zk, paths, generation, Limits(1, 0))
    for state in ("fetching", "staging", "checking"):
        report(other, paths, "b", state, generation)
    assert waiting.outcomes == []
    report(other, paths, "b", "active", generation)
    outcome = waiting.end()
    assert (outcome.verdict, outcome.problem, outcome.lost) == ((["a", "b"], [], []), None, [])
    assert outcome.agents["b"].state == "active"


def test_agents_that_are_not_live_yet_are_waited_for(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    waiting = Waiting(zk, paths, generation, Limits(2, 0))
    report(other, paths, "a", "active", generation)
    wait_for(lambda: read_agents(zk, paths), "the first one is live")
    assert waiting.outcomes == []
    report(other, paths, "b", "active", generation)
    assert waiting.end().verdict.proved == ["a", "b"]


def test_waiting_ends_at_the_first_failure_too_many_with_its_reason(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release())
    for name in ("a", "b", "c"):
        report(other, paths, name, "fetching", generation)
    waiting = Waiting(zk, paths, generation, Limits(1, 1))
    report(other, paths, "a", "failed", generation, message="disk full")
    wait_for(lambda: read_agents(zk, paths)["a"].state == "failed", "the first one has failed")
    assert waiting.outcomes == []
    report(other, paths, "b", "rolled_back", generation, message="port closed")
    outcome = waiting.end()
    assert outcome.verdict == ([], ["a", "b"], ["c"])
    assert outcome.problem == "not deployed on 2 of 3: a is failed (disk full); b is rolled_back (port closed)"


def test_as_many_failures_as_are_allowed_are_no_failure(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "failed", generation)
    report(other, paths, "b", "active", generation)
    outcome = wait(zk, paths, generation, Limits(2, 1), 10)
    assert (outcome.verdict, outcome.problem) == ((["b"], ["a"], []), None)


def test_an_agent_that_is_lost_is_no_longer_waited_for_and_is_named(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "fetching", generation)
    waiting = Waiting(zk, paths, generation, Limits(1, 0))
    # The wait watches b once it has read it, and only then gets an event when b is deleted.
    watching(zk, paths.agent("b"))
    other.delete(paths.agent("b"))
    outcome = waiting.end()
    assert (outcome.verdict.proved, outcome.lost, outcome.problem) == (["a"], ["b"], None)


def watching(client: KazooClient, path: str) -> None:
    """Wait until the client watches a path."""
    wait_for(lambda: client._data_watchers.get(path), f"{path} is watched")


def test_an_agent_that_is_late_is_named(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "fetching", generation, message="no route to host; tried again in 4 s")
    began = time.monotonic()
    outcome = wait(zk, paths, generation, Limits(1, 0), 0.3)
    assert 0.3 <= time.monotonic() - began < 3
    assert outcome.verdict.pending == ["b"]
    assert outcome.problem == ("not proved in time by 1 of 2: b is fetching (no route to host; tried again in 4 s)")


def test_a_fleet_that_stays_too_small_is_reported_with_its_size(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    outcome = wait(zk, paths, generation, Limits(3, 0), 0.1)
    assert outcome.problem == "published, but timed out waiting for agents: 0 live, at least 3 required"


def test_a_long_list_of_agents_is_cut_short(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    for number in range(8):
        report(other, paths, f"s{number}", "idle", None)
    outcome = wait(zk, paths, generation, Limits(1, 0), 0.1)
    assert str(outcome.problem).endswith("s0, s1, s2, s3, s4 and 3 more are idle")


def test_waiting_ends_when_another_release_is_published(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "fetching", generation)
    waiting = Waiting(zk, paths, generation, Limits(1, 0))
    watching(zk, paths.agent("a"))
    later = publish(other, paths, release(1, publisher="ann@controller"))
    problem = str(waiting.end().problem)
    assert problem.startswith("another release was published meanwhile, so this one is not waited for any more: ")
    assert f'{1:040x} is published by "ann@controller" since ' in problem
    assert problem.endswith(f", generation {later}")


@pytest.mark.parametrize("asks", [False, True])
def test_an_overtaken_wait_returns_the_newer_release(
    zk: KazooClient, other: KazooClient, paths: AppPaths, asks: bool
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "fetching", generation)
    given = {"verb": "pass", "by": "the gates", "reason": "", "moves": 1} if asks else None
    options = options_of(paths, _published={**published_before(generation, "a"), "moves": 1}, _command=given)
    later = publish(other, paths, release(2))
    with pytest.raises(ZooKeeperError) as caught:
        zk_release.wait_on(zk, options)
    assert caught.value.details["overtaken_by"] == {"commit_id": f"{2:040x}", "generation": later}
    other.delete(paths.config)
    with pytest.raises(ZooKeeperError) as caught:
        zk_release.wait_on(zk, options)
    assert caught.value.details["overtaken_by"] == {"commit_id": None, "generation": None}
    again = publish(zk, paths, release(1))
    options["_published"].update(generation=again)
    with pytest.raises(ZooKeeperError) as caught:
        zk_release.wait_on(zk, {**options, "wait_timeout": 0.1, "_command": None})
    assert "overtaken_by" not in caught.value.details


def test_only_the_publisher_records_that_a_release_is_proved(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "active", generation)
    options = {name: option.get("default") for name, option in zk_fleet_info.argument_spec().items()}
    assert zk_fleet_info.gather(zk, {**options, "app": paths.root, "wait_for_release": "desired"})["converged"]
    assert PROVED_AT not in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]
    zk_release.wait_on(zk, options_of(paths, _published=published_before(generation, "a")))
    assert PROVED_AT in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("states", "dies", "marked"),
    [
        ([], None, False),
        (["active"], None, True),
        (["active", "active"], "a1", False),
        (["active", "failed"], None, False),
    ],
)
def test_a_release_is_proved_only_by_a_fleet_that_is_and_stays_live(
    zk: KazooClient,
    other: KazooClient,
    paths: AppPaths,
    monkeypatch: pytest.MonkeyPatch,
    states: list[str],
    dies: str | None,
    marked: bool,
) -> None:
    for number in range(len(states)):
        report(other, paths, f"a{number}", "idle", None)

    def publish_and_go_on(*words: Any) -> int:
        generation = releases.publish(*words)
        for number, state in enumerate(states):
            report(other, paths, f"a{number}", state, generation)
        if dies:
            other.delete(paths.agent(dies))
        return generation

    monkeypatch.setattr(zk_release, "publish", publish_and_go_on)
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: f"{1:040x}")
    given = {"url": "https://example.org/x.git", "relative_path": "site", "min_agents": 0, "max_failures": 1}
    result = zk_release.converge(zk, options_of(paths, wait=True, **given), check=False)
    assert result["lost_agents"] == ([dies] if dies else [])
    (entry,) = read_history(zk, paths)
    assert entry.release
    assert (PROVED_AT in entry.release.extra) == marked


def test_a_host_that_was_missing_before_is_no_evidence_against_a_release(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "active", generation)
    zk.create(paths.roster_entry("gone"), b"{}", makepath=True)
    result = zk_release.wait_on(zk, options_of(paths, _published=published_before(generation, "a")))
    assert (result["missing_agents"], result["lost_agents"]) == (["gone"], [])
    assert PROVED_AT in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]


def test_a_release_is_not_proved_while_more_are_missing_than_may_be(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "active", generation)
    zk.create(paths.roster_entry("gone"), b"{}", makepath=True)
    options = options_of(paths, _published=published_before(generation, "a"), max_missing="0", wait_timeout=0.1)
    with pytest.raises(ZooKeeperError, match="published, but 1 of 2 are missing, expected at most 0: gone") as caught:
        zk_release.wait_on(zk, options)
    assert caught.value.details["timed_out"]
    assert PROVED_AT not in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]


def test_an_agent_live_only_before_the_wait_is_lost(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "active", generation)
    options = options_of(paths, _published=published_before(generation, "a", "gone"))
    assert zk_release.wait_on(zk, options)["lost_agents"] == ["gone"]


def test_a_lost_connection_is_waited_out(ensemble: Ensemble, other: KazooClient, paths: AppPaths) -> None:
    member = ensemble.members[0]
    with connected(f"127.0.0.1:{member.client_port}", timeout=10) as client:
        generation = publish(client, paths, release())
        report(other, paths, "a", "fetching", generation)
        waiting = Waiting(client, paths, generation, Limits(1, 0))
        watching(client, paths.agent("a"))
        for number in range(20):
            report(other, paths, "a", "fetching", generation, message=str(number))
            # The client may be closing it itself, because of the previous round.
            with contextlib.suppress(OSError):
                client._connection._socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: client.connected, "the client is connected again")
        report(other, paths, "a", "active", generation)
        outcome = waiting.end()
        assert (outcome.verdict.proved, outcome.problem) == (["a"], None)


class Losing:
    """A client that loses the connection at each of the first `times` requests of this name for `path`."""

    def __init__(self, client: KazooClient, request: str, path: str, times: int = 1) -> None:
        self._client = client
        self._lost = (request, path)
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return self._or_lost if name == self._lost[0] and self._left else getattr(self._client, name)

    def _or_lost(self, path: str, **words: Any) -> Any:
        request, lost = self._lost
        if path != lost:
            return getattr(self._client, request)(path, **words)
        self._left -= 1
        if not request.endswith("_async"):
            raise ConnectionLoss
        answer = self._client.handler.async_result()
        answer.set_exception(ConnectionLoss())
        return answer


@pytest.mark.parametrize(("request_name", "least"), [("get_children", 0), ("get_async", 1)])
def test_a_fleet_that_is_read_in_part_has_proved_nothing(
    zk: KazooClient, other: KazooClient, paths: AppPaths, request_name: str, least: int
) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "failed", generation, message="disk full")
    lost = paths.agents if request_name == "get_children" else paths.agent("b")
    outcome = wait(Losing(zk, request_name, lost), paths, generation, Limits(least, 0), 5)
    assert (outcome.verdict, outcome.lost) == ((["a"], ["b"], []), [])
    assert str(outcome.problem).startswith("not deployed on 1 of 2: b is failed (disk full)")


@pytest.mark.parametrize(("request_name", "seconds"), [("get_children_async", 0.0), ("get_async", 0.5)])
def test_an_outage_until_the_deadline_leaves_open_what_the_fleet_has_proved(
    zk: KazooClient, other: KazooClient, paths: AppPaths, request_name: str, seconds: float
) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "active", generation)
    client = Losing(zk, request_name, paths.agent("b") if seconds else paths.agents, times=1000)
    proof, earlier = ReleaseProof(paths.config, generation), EarlierWait(["a", "b"])
    with pytest.raises(ZooKeeperError, match=UNANSWERED):
        wait_for_fleet(client, paths, proof, Limits(1, 0), seconds, earlier)


def test_a_status_is_read_by_key_and_keeps_unknown_keys(zk: KazooClient, paths: AppPaths, other: KazooClient) -> None:
    other.create(
        paths.agent("a"), json.dumps({"state": "active", "generation": 3, "rack": "r1"}).encode(), makepath=True
    )
    zk.sync(paths.agents)
    found = read_agents(zk, paths)["a"]
    assert (found.name, found.extra) == ("a", {"rack": "r1"})


def proved(zk: KazooClient, paths: AppPaths, *numbers: int, mark: bool = True) -> None:
    """Publish releases, and mark each as proved unless `mark` is false."""
    for number in numbers:
        generation = publish(zk, paths, release(number))
        if mark:
            mark_proved(zk, paths, generation, "2026-11-28T12:00:00+00:00")


def roll_back(zk: KazooClient, paths: AppPaths, to: str | None = None) -> Release:
    """Publish as a rollback does, and return the desired release."""
    current = read_published(zk, paths).release
    target = rollback_target(read_history(zk, paths), current, to)
    if not target.same_as(current):
        publish(zk, paths, target)
    found = read_published(zk, paths).release
    assert found
    return found


def test_a_second_rollback_never_brings_the_bad_release_back(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1, 2)
    proved(zk, paths, 3, mark=False)
    for _time in range(3):
        found = roll_back(zk, paths)
        assert found.same_as(release(2))
        assert found.extra[ROLLED_BACK_FROM] == f"{3:040x}"
        generation = read_published(zk, paths).generation
        assert generation
        mark_proved(zk, paths, generation, "2026-11-28T12:00:01+00:00")
    assert len(read_history(zk, paths)) == 4
    assert roll_back(zk, paths, to=f"{1:040x}").same_as(release(1))
    assert roll_back(zk, paths).same_as(release(1))
    proved(zk, paths, 4, mark=False)
    found = roll_back(zk, paths)
    assert (found.commit_id, found.extra[ROLLED_BACK_FROM]) == (f"{1:040x}", f"{4:040x}")


def test_a_rollout_copied_from_another_ensemble_is_ignored(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release(1))
    begin_rollout(zk, paths, generation, release(1), True)
    record = zk.get(paths.rollout(generation))[0]
    zk.create(paths.rollout(2**60), record)
    assert list(read_rollouts(zk, paths)) == [generation]


@pytest.mark.parametrize("last", [60, 300])
def test_a_release_is_published_where_a_history_was_copied_by_its_names(
    zk: KazooClient, paths: AppPaths, last: int
) -> None:
    """The server numbers an entry by how many children its parent ever had, fewer here than in the other ensemble."""
    zk.create(paths.config, release(last).to_node(), makepath=True)
    zk.ensure_path(paths.history)
    for number in range(last - 49, last + 1):
        zk.create(f"{paths.history_prefix}{number - 1:010d}", release(number).to_node())
    for number in (last + 1, last + 2):
        publish(zk, paths, release(number))
        newest = read_history(zk, paths)[0]
        assert (newest.name, newest.release) == (f"release-{number - 1:010d}", release(number))


def test_the_newest_release_of_a_history_copied_in_one_transaction_counts(zk: KazooClient, paths: AppPaths) -> None:
    zk.ensure_path(paths.history)
    copies = zk.transaction()
    for number in range(1, 9):
        copies.create(paths.history_prefix, release(number, extra={PROVED_AT: "now"}).to_node(), sequence=True)
    copies.commit()
    stable = beginning(zk, paths, release(9), True).stable
    assert stable
    assert stable["commitId"] == f"{8:040x}"


def test_a_policy_created_in_the_transaction_of_a_release_does_not_apply_to_it(
    zk: KazooClient, paths: AppPaths
) -> None:
    zk.ensure_path(paths.root)
    copies = zk.transaction()
    copies.create(paths.policy, b'{"rollout": true}')
    copies.create(paths.config, release(1).to_node())
    copies.commit()
    generation = read_published(zk, paths).generation
    assert generation
    assert published_plan(zk, paths, release(1), generation) is None
    assert published_plan(zk, paths, release(1), generation + 1) is True


def test_the_proof_of_a_release_proves_no_other_that_was_copied_in_one_transaction_with_it(
    zk: KazooClient, paths: AppPaths
) -> None:
    """Then all entries of the history have the generation of `config`, and the newest one is the desired release."""
    zk.ensure_path(paths.history)
    newest = release(3, extra={PROVED_AT: "then"})
    copies = zk.transaction()
    copies.create(paths.config, newest.to_node())
    for entry in (release(1, extra={PROVED_AT: "then"}), release(2), newest):
        copies.create(paths.history_prefix, entry.to_node(), sequence=True)
    copies.commit()
    published = read_published(zk, paths)
    assert published.generation
    begin_rollout(zk, paths, published.generation, release(3), True)
    state = RolloutRecord.from_node(zk.get(paths.rollout(published.generation))[0])
    done = state.changed(phase=DONE, counts={**state.counts, PROVED: 1})
    zk.set(paths.rollout(published.generation), done.to_node())
    mark_proved(zk, paths, published.generation, "now")
    assert [entry.release.extra.get(PROVED_AT) for entry in read_history(zk, paths) if entry.release] == [
        "then",
        None,
        "then",
    ]
    assert zk_release.earlier_release(zk, paths, {"to": None}, published, None).same_as(release(1))


def proved_by_rollout(zk: KazooClient, paths: AppPaths, *, is_done: bool = True) -> int:
    """Publish release 1, which is proved, then 2 by `config` alone with a rollout; returns the generation of 2."""
    proved(zk, paths, 1)
    generation = zk.set(paths.config, release(2).to_node()).mzxid
    begin_rollout(zk, paths, generation, release(2), True)
    if is_done:
        state = RolloutRecord.from_node(zk.get(paths.rollout(generation))[0])
        zk.set(paths.rollout(generation), state.changed(phase=DONE, counts={**state.counts, PROVED: 1}).to_node())
    return int(generation)


@pytest.mark.parametrize(("is_proved", "to", "number"), [(True, None, 2), (True, f"{2:040x}", 2), (False, None, 1)])
def test_a_rollback_finds_a_release_without_history_by_its_rollout(
    zk: KazooClient, paths: AppPaths, is_proved: bool, to: str | None, number: int
) -> None:
    """A script that writes only `config` writes no history, but the policy applies to its release, too."""
    proved_by_rollout(zk, paths, is_done=is_proved)
    publish(zk, paths, release(3))
    target = zk_release.earlier_release(zk, paths, {"to": to}, read_published(zk, paths), None)
    assert target.same_as(release(number))
    assert target.extra[ROLLED_BACK_FROM] == f"{3:040x}"


def test_a_release_without_history_is_still_known_when_nothing_is_published(zk: KazooClient, paths: AppPaths) -> None:
    generation = proved_by_rollout(zk, paths)
    zk.delete(paths.config)
    history, done = known_releases(zk, paths)
    assert (history[0].release, done) == (release(2), [generation])
    # If others than publishers may create `config`, those who may write the history count as publishers.
    zk.set_acls(paths.history, [make_acl("world", "anyone", read=True), make_acl("digest", "publisher:x", all=True)])
    (entry,) = known_releases(zk, paths)[0]
    assert entry.release
    assert entry.release.same_as(release(1))


@pytest.mark.parametrize(("writes", "number"), [(True, 2), (False, 1)])
def test_a_rollback_trusts_no_rollout_of_somebody_who_may_only_create_one(
    zk: KazooClient, paths: AppPaths, writes: bool, number: int
) -> None:
    """Even if `config` has the same ACL: znodes whose creator may only create them do not count."""
    generation = proved_by_rollout(zk, paths)
    publish(zk, paths, release(3))
    reads = make_acl("world", "anyone", read=True)
    acl = [reads, make_acl("digest", "agent:x", read=True, create=True, write=writes)]
    for path in (paths.config, paths.rollouts, paths.rollout(generation)):
        zk.set_acls(path, acl)
    target = zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None)
    assert target.same_as(release(number))


def test_a_rollback_trusts_no_rollouts_that_anybody_may_have_created(zk: KazooClient, paths: AppPaths) -> None:
    """Even if everybody may create znodes in the application, but replace none: a creator chooses the znode's ACL."""
    proved(zk, paths, 1)
    generation = zk.set(paths.config, release(2).to_node()).mzxid
    begin_rollout(zk, paths, generation, release(2), True)
    state = RolloutRecord.from_node(zk.get(paths.rollout(generation))[0])
    zk.set(paths.rollout(generation), state.changed(phase=DONE, counts={**state.counts, PROVED: 1}).to_node())
    publish(zk, paths, release(3))
    publisher, reads = make_acl("digest", "publisher:x", all=True), make_acl("world", "anyone", read=True)
    for path in (paths.config, paths.rollouts, paths.rollout(generation)):
        zk.set_acls(path, [publisher, reads])
    zk.set_acls(paths.root, [publisher, make_acl("world", "anyone", read=True, create=True)])
    target = zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None)
    assert target.same_as(release(1))


def test_a_rollback_trusts_no_rollout_of_somebody_who_may_not_publish(zk: KazooClient, paths: AppPaths) -> None:
    generation = proved_by_rollout(zk, paths)
    publish(zk, paths, release(3))
    assert zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None).same_as(release(2))
    closed = [make_acl("world", "anyone", read=True), make_acl("digest", "publisher:x", all=True)]
    zk.set_acls(paths.config, closed)
    assert zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None).same_as(release(1))
    # If the directory was closed by hand, a rollout in it is as open as before.
    zk.set_acls(paths.rollouts, closed)
    assert zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None).same_as(release(1))
    with pytest.raises(InvalidRecord, match="history"):
        zk_release.earlier_release(zk, paths, {"to": f"{2:040x}"}, read_published(zk, paths), None)
    zk.set_acls(paths.rollout(generation), closed)
    assert zk_release.earlier_release(zk, paths, {"to": None}, read_published(zk, paths), None).same_as(release(2))


def test_no_rollback_goes_to_a_rolled_back_release_until_it_is_proved_again(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1, 2)
    assert roll_back(zk, paths).same_as(release(1)), "which no fleet proves in time"
    proved(zk, paths, 3, mark=False)
    assert roll_back(zk, paths).same_as(release(1))
    proved(zk, paths, 2)
    proved(zk, paths, 4, mark=False)
    assert roll_back(zk, paths).same_as(release(2))
    assert roll_back(zk, paths, to=f"{1:040x}").same_as(release(1))
    proved(zk, paths, 5, mark=False)
    assert roll_back(zk, paths).same_as(release(1))
    assert roll_back(zk, paths, to=f"{2:040x}").same_as(release(2)), "by its name"
    proved(zk, paths, 6, mark=False)
    with pytest.raises(InvalidRecord, match=r"proved by a whole fleet and kept since at site; name one with to$"):
        roll_back(zk, paths)


def test_a_rollback_goes_to_another_commit_whatever_the_addresses(zk: KazooClient, paths: AppPaths) -> None:
    """For example, the hook and deploy.yml may have different addresses of the repository."""
    proved(zk, paths, 1, 2)
    again = replace(release(2), url="ssh://git@git.example.org/site.git")
    mark_proved(zk, paths, publish(zk, paths, again), "2026-11-28T12:00:00+00:00")
    back = roll_back(zk, paths)
    assert back.same_as(release(1))
    assert back.extra[ROLLED_BACK_FROM] == again.commit_id
    assert roll_back(zk, paths).same_as(release(1))


def test_a_rollback_keeps_the_path_of_the_desired_release(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1)
    elsewhere = replace(release(9), relative_path="admin")
    mark_proved(zk, paths, publish(zk, paths, elsewhere), "2026-11-28T12:00:00+00:00")
    proved(zk, paths, 2, mark=False)
    assert roll_back(zk, paths).same_as(release(1))


def test_a_rollback_goes_to_a_release_at_another_path_only_by_name(zk: KazooClient, paths: AppPaths) -> None:
    elsewhere = replace(release(9), relative_path="admin")
    mark_proved(zk, paths, publish(zk, paths, elsewhere), "2026-11-28T12:00:00+00:00")
    proved(zk, paths, 2, mark=False)
    with pytest.raises(InvalidRecord, match=r"by a whole fleet and kept since at site; name one with to$"):
        roll_back(zk, paths)
    assert roll_back(zk, paths, to=f"{9:040x}").same_as(elsewhere)


def test_a_rollback_to_a_commit_published_at_two_paths_keeps_the_desired_path(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1)
    elsewhere = replace(release(1), relative_path="admin")
    publish(zk, paths, elsewhere)
    proved(zk, paths, 2, mark=False)
    (entry,) = (entry.name for entry in read_history(zk, paths) if elsewhere.same_as(entry.release))
    assert roll_back(zk, paths, to=f"{1:040x}").same_as(release(1))
    assert roll_back(zk, paths, to=entry).same_as(elsewhere)


def test_the_desired_release_is_not_a_rollback_from_itself(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1)
    proved(zk, paths, 2, mark=False)
    current = read_published(zk, paths).release
    assert rollback_target(read_history(zk, paths), current, f"{2:040x}") == current
    assert roll_back(zk, paths).same_as(release(1))


def test_where_the_desired_release_is_deleted_a_rollback_is_from_the_last_published_one(
    zk: KazooClient, paths: AppPaths
) -> None:
    """Like any other rollback it has no steps, and a second one goes no further back."""
    proved(zk, paths, 1, 2)
    publish(zk, paths, replace(release(3), extra={ROLLOUT: {"maxInFlight": 5}}))
    zk.delete(paths.config)
    found = roll_back(zk, paths)
    assert (found.commit_id, found.extra[ROLLED_BACK_FROM]) == (f"{2:040x}", f"{3:040x}")
    assert found.extra[ROLLOUT] == {"maxInFlight": 5}
    for _time in range(2):
        assert roll_back(zk, paths) == found
        zk.delete(paths.config)
    assert roll_back(zk, paths) == found, "the rollback itself is published anew"
    assert roll_back(zk, paths, to=f"{1:040x}").extra[ROLLED_BACK_FROM] == f"{2:040x}"


def test_where_the_desired_release_is_deleted_and_was_proved_it_is_published_again(
    zk: KazooClient, paths: AppPaths
) -> None:
    proved(zk, paths, 1, 2)
    zk.delete(paths.config)
    found = roll_back(zk, paths)
    assert found.same_as(release(2))
    assert not {ROLLED_BACK_FROM, PROVED_AT} & set(found.extra)


def test_a_commit_may_be_given_in_capitals(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 0xABCDEF, 2)
    assert roll_back(zk, paths, to=f"{0xABCDEF:040X}").same_as(release(0xABCDEF))


def test_a_rollback_goes_to_an_unproved_release_only_by_name(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1, 2, mark=False)
    with pytest.raises(InvalidRecord, match="no other release in the history has been proved by a whole fleet"):
        roll_back(zk, paths)
    assert roll_back(zk, paths, to=f"{1:040x}").same_as(release(1))


def test_the_beginning_of_several_commits_names_none_of_them(zk: KazooClient, paths: AppPaths) -> None:
    proved(zk, paths, 1, 2)
    with pytest.raises(InvalidRecord, match=r"^to: 0{20} is the beginning of 2 commits, 0+1 and 0+2; give more of it$"):
        roll_back(zk, paths, to="0" * 20)


def test_a_history_that_can_not_be_trimmed_is_no_failure_of_the_publication(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: Any) -> None:
        raise ZooKeeperError("the connection was lost")

    monkeypatch.setattr(releases, "_trim_history", fail)
    generation = publish(zk, paths, release(1))
    assert read_published(zk, paths).generation == generation


@pytest.mark.parametrize(
    ("policy", "first", "second", "is_told"),
    [
        (None, {"steps": [{"hosts": 1}]}, {"maxInFlight": 2}, True),
        (None, {"maxInFlight": 1}, True, False),
        (None, True, None, False),
        (None, None, False, False),
        (None, None, True, True),
        ({"rollout": True}, None, {"maxInFlight": 1}, False),
        ({"rollout": True}, None, False, True),
    ],
)
def test_another_plan_for_the_desired_release_changes_nothing_and_is_reported(
    zk: KazooClient, paths: AppPaths, repository: GitRepository, policy: Any, first: Any, second: Any, is_told: bool
) -> None:
    if policy:
        zk.create(paths.policy, json.dumps(policy).encode(), makepath=True)
    options = {name: option.get("default") for name, option in zk_release.argument_spec().items()}
    named = {"app": paths.root, "url": repository.url, "relative_path": "site", "ref": repository.head, "wait": False}
    made = zk_release.converge(zk, {**options, **named, "rollout": first}, check=False)
    assert "kept_plan" not in made
    for check in (True, False):
        again = zk_release.converge(zk, {**options, **named, "rollout": second}, check=check)
        assert (again["changed"], again["release"]) == (False, made["release"])
        told = f"{repository.head} is desired already, and its rollout keeps its plan; force publishes it anew, with "
        assert again.get("kept_plan") == (f"{told}this one" if is_told else None)
    forced = zk_release.converge(zk, {**options, **named, "rollout": second, "force": True}, check=False)
    assert (forced["changed"], forced["release"].get("rollout"), "kept_plan" in forced) == (True, second, False)


class Cut:
    """A client that loses its connection as soon as a transaction has been answered."""

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self._is_cut = False

    def __getattr__(self, name: str) -> Any:
        if self._is_cut and name.startswith(("get", "exists", "delete")):
            raise ConnectionLoss
        return getattr(self._client, name)

    def transaction(self) -> Any:
        """The client's own, after whose answer every read or deletion fails."""
        request = self._client.transaction()
        commit = request.commit

        def commit_and_cut() -> Any:
            results = commit()
            self._is_cut = True
            return results

        request.commit = commit_and_cut
        return request


def test_a_connection_that_is_lost_after_a_publication_is_no_failure_of_it(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(Cut(zk), paths, release(1))
    assert read_published(zk, paths).generation == generation
