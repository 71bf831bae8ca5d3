"""The lock of an application in a real ensemble: its holder, and the publications that it prevents."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError
from kazoo.security import make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import lock as locks
from ansible_collections.zoo.deploy.plugins.module_utils import rollout_steering
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.lock import FREE, Locked, LockRecord, read_lock
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    begin_anew,
    publish,
    read_history,
    read_published,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from ansible_collections.zoo.deploy.plugins.modules import zk_lock, zk_release, zk_release_info
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.waiting import wait_for

SINCE = "2026-11-29T07:00:00+00:00"


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


def release(number: int) -> Release:
    """A release, a different one for each number."""
    return Release("https://example.org/x.git", f"{number:040x}", "site", ref="main")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A git server, as the number of its branch's commit."""
    at = [1]
    monkeypatch.setattr(zk_release, "resolve", lambda _url, _ref: f"{at[0]:040x}")
    return at


def set_lock(client: KazooClient, paths: AppPaths, check: bool = False, **given: Any) -> dict[str, Any]:
    """Run the module to lock."""
    options = {name: spec.get("default") for name, spec in zk_lock.argument_spec().items()}
    return zk_lock.converge(client, {**options, "app": paths.root, "by": "ann", "reason": "migration", **given}, check)


def unlock(client: KazooClient, paths: AppPaths, **given: Any) -> dict[str, Any]:
    """Run the module to unlock."""
    return set_lock(client, paths, state="absent", **given)


def options_of(paths: AppPaths, **given: Any) -> dict[str, Any]:
    """The options of a zk_release that does not wait for the fleet."""
    options = {name: spec.get("default") for name, spec in zk_release.argument_spec().items()}
    given = {"url": "https://example.org/x.git", "ref": "main", "relative_path": "site", "wait": False, **given}
    return {**options, "app": paths.root, **given}


def deploy(client: KazooClient, paths: AppPaths, check: bool = False, **given: Any) -> dict[str, Any]:
    """Run zk_release."""
    return zk_release.converge(client, options_of(paths, **given), check)


def steer(client: KazooClient, paths: AppPaths, state: str, check: bool = False, **given: Any) -> dict[str, Any]:
    """Run zk_release to steer a rollout."""
    return zk_release.steer(client, {**options_of(paths), "ref": None, "state": state, **given}, check)


def commits(client: KazooClient, paths: AppPaths) -> list[int]:
    """The published commits, the newest first."""
    return [int(entry.release.commit_id, 16) for entry in read_history(client, paths) if entry.release]


def in_seconds(seconds: float) -> str:
    """The time that many seconds from now."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def write(client: KazooClient, paths: AppPaths, **keys: Any) -> None:
    """Write the lock, regardless of its content."""
    data = LockRecord(**{"reason": "migration", "by": "ann", "since": SINCE, **keys}).to_node()
    client.ensure_path(paths.lock)
    client.set(paths.lock, data)


class Doing:
    """An action in a thread of its own."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.outcomes: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(act,), daemon=True)
        self._thread.start()

    def _run(self, act: Callable[[], Any]) -> None:
        try:
            self.outcomes.append(act())
        except ZooKeeperError as exc:
            self.outcomes.append(exc)

    def end(self) -> Any:
        """Its outcome."""
        self._thread.join(30)
        return self.outcomes[0]


def watching(client: KazooClient, path: str) -> None:
    """Wait until the client watches a path."""
    wait_for(lambda: client._data_watchers.get(path), f"{path} is watched")


