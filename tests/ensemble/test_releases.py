"""Publishing a release, its history, and the fleet that proves it, in a real ensemble."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.protocol.states import ZnodeStat
from kazoo.security import make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import releases
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import read_agents, wait_for_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import Limits, Verdict, WaitResult
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    PROVED,
    ROLLED_BACK_FROM,
    Published,
    ReleaseProof,
    begin_anew,
    mark_proved,
    read_history,
    read_published,
    rollback_target,
)
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info, zk_release
from support.agent_status import report
from support.client import connected
from support.ensemble import Ensemble
from support.waiting import wait_for


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application of this test's own."""
    return AppPaths(app)


def release(number: int = 0, **keys: Any) -> Release:
    """A release, another one for each number."""
    return Release(url="https://example.org/x.git", commit_id=f"{number:040x}", relative_path="site", **keys)


def publish(client: KazooClient, paths: AppPaths, what: Release) -> int:
    """Publish a release, whatever is published."""
    return begin_anew(lambda: releases.publish(client, paths, what, read_published(client, paths)))


def wait(client: KazooClient, paths: AppPaths, generation: int, limits: Limits, seconds: float) -> WaitResult:
    """Wait for a fleet to prove a generation."""
    return wait_for_fleet(client, paths, ReleaseProof(paths.config, generation), limits, seconds)


def judge(agents: dict[str, AgentStatus], generation: int) -> Verdict:
    """Sort a fleet by what it says of a generation."""
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


def test_what_is_published_is_read_again_with_the_generation_of_its_znode(zk: KazooClient, paths: AppPaths) -> None:
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


