"""zk_release reports a publication whatever goes wrong after it, and zk_release_info only reads."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import ansible_module, fleet, releases
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import outage
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import UNANSWERED
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info, zk_release
from support.agent_status import report
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.waiting import wait_for


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


@pytest.fixture(autouse=True)
def without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every ref resolve to itself."""
    monkeypatch.setattr(zk_release, "resolve", lambda _url, ref: ref)


def options_of(paths: AppPaths, **given: Any) -> dict[str, Any]:
    """The options of a task that publishes a commit."""
    defaults = {name: option.get("default") for name, option in zk_release.argument_spec().items()}
    release = {"app": paths.root, "url": "https://example.org/x.git", "ref": "1" * 40, "relative_path": "site"}
    return {**defaults, **release, **given}


def prove_when_published(client: KazooClient, paths: AppPaths, name: str = "web1") -> threading.Thread:
    """An agent that proves a release as soon as one is published."""
    report(client, paths, name, "idle", 0)

    def run() -> None:
        wait_for(lambda: client.exists(paths.config), "something is published")
        report(client, paths, name, "active", client.exists(paths.config).mzxid)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def stats(client: KazooClient, path: str) -> Iterator[tuple[str, Any]]:
    """The stat of a znode and of each one below it, which shows any change."""
    yield path, client.exists(path)
    for name in sorted(client.get_children(path)):
        yield from stats(client, f"{path}/{name}")


@pytest.mark.parametrize("check", [False, True], ids=["for real", "check mode"])
def test_zk_release_info_writes_nothing(ensemble: Ensemble, zk: KazooClient, paths: AppPaths, check: bool) -> None:
    zk_release.converge(zk, options_of(paths, wait=False), check=False)
    report(zk, paths, "web1", "active", zk.exists(paths.config).mzxid)  # so that there is something to mark
    before = dict(stats(zk, paths.root))
    found = run_module(ROOT / "plugins/modules/zk_release_info.py", check=check, hosts=ensemble.hosts, app=paths.root)
    assert found["generation"] == zk.exists(paths.config).mzxid
    assert dict(stats(zk, paths.root)) == before


def test_the_time_that_git_takes_does_not_count_towards_the_wait(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late)

    def resolve(_url: str, ref: str) -> str:
        nonlocal late
        late = 100_000.0
        return ref

    monkeypatch.setattr(zk_release, "resolve", resolve)
    for module in (zk_release, fleet, ansible_module):
        monkeypatch.setattr(module, "time", clock)
    agent = prove_when_published(other, paths)
    result = zk_release.converge(zk, options_of(paths, wait_timeout=60.0), check=False)
    agent.join()
    assert (result["changed"], result["converged"]) == (True, True)
    assert result["elapsed"] < 100_000


def test_an_error_while_the_proof_is_recorded_loses_nothing_of_the_result(
    zk: KazooClient, other: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: Any) -> None:
        raise ZooKeeperError("the connection was lost")

    monkeypatch.setattr(releases, "mark_proved", fail)
    agent = prove_when_published(other, paths)
    result = zk_release.converge(zk, options_of(paths, wait_timeout=60.0), check=False)
    agent.join()
    assert (result["changed"], result["generation"]) == (True, zk.exists(paths.config).mzxid)
    assert result["converged"]


def test_a_wait_outlasts_an_outage_longer_than_the_connect_timeout(tmp_path: Path, paths: AppPaths) -> None:
    options = options_of(paths, wait_timeout=120.0, connect_timeout=1.0)
    with Ensemble(tmp_path / "zk", size=1) as servers:
        options["hosts"] = servers.hosts
        with connect({**options, "connect_timeout": 10.0}) as publisher:
            report(publisher, paths, "web1", "fetching", 0)
            made = zk_release.converge(publisher, {**options, "wait": False}, check=False)
        given = {**made, "agents": [], "stuck": 0.0, "moves": None, "left": 120.0}
        found: list[Any] = []

        def run() -> None:
            with connect({**options, "connect_timeout": 10.0}, outage(options, waits=True)) as client:
                waits.append(client)
                found.append(zk_release.wait_on(client, {**options, "_published": given}))

        waits: list[KazooClient] = []
        thread = threading.Thread(target=run)
        thread.start()
        wait_for(lambda: waits, "it waits")
        servers.members[0].kill()
        cut = time.monotonic()
        wait_for(lambda: time.monotonic() - cut > 11, "the outage lasts for eleven seconds")
        servers.members[0].start()
        wait_for(servers.members[0].serves, "the member serves again")
        with connected(servers.hosts) as agent:
            report(agent, paths, "web1", "active", made["generation"])
            thread.join(120)
    assert found[0]["converged"]


def wait_in_zk_release(client: KazooClient, options: dict[str, Any], made: dict[str, Any]) -> None:
    """Wait for the published release, as the module does."""
    with pytest.raises(ZooKeeperError, match=UNANSWERED):
        zk_release.wait(client, options, made, [], time.monotonic())


def wait_in_zk_fleet_info(client: KazooClient, options: dict[str, Any], _made: dict[str, Any]) -> None:
    """Wait for the published release, as the module does."""
    with pytest.raises(ZooKeeperError, match=UNANSWERED):
        zk_fleet_info.gather(client, options)


def wait_in_git_hook(client: KazooClient, options: dict[str, Any], made: dict[str, Any]) -> None:
    """Wait for the published release, as the hook does."""
    hook, config = importlib.import_module("zoo_git_hook.hook"), importlib.import_module("zoo_git_hook.config")
    target = config.Target("main", AppPaths(options["app"]), "site")
    release = Release("https://example.org/x.git", made["commit_id"], "site")
    assert not hook.wait_for(client, hook.Publication(target, release, made["generation"], []), options)


@pytest.mark.parametrize("wait", [wait_in_zk_release, wait_in_zk_fleet_info, wait_in_git_hook])
def test_an_outage_at_the_end_of_a_wait_does_not_prolong_it(
    tmp_path: Path,
    paths: AppPaths,
    monkeypatch: pytest.MonkeyPatch,
    wait: Callable[[KazooClient, dict[str, Any], dict[str, Any]], None],
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "roles/git_hook/files/program"))
    defaults = {name: option.get("default") for name, option in zk_fleet_info.argument_spec().items()}
    options = {**defaults, **options_of(paths, wait_timeout=5.0), "wait_for_release": "desired"}
    ended = threading.Event()
    with (
        Ensemble(tmp_path / "zk", size=1) as servers,
        # By itself, the client would wait for the connection until long after the wait.
        connect({**options, "hosts": servers.hosts}, outage=600.0) as client,
    ):
        report(client, paths, "web1", "fetching", 0)
        made = zk_release.converge(client, {**options, "wait": False}, check=False)

        def wait_to_its_end() -> None:
            wait(client, options, made)
            ended.set()

        threading.Thread(target=wait_to_its_end, daemon=True).start()
        wait_for(lambda: paths.agent("web1") in servers.members[0].ask("wchp"), "it waits")
        servers.members[0].kill()
        assert ended.wait(30)