def test_a_lock_is_taken_kept_and_released(zk: KazooClient, paths: AppPaths) -> None:
    taken = set_lock(zk, paths)
    assert (taken["changed"], "broken" in taken) == (True, False)
    assert json.loads(zk.get(paths.lock)[0]) == {key: taken["lock"][key] for key in ("reason", "by", "since")}
    assert taken["msg"] == f"{paths.lock}: locked by ann since {taken['lock']['since']} without an end: migration"
    assert (taken["diff"]["before"], json.loads(taken["diff"]["after"])["by"]) == ("", "ann")
    kept = set_lock(zk, paths)
    assert (kept["changed"], kept["lock"]["since"]) == (False, taken["lock"]["since"])
    assert set_lock(zk, paths, expires_after="1h")["changed"]
    given_back = unlock(zk, paths)
    assert (given_back["changed"], given_back["lock"], "broken" in given_back) == (True, None, False)
    assert given_back["msg"] == f"{paths.lock}: not locked"
    assert zk.get(paths.lock)[0] == FREE
    assert not unlock(zk, paths)["changed"]


def test_check_mode_returns_the_same_and_writes_nothing(zk: KazooClient, paths: AppPaths) -> None:
    told = set_lock(zk, paths, check=True)
    assert (told["changed"], told["lock"]["by"], zk.exists(paths.root)) == (True, "ann", None)
    set_lock(zk, paths)
    before = zk.get(paths.lock)
    assert unlock(zk, paths, check=True)["changed"]
    with pytest.raises(Locked):
        set_lock(zk, paths, check=True, by="bob")
    assert set_lock(zk, paths, check=True, by="bob", force=True)["broken"]["by"] == "ann"
    assert zk.get(paths.lock) == before


def test_somebody_elses_lock_is_broken_only_by_force_and_reported(zk: KazooClient, paths: AppPaths) -> None:
    since = set_lock(zk, paths)["lock"]["since"]
    held = f"{paths.lock}: locked by ann since {since} without an end: migration; nothing is changed; "
    for act, advice in ((set_lock, "force takes it over"), (unlock, "force unlocks it all the same")):
        with pytest.raises(Locked) as caught:
            act(zk, paths, by="bob")
        assert str(caught.value) == held + advice
        assert read_lock(zk, paths).record == LockRecord("migration", "ann", since)
    taken = set_lock(zk, paths, by="bob", force=True)
    assert (taken["broken"]["by"], taken["lock"]["by"]) == ("ann", "bob")
    broken = unlock(zk, paths, force=True)
    assert (broken["broken"]["by"], broken["lock"]) == ("bob", None)


def test_an_expired_lock_is_free_for_anybody_and_reported_as_expired(zk: KazooClient, paths: AppPaths) -> None:
    write(zk, paths, until=in_seconds(-5))
    told = zk_release_info.gather(zk, paths.root)["lock"]
    assert told["expired"]
    assert told["says"].startswith(f"the lock of ann since {SINCE} expired at ")
    taken = set_lock(zk, paths, by="bob")
    assert (taken["changed"], taken["lock"]["by"], "broken" in taken) == (True, "bob", False)


def test_one_of_many_concurrent_lockers_wins(ensemble: Ensemble, zk: KazooClient, paths: AppPaths) -> None:
    names = [f"p{number}" for number in range(6)]

    def attempt(name: str) -> dict[str, Any]:
        with connected(ensemble.hosts) as client:
            return set_lock(client, paths, by=name)

    for _round in range(3):
        outcomes = [one.end() for one in [Doing(functools.partial(attempt, name)) for name in names]]
        won = [one for one in outcomes if not isinstance(one, ZooKeeperError)]
        assert len(won) == 1, outcomes
        lost = [one for one in outcomes if isinstance(one, Locked)]
        assert len(lost) == len(names) - 1, outcomes
        holder = won[0]["lock"]["by"]
        assert all(f"locked by {holder} since" in str(one) for one in lost)
        unlock(zk, paths, by=holder)


