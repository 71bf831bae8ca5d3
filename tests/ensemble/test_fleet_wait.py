"""Waiting for a fleet while the ensemble does not answer: unread statuses prove nothing, and the wait ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import fleet as fleet_module
from ansible_collections.zoo.deploy.plugins.module_utils import releases
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    is_outage,
    translated,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import wait_for_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import UNANSWERED, Limits, WaitResult
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from support.agent_status import report
from support.ensemble import Ensemble
from support.waiting import wait_for

CLOSED = [make_acl("world", "anyone", write=True, create=True, delete=True, admin=True)]
"""All permissions but read: if a client may not read a changed znode, the server drops its watch without an event."""
RELEASE = Release(url="https://example.org/x.git", commit_id="1" * 40, relative_path="site")


@pytest.fixture
def paths(app: str) -> AppPaths:
    """The znodes of an application that only this test uses."""
    return AppPaths(app)


class Cut:
    """A client that loses its connection on the first request for a znode, or on every one with `for_ever`."""

    def __init__(self, client: KazooClient, path: str, *, for_ever: bool = False) -> None:
        self._client = client
        self._path = path
        self._for_ever = for_ever
        self.cuts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_async(self, path: str, **words: Any) -> Any:
        """The client's own answer, or a lost connection."""
        return self._lost(path) or self._client.get_async(path, **words)

    def get_children_async(self, path: str, **words: Any) -> Any:
        """The client's own answer, or a lost connection."""
        return self._lost(path) or self._client.get_children_async(path, **words)

    def _lost(self, path: str) -> Any:
        if path != self._path or (self.cuts and not self._for_ever):
            return None
        self.cuts += 1
        lost = self._client.handler.async_result()
        lost.set_exception(ConnectionLoss())
        return lost


def publish(client: KazooClient, paths: AppPaths) -> int:
    """Publish a release."""
    return releases.publish(client, paths, RELEASE, releases.read_published(client, paths))


def wait(client: Any, paths: AppPaths, generation: int, limits: Limits, seconds: float) -> WaitResult:
    """Wait for a fleet to prove a generation."""
    proof = releases.ReleaseProof(paths.config, generation, RELEASE.commit_id)
    return wait_for_fleet(client, paths, proof, limits, seconds)


def test_a_single_look_watches_no_agent(zk: KazooClient, paths: AppPaths, ensemble: Ensemble) -> None:
    generation = publish(zk, paths)
    report(zk, paths, "a", "active", generation)

    def looks(seconds: float) -> bool:
        assert wait(zk, paths, generation, Limits(1, 0), seconds).problem is None
        return any(paths.agent("a") in member.ask("wchp").splitlines() for member in ensemble.members)

    assert not looks(0)
    assert looks(30), "whoever waits is told of each change"


def test_a_fleet_of_which_only_a_part_could_be_read_has_proved_nothing(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths)
    report(zk, paths, "a", "active", generation)
    report(zk, paths, "b", "failed", generation, message="disk full")
    cut = Cut(zk, paths.agent("b"))
    outcome = wait(cut, paths, generation, Limits(1, 0), 30)
    assert cut.cuts == 1
    assert str(outcome.problem).startswith("not deployed on 1 of 2: b is failed (disk full)")


def test_a_change_without_a_watch_event_is_seen_eventually(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "READ_AGAIN", 0.0)
    report(zk, paths, "a", "fetching", 7)
    fleet = fleet_module.Fleet(zk, paths, time.monotonic() + 30)
    assert fleet.refresh() is None
    zk.set_acls(paths.agent("a"), CLOSED)
    zk.set(paths.agent("a"), AgentStatus(name="a", state="active", generation=7).to_node())
    zk.set_acls(paths.agent("a"), OPEN_ACL_UNSAFE)
    fleet.wait(30)
    assert fleet.refresh() is None
    assert fleet.agents["a"].state == "active"


def test_a_fleet_that_could_not_be_listed_is_not_an_empty_one(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths)
    report(zk, paths, "a", "active", generation)
    cut = Cut(zk, paths.agents)
    outcome = wait(cut, paths, generation, Limits(0, 0), 30)
    assert (cut.cuts, outcome.problem, list(outcome.agents)) == (1, None, ["a"])


def test_one_look_at_an_ensemble_that_does_not_answer_proves_nothing(zk: KazooClient, paths: AppPaths) -> None:
    generation = publish(zk, paths)
    report(zk, paths, "a", "active", generation)
    report(zk, paths, "b", "active", generation)
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: {UNANSWERED}$") as caught:
        wait(Cut(zk, paths.agents, for_ever=True), paths, generation, Limits(0, 0), 0)
    assert is_outage(caught.value)


def test_one_look_that_loses_the_ensemble_while_reading_statuses_proves_nothing(
    zk: KazooClient, paths: AppPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = publish(zk, paths)
    report(zk, paths, "a", "active", generation)

    def lose(_client: KazooClient, asked: Sequence[str]) -> None:
        assert list(asked) == [paths.agent("a")]
        with translated(None):
            raise ConnectionLoss

    monkeypatch.setattr(fleet_module, "read_many", lose)
    with pytest.raises(ZooKeeperError, match=f"^{paths.config}: {UNANSWERED}$") as caught:
        wait(zk, paths, generation, Limits(0, 0), 0)
    assert is_outage(caught.value)


def test_a_server_that_hangs_makes_no_wait_longer(tmp_path: Path) -> None:
    paths = AppPaths("/app/x")
    errors: list[str] = []
    defaults = {name: option.get("default") for name, option in CONNECTION_OPTIONS.items()}

    def wait_a_second(client: KazooClient, generation: int) -> None:
        try:
            wait(client, paths, generation, Limits(1, 0), 1)
        except ZooKeeperError as exc:
            errors.append(str(exc))

    with Ensemble(tmp_path / "zk", size=1) as server:
        options = {**defaults, "hosts": server.hosts, "connect_timeout": 4.0}
        # By itself, the client would wait for the connection until long after the wait.
        with connect(options, outage=600.0) as client:
            generation = publish(client, paths)
            server.members[0].signal(signal.SIGSTOP)
            threading.Thread(target=wait_a_second, args=(client, generation), daemon=True).start()
            try:
                wait_for(lambda: errors, "the wait ends")
            finally:
                server.members[0].signal(signal.SIGCONT)
            assert errors == [f"{paths.config}: {UNANSWERED}"]
