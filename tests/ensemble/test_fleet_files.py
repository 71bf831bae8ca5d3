"""States of znodes in a real ensemble, and waiting for agents whose statuses are written by hand."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS, wait_for_proof
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import (
    FileProof,
    ZnodeState,
    read_states,
    summarize_paths,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import Value
from support.waiting import wait_for


@pytest.fixture
def top(app: str) -> str:
    """A znode that no other test uses."""
    return app.replace("/app/", "/config-")


def converge(client: Any, *wanted: DesiredZnode) -> list[dict[str, Any]]:
    """Converge znodes, and return the results."""
    return znodes.converge(client, wanted, check=False, timeout=10)


def present(path: str, value: str = "x") -> DesiredZnode:
    """A znode with a value."""
    return DesiredZnode(path, value=Value(value.encode()), recursive=True)


def absent(path: str) -> DesiredZnode:
    """A znode to be deleted with everything below it."""
    return DesiredZnode(path, present=False, recursive=True)


def written(client: KazooClient, path: str) -> list[ZnodeState]:
    """Write a znode, and return its states."""
    converge(client, present(path))
    return read_states(client, [path])


def report(client: KazooClient, app: str, name: str, **files: dict[str, Any]) -> None:
    """Write the status of an agent."""
    entries = {f"/etc/{dest}": {"format": "value", **entry} for dest, entry in files.items()}
    data = json.dumps({"name": name, "state": "idle", "files": entries}).encode()
    path = f"{app}/agents/{name}"
    if client.exists(path):
        client.set(path, data)
    else:
        client.create(path, data, ephemeral=True, makepath=True)


class Waiting:
    """Waits for files in a thread of its own."""

    def __init__(self, client: KazooClient, app: str, held: list[ZnodeState], **options: Any) -> None:
        self.results: list[dict[str, Any]] = []
        self.errors: list[ZooKeeperError] = []
        defaults = {name: option["default"] for name, option in WAITING_OPTIONS.items()}
        given = {**defaults, "wait_timeout": 30.0, **options}
        self._thread = threading.Thread(target=self._run, args=(client, AppPaths(app), held, given), daemon=True)
        self._thread.start()

    def _run(self, client: KazooClient, paths: AppPaths, held: list[ZnodeState], options: dict[str, Any]) -> None:
        proof = FileProof(held, summarize_paths(sorted({one.path for one in held})))
        try:
            self.results.append(wait_for_proof(client, paths, proof, options))
        except ZooKeeperError as exc:
            self.errors.append(exc)

    def end(self) -> dict[str, Any]:
        """The result that a module returns."""
        self._thread.join(40)
        assert not self.errors, self.errors
        return self.results[0]

    def error(self) -> ZooKeeperError:
        """The error with which it failed."""
        self._thread.join(40)
        assert not self.results, self.results
        return self.errors[0]


def watching(client: KazooClient, path: str) -> None:
    """Wait until the client watches a path."""
    wait_for(lambda: client._data_watchers.get(path) or client._child_watchers.get(path), f"{path} is watched")


def test_a_result_carries_the_transaction_that_changed_its_znode(zk: KazooClient, other: KazooClient, top: str) -> None:
    (made,) = converge(zk, present(f"{top}/a"))
    assert made["zxid"] == made["stat"]["mzxid"]
    other.create(f"{top}/noise")
    converge(zk, present(f"{top}/b"))
    other.create(f"{top}/more-noise")
    gone, changed, same = converge(zk, absent(f"{top}/a"), present(f"{top}/b", "y"), present(f"{top}/noise", ""))
    assert gone["zxid"] == changed["zxid"] == changed["stat"]["mzxid"]
    assert "zxid" not in same
    assert "zxid" not in converge(zk, absent(f"{top}/a"))[0]


def test_a_deletion_alone_returns_the_pzxid_of_its_parent(zk: KazooClient, other: KazooClient, top: str) -> None:
    stop = threading.Event()
    noisy = f"{top}-noise"
    other.ensure_path(noisy)

    def make_noise() -> None:
        while not stop.is_set():
            other.set(noisy, b"x")

    noise = threading.Thread(target=make_noise)
    noise.start()
    try:
        for number in range(30):
            converge(zk, present(f"{top}/{number}"))
            (gone,) = converge(zk, absent(f"{top}/{number}"))
            assert gone["zxid"] == zk.exists(top).pzxid
    finally:
        stop.set()
        noise.join()


def test_the_states_of_a_znode_and_all_below_it_are_read(zk: KazooClient, top: str) -> None:
    made = converge(zk, present(f"{top}/a/deep"))[0]["zxid"]
    beside = converge(zk, present(f"{top}/b", ""))[0]["zxid"]
    assert sorted(read_states(zk, [f"{top}/a", f"{top}/none"])) == [
        ZnodeState(top, "children", beside),
        ZnodeState(f"{top}/a", "children", made),
        ZnodeState(f"{top}/a", "value", made),
        ZnodeState(f"{top}/a/deep", "children", made),
        ZnodeState(f"{top}/a/deep", "value", made),
        ZnodeState(f"{top}/none", "nothing", 0),
    ]


def test_waiting_ends_when_the_last_agent_concerned_has_the_file(
    zk: KazooClient, other: KazooClient, app: str, top: str
) -> None:
    report(other, app, "a", one={"znode": top, "state": "missing", "zxid": 1})
    report(other, app, "b", one={"znode": top, "state": "missing", "zxid": 1})
    report(other, app, "stranger", one={"znode": "/elsewhere", "state": "failed", "zxid": 1})
    held = written(zk, top)
    waiting = Waiting(zk, app, held)
    now = {"znode": top, "state": "current", "zxid": held[0].zxid}
    report(other, app, "a", one=now)
    watching(zk, f"{app}/agents/b")
    report(other, app, "b", one={**now, "state": "pending"})
    assert not waiting.results
    report(other, app, "b", one=now)
    result = waiting.end()
    assert [agent["name"] for agent in result["agents"]] == ["a", "b"]
    assert result["agents"][1]["files"]["/etc/one"]["zxid"] == held[0].zxid
    assert [result[f"{kind}_agents"] for kind in ("failed", "pending", "lost")] == [[], [], []]


def test_the_first_agent_of_an_application_is_waited_for(
    zk: KazooClient, other: KazooClient, app: str, top: str
) -> None:
    held = written(zk, top)
    waiting = Waiting(zk, app, held)
    watching(zk, f"{app}/agents")
    report(other, app, "a", one={"znode": top, "state": "current", "zxid": held[0].zxid})
    assert [agent["name"] for agent in waiting.end()["agents"]] == ["a"]


def test_no_agent_has_to_be_live_where_none_is_required(zk: KazooClient, app: str, top: str) -> None:
    assert Waiting(zk, app, written(zk, top), min_agents=0).end()["agents"] == []


def test_agents_without_such_a_file_do_not_count(zk: KazooClient, other: KazooClient, app: str, top: str) -> None:
    held = written(zk, top)
    report(other, app, "a", one={"znode": top, "state": "current", "zxid": held[0].zxid})
    report(other, app, "b")
    error = Waiting(zk, app, held, min_agents=2, wait_timeout=0.3).error()
    assert str(error) == (
        f"{top}: published, but timed out waiting for agents with a file from there: 1 live, at least 2 required"
    )
    assert [agent["name"] for agent in error.details["agents"]] == ["a"]
    assert error.details["timed_out"]


def test_an_agent_that_fails_ends_the_wait_with_its_reason(
    zk: KazooClient, other: KazooClient, app: str, top: str
) -> None:
    held = written(zk, top)
    report(other, app, "a", one={"znode": top, "state": "pending", "zxid": 0})
    failed = {"znode": top, "state": "failed", "zxid": held[0].zxid, "message": "validate ended with status 1: no"}
    report(other, app, "b", one=failed)
    error = Waiting(zk, app, held).error()
    assert str(error) == (f"{top}: not in place on 1 of 2: /etc/one on b is failed (validate ended with status 1: no)")
    assert (error.details["failed_agents"], error.details["pending_agents"]) == (["b"], ["a"])
    assert not error.details["timed_out"]
    report(other, app, "a", one={"znode": top, "state": "current", "zxid": held[0].zxid})
    assert Waiting(zk, app, held, max_failures=1).end()["failed_agents"] == ["b"]


def test_an_agent_that_is_lost_is_no_longer_waited_for_and_is_named(
    zk: KazooClient, other: KazooClient, app: str, top: str
) -> None:
    held = written(zk, top)
    report(other, app, "a", one={"znode": top, "state": "current", "zxid": held[0].zxid})
    report(other, app, "b", one={"znode": top, "state": "pending", "zxid": 0})
    waiting = Waiting(zk, app, held)
    watching(zk, f"{app}/agents/b")
    other.delete(f"{app}/agents/b")
    assert waiting.end()["lost_agents"] == ["b"]


def test_an_agent_that_is_late_is_named_with_its_file(zk: KazooClient, other: KazooClient, app: str, top: str) -> None:
    held = written(zk, top)
    report(other, app, "a", one={"znode": top, "state": "pending", "zxid": 0, "message": "held back for 4 s"})
    began = time.monotonic()
    error = Waiting(zk, app, held, wait_timeout=0.3).error()
    assert 0.3 <= time.monotonic() - began < 5
    assert str(error) == f"{top}: not proved in time by 1 of 1: /etc/one on a is pending (held back for 4 s)"


def test_a_release_published_meanwhile_does_not_disturb_the_wait(
    zk: KazooClient, other: KazooClient, app: str, top: str
) -> None:
    held = written(zk, top)
    report(other, app, "a", one={"znode": top, "state": "pending", "zxid": 0})
    waiting = Waiting(zk, app, held)
    watching(zk, f"{app}/agents/a")
    other.create(f"{app}/config", b"{}")
    other.set(f"{app}/config", b"{ }")
    report(other, app, "a", one={"znode": top, "state": "current", "zxid": held[0].zxid})
    assert waiting.end()["pending_agents"] == []