@pytest.mark.parametrize("made", [False, True], ids=["no znode", "a free lock"])
@pytest.mark.usefixtures("server")
def test_a_locked_out_publisher_publishes_nothing_and_is_told_why(zk: KazooClient, paths: AppPaths, made: bool) -> None:
    if made:
        assert deploy(zk, paths)["changed"]
        assert zk.get(paths.lock)[0] == FREE
    given: dict[str, Any] = {} if made else {"expires_at": in_seconds(600)}
    set_lock(zk, paths, **given)
    before = read_published(zk, paths)
    says = read_lock(zk, paths).describe(datetime.now(timezone.utc))
    for check in (False, True):
        with pytest.raises(Locked) as caught:
            deploy(zk, paths, check=check, relative_path="elsewhere")
        wanted = "nothing is published; wait for it (lock_timeout), or publish in spite of it (force)"
        assert str(caught.value) == f"{paths.lock}: {says}; {wanted}"
        assert caught.value.details["lock"]["by"] == "ann"
    assert (read_published(zk, paths), len(commits(zk, paths))) == (before, int(made))
    unlock(zk, paths)
    assert deploy(zk, paths, relative_path="elsewhere")["changed"]


def test_a_release_that_is_already_desired_needs_no_lock(zk: KazooClient, paths: AppPaths, server: list[int]) -> None:
    deploy(zk, paths)
    set_lock(zk, paths)
    assert not deploy(zk, paths)["changed"]
    server[0] = 2
    with pytest.raises(Locked):
        deploy(zk, paths)


def before_it_publishes(zk: KazooClient, monkeypatch: pytest.MonkeyPatch, locks: Callable[[], object]) -> None:
    """Have somebody lock after the publisher has checked the lock, unless it is held."""

    def lock_first(path: str) -> Any:
        with contextlib.suppress(Locked):
            locks()
        return zk_exists(path)

    zk_exists = zk.exists
    monkeypatch.setattr(zk, "exists", lock_first)