def test_what_somebody_else_keeps_beside_the_history_stays(
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
def test_a_publisher_that_was_overtaken_publishes_anew(
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


def test_a_publisher_that_is_overtaken_every_time_says_so_and_changes_nothing(
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
        match=f"^{paths.config}: changed meanwhile: 0+2 is published .* in each of [0-9]+ tries; publish again",
    ):
        publish(zk, paths, release(3))
    monkeypatch.undo()
    assert release(3) not in [entry.release for entry in read_history(zk, paths)]


class Slow:
    """A git server that takes its time: somebody else acts before each of its first `turns` answers."""

    def __init__(self, act: Callable[[], Any], turns: int = 1) -> None:
        self.asked = 0
        self._act = act
        self._turns = turns

    def resolve(self, _url: str, _ref: str) -> str:
        """The commit, another one each time."""
        self.asked += 1
        if self.asked <= self._turns:
            self._act()
        return f"{100 + self.asked:040x}"


def options_of(paths: AppPaths, **given: Any) -> dict[str, Any]:
    """The options of a zk_release that does not wait, or of another wait for it."""
    options = {name: option.get("default") for name, option in zk_release.argument_spec().items()}
    return {**options, "app": paths.root, "ref": "main", "wait": False, "wait_timeout": 30.0, **given}


def published_before(generation: int, *agents: str) -> dict[str, Any]:
    """What the controller says of a publication that is waited for."""
    return {"generation": generation, "commit_id": f"{1:040x}", "agents": list(agents), "left": 30.0, "stuck": 0.0}


def test_a_slow_publisher_reads_and_decides_anew_after_another_one(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    server = Slow(lambda: publish(other, paths, release(2)))
    monkeypatch.setattr(zk_release, "resolve", server.resolve)
    result = zk_release.converge(zk, options_of(paths), check=False)
    assert (result["changed"], result["commit_id"]) == (True, f"{102:040x}")
    assert json.loads(result["diff"]["before"])["commitId"] == f"{2:040x}"
    assert len(read_history(zk, paths)) == 3


def test_what_another_one_has_published_meanwhile_is_no_change_of_ours(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(zk, paths, release(1))
    server = Slow(lambda: publish(other, paths, release(102)))
    monkeypatch.setattr(zk_release, "resolve", server.resolve)
    result = zk_release.converge(zk, options_of(paths), check=False)
    assert (result["changed"], result["generation"]) == (False, read_published(zk, paths).generation)
    assert result["diff"]["before"] == result["diff"]["after"]


@pytest.mark.parametrize("deed", ["publish", "delete and create"])
def test_who_names_what_must_be_desired_loses_to_who_was_faster(
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


def test_what_an_agent_gave_up_is_published_again_by_force(
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


def test_nothing_that_is_published_is_no_commit_that_must_be_desired(zk: KazooClient, paths: AppPaths) -> None:
    with pytest.raises(ZooKeeperError, match=r'only_if expects "\d+", but no release is published'):
        releases.check_only_if(paths, read_published(zk, paths), f"{1:040x}")


def test_who_expects_that_nothing_is_published_publishes_first_or_not_at_all(zk: KazooClient, paths: AppPaths) -> None:
    releases.check_only_if(paths, read_published(zk, paths), releases.NOTHING)
    publish(zk, paths, release(1))
    with pytest.raises(ZooKeeperError, match='only_if expects "none", but'):
        releases.check_only_if(paths, read_published(zk, paths), releases.NOTHING)


def test_a_release_of_more_than_a_megabyte_is_refused_and_the_old_one_stays(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: [0-9]+ bytes, more than a znode takes"):
        publish(zk, paths, release(1, extra={"padding": "x" * 1_000_000}))
    assert read_published(zk, paths).generation == generation


def test_publishing_without_permission_names_the_path_and_changes_nothing(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    zk.set_acls(paths.config, [make_acl("world", "anyone", read=True)])
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: permission denied"):
        publish(zk, paths, release(1))
    assert read_published(zk, paths).generation == generation
    assert len(read_history(zk, paths)) == 1


def test_a_history_that_may_not_be_written_keeps_the_release_back(zk: KazooClient, paths: AppPaths) -> None:
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
def test_an_agent_has_proved_a_generation_given_up_on_it_or_is_at_it(
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


def test_an_agent_that_goes_is_waited_for_no_more_and_named(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "fetching", generation)
    waiting = Waiting(zk, paths, generation, Limits(1, 0))
    # The wait watches b once it has read it, and only then is its end an event.
    watching(zk, paths.agent("b"))
    other.delete(paths.agent("b"))
    outcome = waiting.end()
    assert (outcome.verdict.proved, outcome.lost, outcome.problem) == (["a"], ["b"], None)


def watching(client: KazooClient, path: str) -> None:
    """Wait until the client watches a path."""
    wait_for(lambda: client._data_watchers.get(path), f"{path} is watched")


def test_who_is_not_there_in_time_is_named(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    report(other, paths, "a", "active", generation)
    report(other, paths, "b", "fetching", generation, message="no route to host; tried again in 4 s")
    began = time.monotonic()
    outcome = wait(zk, paths, generation, Limits(1, 0), 0.3)
    assert 0.3 <= time.monotonic() - began < 3
    assert outcome.verdict.pending == ["b"]
    assert outcome.problem == ("not proved in time by 1 of 2: b is fetching (no route to host; tried again in 4 s)")


def test_a_fleet_that_is_too_small_in_time_is_named_by_its_size(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths, release())
    outcome = wait(zk, paths, generation, Limits(3, 0), 0.1)
    assert outcome.problem == "published, but 0 agents are live in time, expected at least 3"


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


def test_only_who_publishes_notes_that_a_release_is_proved(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    generation = publish(zk, paths, release(1))
    report(other, paths, "a", "active", generation)
    options = {name: option.get("default") for name, option in zk_fleet_info.argument_spec().items()}
    assert zk_fleet_info.gather(zk, {**options, "app": paths.root, "wait_for_release": "desired"})["converged"]
    assert PROVED not in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]
    zk_release.wait_on(zk, options_of(paths, _published=published_before(generation, "a")))
    assert PROVED in read_history(zk, paths)[0].release.extra  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("states", "dies", "marked"),
    [
        ([], None, False),
        (["active"], None, True),
        (["active", "active"], "a1", False),
        (["active", "failed"], None, False),
    ],
)
def test_a_release_is_proved_only_by_a_fleet_that_is_there_and_stays(
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
    assert (PROVED in entry.release.extra) == marked


def test_who_was_live_before_the_wait_and_is_not_is_lost(zk: KazooClient, other: KazooClient, paths: AppPaths) -> None:
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
            # The client may be about to close it itself, as the round before has it.
            with contextlib.suppress(OSError):
                client._connection._socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: client.connected, "the client is connected again")
        report(other, paths, "a", "active", generation)
        outcome = waiting.end()
        assert (outcome.verdict.proved, outcome.problem) == (["a"], None)


def test_a_status_is_read_by_key_and_keeps_what_it_does_not_know(
    zk: KazooClient, paths: AppPaths, other: KazooClient
) -> None:
    other.create(
        paths.agent("a"), json.dumps({"state": "active", "generation": 3, "rack": "r1"}).encode(), makepath=True
    )
    found = read_agents(zk, paths)["a"]
    assert (found.name, found.extra) == ("a", {"rack": "r1"})


def proved(zk: KazooClient, paths: AppPaths, *numbers: int, mark: bool = True) -> None:
    """Publish releases, which a fleet proves where they are to be marked."""
    for number in numbers:
        generation = publish(zk, paths, release(number))
        if mark:
            mark_proved(zk, paths, generation, "2026-11-28T12:00:00+00:00")


def roll_back(zk: KazooClient, paths: AppPaths, to: str | None = None) -> Release:
    """Publish what a rollback publishes; the desired release then."""
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
    assert (found.commit_id, found.extra[ROLLED_BACK_FROM]) == (f"{2:040x}", f"{4:040x}")


def test_what_no_fleet_has_proved_is_gone_back_to_only_by_name(zk: KazooClient, paths: AppPaths) -> None:
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


class Cut:
    """A client that loses its connection as soon as a transaction was answered."""

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self._is_cut = False

    def __getattr__(self, name: str) -> Any:
        if self._is_cut and name.startswith(("get", "exists", "delete")):
            raise ConnectionLoss
        return getattr(self._client, name)

    def transaction(self) -> Any:
        """The client's own; it is the last that is answered."""
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