@pytest.mark.parametrize("made", [False, True], ids=["no znode", "a free lock"])
@pytest.mark.usefixtures("server")
def test_a_lock_taken_between_check_and_publication_is_not_missed(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    if made:
        set_lock(zk, paths)
        unlock(zk, paths)
    before_it_publishes(zk, monkeypatch, lambda: set_lock(other, paths, by="bob"))
    with pytest.raises(Locked, match="locked by bob since"):
        deploy(zk, paths)
    assert commits(zk, paths) == []


@pytest.mark.usefixtures("server")
def test_a_lock_released_and_taken_again_between_the_two_is_not_missed(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(zk, paths, until=in_seconds(-5))

    def lock_anew() -> None:
        unlock(other, paths, by="bob")
        set_lock(other, paths, by="bob")

    before_it_publishes(zk, monkeypatch, lock_anew)
    with pytest.raises(Locked, match="locked by bob since"):
        deploy(zk, paths)
    assert commits(zk, paths) == []


@pytest.mark.usefixtures("server")
def test_force_publishes_past_a_lock_keeps_it_and_names_its_holder(zk: KazooClient, paths: AppPaths) -> None:
    set_lock(zk, paths)
    before = zk.get(paths.lock)
    result = deploy(zk, paths, force=True)
    assert result["overridden_lock"]["by"] == "ann"
    assert (commits(zk, paths), zk.get(paths.lock)) == ([1], before)
    unlock(zk, paths)
    assert "overridden_lock" not in deploy(zk, paths, force=True)


@pytest.mark.parametrize("data", [b"freeze", b"\xff", b"{}", b'{"reason": "x", "by": "ann", "since": "s", "until": 1}'])
@pytest.mark.usefixtures("server")
def test_a_malformed_lock_locks_out(zk: KazooClient, paths: AppPaths, data: bytes) -> None:
    zk.create(paths.lock, data, makepath=True)
    with pytest.raises(
        Locked, match=f"^{paths.lock}: locked, but who holds the lock and why can't be read: "
    ) as caught:
        deploy(zk, paths)
    assert "\n" not in str(caught.value)
    told = zk_release_info.gather(zk, paths.root)["lock"]
    assert (told["by"], told["expired"], bool(told["problem"])) == (None, False, True)
    with pytest.raises(Locked):
        unlock(zk, paths)
    assert unlock(zk, paths, force=True)["changed"]
    assert deploy(zk, paths)["changed"]


@pytest.mark.usefixtures("server")
def test_a_lock_that_may_not_be_read_prevents_publications_but_no_rollback(
    zk: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    deploy(zk, paths)
    server[0] = 2
    deploy(zk, paths)
    zk.set_acls(paths.lock, [make_acl("world", "anyone", admin=True)])
    server[0] = 3
    with pytest.raises(
        Locked, match=f"^{paths.lock}: whether somebody holds the lock can't be read: permission denied"
    ):
        deploy(zk, paths)
    with pytest.raises(ZooKeeperError, match=rf"^{paths.lock}: permission denied \(NoAuth\)"):
        deploy(zk, paths, lock_timeout=5.0)
    assert "permission denied" in zk_release_info.gather(zk, paths.root)["lock"]["problem"]
    zk_release.converge(zk, {**options_of(paths), "ref": None, "state": "rolled_back", "to": f"{1:040x}"}, False)
    assert commits(zk, paths) == [1, 2, 1]
    forced = deploy(zk, paths, force=True)
    assert "permission denied" in forced["overridden_lock"]["problem"]
    assert commits(zk, paths) == [3, 1, 2, 1]


def test_a_lock_prevents_promotion_but_no_rollback_pause_or_halt(
    zk: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    deploy(zk, paths)
    server[0] = 2
    deploy(zk, paths, rollout={"steps": [{"hosts": 1}]})
    set_lock(zk, paths)
    assert steer(zk, paths, "paused")["changed"]
    for check in (False, True):
        with pytest.raises(Locked, match=r"migration; not promoted; wait for it \(lock_timeout\), or promote in spite"):
            steer(zk, paths, "promoted", check=check)
    assert steer(zk, paths, "paused")["msg"] == "it is paused already"
    assert steer(zk, paths, "promoted", force=True)["overridden_lock"]["by"] == "ann"
    assert steer(zk, paths, "halted")["changed"]
    back = zk_release.converge(zk, {**options_of(paths), "ref": None, "state": "rolled_back", "to": f"{1:040x}"}, False)
    assert (back["changed"], "overridden_lock" in back) == (True, False)
    assert commits(zk, paths) == [1, 2, 1]


def test_a_command_that_changes_nothing_does_not_begin_a_rollout(
    zk: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    deploy(zk, paths)
    server[0] = 2
    deploy(zk, paths, rollout=True)
    idle = steer(zk, paths, "promoted")
    assert (idle["changed"], idle["msg"], zk.exists(paths.rollouts)) == (False, "the last step is open already", None)
    paused = steer(zk, paths, "paused")
    assert (paused["changed"], zk.get_children(paths.rollouts)) == (True, [str(paused["generation"])])


def test_a_reason_that_is_too_long_is_refused(ensemble: Ensemble, paths: AppPaths) -> None:
    given: dict[str, Any] = {"hosts": ensemble.hosts, "app": paths.root, "state": "paused", "reason": "x" * 501}
    said = run_module(ROOT / "plugins/modules/zk_release.py", **given)["msg"]
    assert said == "reason: expected at most 500 characters, got 501"


def test_a_lock_taken_between_check_and_promotion_is_not_missed(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(zk, paths)
    server[0] = 2
    deploy(zk, paths, rollout={"steps": [{"hosts": 1}]})
    steer(zk, paths, "paused")

    def lock_after(*words: Any, **keys: Any) -> None:
        locks.check_free(*words, **keys)
        with contextlib.suppress(Locked):
            set_lock(other, paths, by="bob")

    monkeypatch.setattr(rollout_steering, "check_free", lock_after)
    with pytest.raises(Locked, match="locked by bob since"):
        steer(zk, paths, "promoted")
    assert steer(zk, paths, "paused")["msg"] == "it is paused already"


def test_a_publisher_waiting_for_a_lock_publishes_as_soon_as_it_is_released(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    set_lock(zk, paths)
    waiting = Doing(lambda: deploy(zk, paths, lock_timeout=30.0))
    watching(zk, paths.lock)
    # It is still locked after this, by somebody else.
    set_lock(other, paths, by="bob", force=True)
    server[0] = 5
    wait_for(lambda: zk._data_watchers.get(paths.lock), "it is watched again")
    assert (waiting.outcomes, commits(other, paths)) == ([], [])
    unlock(other, paths, by="bob")
    assert waiting.end()["changed"]
    # The commit of the branch by then.
    assert commits(zk, paths) == [5]


def test_a_promotion_waits_for_a_lock_too(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    deploy(zk, paths)
    server[0] = 2
    deploy(zk, paths, rollout={"steps": [{"hosts": 1}]})
    steer(zk, paths, "paused")
    set_lock(zk, paths)
    waiting = Doing(lambda: steer(zk, paths, "promoted", lock_timeout=30.0))
    watching(zk, paths.lock)
    unlock(other, paths)
    assert waiting.end()["rollout"]["phase"] == "running"


THREE_STEPS = {"from": f"{1:040x}", "steps": [{"hosts": 1, "pause": True}, {"hosts": 2, "pause": True}]}


def pause_in_the_first_step(client: KazooClient, paths: AppPaths, server: list[int]) -> None:
    """Publish the server's commit, then the next one with a plan, and pause its rollout."""
    deploy(client, paths)
    server[0] = 2
    deploy(client, paths, rollout=THREE_STEPS)
    steer(client, paths, "paused")


def test_a_promotion_that_waited_for_a_lock_opens_no_later_step(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    pause_in_the_first_step(zk, paths, server)
    set_lock(zk, paths)
    waiting = Doing(lambda: steer(zk, paths, "promoted", lock_timeout=30.0))
    watching(zk, paths.lock)
    assert steer(other, paths, "promoted", force=True, publisher="bob")["rollout"]["step"] == 1
    unlock(other, paths)
    late = waiting.end()
    assert (late["changed"], late["msg"].partition(":")[0]) == (False, "it was promoted by bob already")
    assert steer(other, paths, "paused")["rollout"]["step"] == 1


def test_a_promotion_that_waited_for_a_lock_does_not_apply_to_a_newer_release(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    pause_in_the_first_step(zk, paths, server)
    set_lock(zk, paths)
    waiting = Doing(lambda: steer(zk, paths, "promoted", lock_timeout=30.0))
    watching(zk, paths.lock)
    server[0] = 3
    deploy(other, paths, rollout=THREE_STEPS, force=True)
    steer(other, paths, "paused")
    unlock(other, paths)
    assert "another release was published meanwhile, and not promoted: 00" in str(waiting.end())
    assert steer(other, paths, "paused")["msg"] == "it is paused already"


def test_two_concurrent_promotions_open_one_step(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_in_the_first_step(zk, paths, server)
    look = locks.check_free

    def promote_after(*words: Any, **keys: Any) -> None:
        look(*words, **keys)
        monkeypatch.setattr(rollout_steering, "check_free", look)
        steer(other, paths, "promoted", publisher="bob")

    monkeypatch.setattr(rollout_steering, "check_free", promote_after)
    late = steer(zk, paths, "promoted")
    assert (late["changed"], late["msg"].partition(":")[0]) == (False, "it was promoted by bob already")
    assert steer(zk, paths, "paused")["rollout"]["step"] == 1


def test_promoting_a_step_that_somebody_else_has_just_opened_opens_no_other(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int]
) -> None:
    """Both have seen the same pause, but the first promotion has ended before the second begins."""
    pause_in_the_first_step(zk, paths, server)
    steer(zk, paths, "promoted", publisher="ann")
    assert steer(zk, paths, "promoted", publisher="ann")["rollout"]["step"] == 2
    late = steer(other, paths, "promoted", publisher="bob")
    assert (late["changed"], late["rollout"]["step"]) == (False, 2)
    assert late["msg"] == (
        "it was promoted by ann already: step 2 of 3 is open; 0 are on their way, 1 may be; the next step too by force"
    )
    assert steer(other, paths, "promoted", publisher="bob", force=True)["rollout"]["step"] == 3


def test_a_promotion_during_a_halt_is_refused(
    zk: KazooClient, other: KazooClient, paths: AppPaths, server: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pause_in_the_first_step(zk, paths, server)
    look = locks.check_free

    def halt_after(*words: Any, **keys: Any) -> None:
        look(*words, **keys)
        monkeypatch.setattr(rollout_steering, "check_free", look)
        steer(other, paths, "halted")

    monkeypatch.setattr(rollout_steering, "check_free", halt_after)
    with pytest.raises(ZooKeeperError, match="refused: it has moved on meanwhile: the rollout is halted"):
        steer(zk, paths, "promoted")


@pytest.mark.usefixtures("server")
def test_a_publisher_waiting_for_a_lock_publishes_when_it_expires(zk: KazooClient, paths: AppPaths) -> None:
    write(zk, paths, until=in_seconds(2))
    result = deploy(zk, paths, lock_timeout=30.0)
    assert (result["changed"], "overridden_lock" in result, commits(zk, paths)) == (True, False, [1])


@pytest.mark.usefixtures("server")
def test_waiting_for_a_lock_in_vain_is_reported(zk: KazooClient, paths: AppPaths) -> None:
    set_lock(zk, paths)
    began = time.monotonic()
    with pytest.raises(Locked, match=r"without an end: migration; still so after 0\.5 s; nothing is published; "):
        deploy(zk, paths, lock_timeout=0.5)
    assert time.monotonic() - began >= 0.5
    with pytest.raises(Locked, match="migration; nothing is published"):
        deploy(zk, paths, lock_timeout=30.0, check=True)
    assert commits(zk, paths) == []


@pytest.mark.usefixtures("server")
def test_a_lost_connection_does_not_end_the_wait_for_a_lock(
    ensemble: Ensemble, other: KazooClient, paths: AppPaths
) -> None:
    with connected(f"127.0.0.1:{ensemble.members[0].client_port}", timeout=10) as client:
        set_lock(other, paths)
        waiting = Doing(lambda: deploy(client, paths, lock_timeout=30.0))
        for _time in range(5):
            watching(client, paths.lock)
            with contextlib.suppress(OSError):
                client._connection._socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: client.connected, "the client is connected again")
        unlock(other, paths)
        assert waiting.end()["changed"]


@pytest.mark.usefixtures("server")
def test_a_wait_for_a_lock_outlasts_an_outage_but_later_requests_do_not(tmp_path: Path, paths: AppPaths) -> None:
    defaults = {name: spec.get("default") for name, spec in ARGSPEC.items()}
    with Ensemble(tmp_path / "zk", size=1) as servers:
        member = servers.members[0]
        with connect({**defaults, "hosts": servers.hosts, "connect_timeout": 2.0}) as client:
            set_lock(client, paths)
            waiting = Doing(lambda: deploy(client, paths, lock_timeout=600.0))
            watching(client, paths.lock)
            member.kill()
            cut = time.monotonic()
            wait_for(lambda: time.monotonic() - cut > 5, "the outage lasts for five seconds")
            member.start()
            wait_for(member.serves, "the member serves again")
            with connected(servers.hosts) as other:
                unlock(other, paths)
            assert waiting.end()["changed"]
            member.kill()
            assert "connection was" in str(Doing(lambda: read_lock(client, paths)).end())


def test_nothing_is_ever_published_between_a_lock_and_its_end(
    ensemble: Ensemble, zk: KazooClient, paths: AppPaths
) -> None:
    generations: list[int] = []
    stop = threading.Event()

    def publish_one(client: KazooClient, what: Release) -> int:
        return publish(client, paths, what, read_published(client, paths), locks.unlocked(client, paths, ""))

    def publish_all_the_time(first: int) -> None:
        with connected(ensemble.hosts) as client:
            for number in itertools.count(first):
                if stop.is_set():
                    return
                with contextlib.suppress(ZooKeeperError):  # locked, or overtaken in every attempt
                    generations.append(begin_anew(functools.partial(publish_one, client, release(number))))

    publishers = [Doing(functools.partial(publish_all_the_time, which * 10**6)) for which in range(1, 4)]
    locked = []
    for _time in range(25):
        seen = list(generations)
        wait_for(lambda seen=seen: generations != seen, "something is published", 20)  # type: ignore[misc]
        set_lock(zk, paths)
        begin = zk.exists(paths.lock).mzxid
        for _look in range(20):
            zk.sync(paths.lock)
        unlock(zk, paths)
        locked.append((begin, zk.exists(paths.lock).mzxid))
    stop.set()
    for one in publishers:
        one.end()
    assert len(set(generations)) == len(generations) > 25
    assert [one for one in generations for begin, end in locked if begin < one < end] == []


def test_a_publication_without_a_guard_ignores_the_lock(zk: KazooClient, paths: AppPaths) -> None:
    """As in a rollback, the znode is neither read nor created."""
    begin_anew(lambda: publish(zk, paths, release(1), read_published(zk, paths)))
    assert zk.exists(paths.lock) is None


def test_a_missing_reason_and_an_invalid_time_are_refused_before_anything_is_written(
    zk: KazooClient, paths: AppPaths
) -> None:
    for option, value, why in (
        ("reason", " ", "reason: say why"),
        ("reason", "x" * 501, "reason: expected at most 500 characters, got 501"),
        ("by", "x" * 501, "by: expected at most 500 characters, got 501"),
        ("by", " ", 'by: expected a string, got " "'),
        ("expires_after", "soon", 'expires_after: expected seconds, or a number with s, m, h or d, .*, got "soon"'),
        ("expires_at", "2026-01-01T00:00:00Z", "expires_at: 2026-01-01T00:00:00Z has passed"),
    ):
        given: dict[str, Any] = {option: value}
        with pytest.raises(InvalidRecord, match=why):
            set_lock(zk, paths, **given)
    assert zk.exists(paths.root) is None


def test_the_modules_report_refusals_and_broken_locks_in_one_line(ensemble: Ensemble, paths: AppPaths) -> None:
    file = ROOT / "plugins/modules/zk_lock.py"
    common: dict[str, Any] = {"hosts": [ensemble.hosts], "app": paths.root}
    assert "reason" in run_module(file, **common)["msg"]
    both = run_module(file, **common, reason="x", expires_after="1h", expires_at="2099-01-01T00:00:00Z")
    assert "mutually exclusive: expires_after|expires_at" in both["msg"]
    taken = run_module(file, **common, reason="x", expires_after=90)
    assert taken["changed"]
    assert "@" in taken["lock"]["by"]
    refused = run_module(file, **common, reason="y", by="bob")
    assert (refused["failed"], refused["lock"]["by"]) == (True, taken["lock"]["by"])
    broken = run_module(file, **common, reason="y", by="bob", force=True)
    assert f"{paths.lock}: {refused['lock']['says']}; broken by force" in json.dumps(broken["warnings"])
    publishing = run_module(
        ROOT / "plugins/modules/zk_release.py",
        **common,
        url="https://example.org/x.git",
        ref="1" * 40,
        relative_path="site",
        wait=False,
        lock_timeout=-1,
    )
    assert publishing["msg"] == "lock_timeout: expected 0 or more, got -1"


def test_a_lock_that_somebody_deletes_meanwhile_is_not_overwritten(
    zk: KazooClient, other: KazooClient, paths: AppPaths
) -> None:
    set_lock(zk, paths)
    found = read_lock(zk, paths)
    other.delete(paths.lock)
    with pytest.raises(ZooKeeperError, match="changed meanwhile"):
        locks.write_lock(zk, found, None)
    assert set_lock(zk, paths)["changed"]
    with pytest.raises(NodeExistsError):
        other.create(paths.lock)
