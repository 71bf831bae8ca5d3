"""The modules return only the keys that their documentation lists."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import rollout_steering, znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS
from ansible_collections.zoo.deploy.plugins.module_utils.records import AgentStatus, AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import publish, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import desired_znodes
from ansible_collections.zoo.deploy.plugins.modules import (
    zk_fleet,
    zk_fleet_info,
    zk_lock,
    zk_release,
    zk_release_info,
    zk_znode,
    zk_znode_info,
)

ANSIBLES = {"changed", "diff"}
"""Keys that every module returns and none documents."""
MARK = {"since": "2026-11-24T10:15:30+00:00", "reason": "disk swap", "by": "ann"}
FILE = {"znode": "/config", "format": "value", "state": "current", "version": 0, "mzxid": 1, "zxid": 1, "message": "x"}
STATUS = AgentStatus(
    name="web1",
    state="active",
    generation=1,
    commit_id="0" * 40,
    previous_commit_id="1" * 40,
    message="something to say",
    since=MARK["since"],
    timings={"fetching": 0.1},
    files={"/etc/shop.conf": FILE},
    version="0.1.0",
    troubles=["no metrics"],
    held=MARK,
    waits_for="health",
    access=0,
    drained=MARK,
    unit="zoo-watcher@shop",
    failed_step={"step": "checking", "seconds": 5.0},
)
"""A status with every key that an agent may report."""


@pytest.fixture
def options(app: str) -> dict[str, Any]:
    """Options that the modules share, with their defaults."""
    waiting = {name: option["default"] for name, option in WAITING_OPTIONS.items()}
    return {"app": app, "hosts": ["unused"], "connect_timeout": 10.0, **waiting, "wait_timeout": 10.0, "_turn": None}


@pytest.fixture
def agent(zk: KazooClient, app: str) -> AppPaths:
    """An application with an agent whose status has every key."""
    paths = AppPaths(app)
    zk.create(paths.agent("web1"), STATUS.to_node(), makepath=True)
    return paths


def returned(module: ModuleType) -> dict[str, Any]:
    """A module's documented return values."""
    return dict(yaml.safe_load(module.RETURN))


def unlisted(result: Mapping[str, Any], listed: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """The keys of a result that are not listed, including those in nested dictionaries with documented keys."""
    for key, value in result.items():
        if key not in listed:
            yield where + key
        contains = listed.get(key, {}).get("contains")
        for part in (value if isinstance(value, list) else [value]) if contains else []:
            yield from unlisted(part, contains, f"{where}{key}.")


def check(module: ModuleType, result: Mapping[str, Any]) -> None:
    """Check that a result has no undocumented keys, except Ansible's own."""
    given = {key: value for key, value in result.items() if key not in ANSIBLES}
    assert given
    assert list(unlisted(given, returned(module))) == []


def lists_open(listed: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """The lists of dictionaries whose keys are not documented."""
    for key, option in listed.items():
        contains = option.get("contains", {})
        if option.get("elements") == "dict" and not contains:
            yield where + key
        yield from lists_open(contains, f"{where}{key}.")


@pytest.mark.parametrize(
    "module",
    [zk_fleet, zk_fleet_info, zk_lock, zk_release, zk_release_info, zk_znode, zk_znode_info],
    ids=lambda one: one.__name__,
)
def test_every_list_of_dictionaries_documents_their_keys(module: ModuleType) -> None:
    assert list(lists_open(returned(module))) == []


def test_the_status_has_every_key_that_a_status_may_have() -> None:
    keys = {spec.metadata["key"] for spec in dataclasses.fields(AgentStatus) if "key" in spec.metadata}
    assert STATUS.to_object().keys() == keys


def test_zk_release(zk: KazooClient, agent: AppPaths, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zk_release, "resolve", lambda *_words: "0" * 40)
    given = {
        "url": "https://example.org/x.git",
        "ref": "main",
        "relative_path": "site",
        "state": "published",
        "publisher": None,
        "rollout": None,
        "lock_timeout": 0.0,
        **dict.fromkeys(("to", "only_if", "acl", "force", "_published", "_told", "_gated", "_attended")),
        **dict.fromkeys(("sign_with", "signers", "sign_days", "serial")),
    }
    for checks in (True, False):
        check(zk_release, zk_release.converge(zk, {**options, **given, "wait": False}, check=checks))
    with pytest.raises(ZooKeeperError) as caught:
        zk_release.converge(zk, {**options, **given, "wait": True, "wait_timeout": 0.0}, check=False)
    check(zk_release, caught.value.details)
    generation = zk.exists(agent.config).mzxid
    zk.set(agent.agent("web1"), STATUS.with_changes(generation=generation).to_node())
    check(zk_release, zk_release.converge(zk, {**options, **given, "wait": True}, check=False))


def test_zk_release_info(zk: KazooClient, agent: AppPaths) -> None:
    zk.create(f"{agent.history}/release-0000000001", b"no release", makepath=True)
    zk.create(agent.lock, b"no lock")
    check(zk_release_info, zk_release_info.gather(zk, agent.root))


def test_zk_lock(zk: KazooClient, options: dict[str, Any]) -> None:
    given = {**options, "state": "present", "reason": "x", **dict.fromkeys(("expires_after", "expires_at"))}
    for by in ("ann", "bob"):
        check(zk_lock, zk_lock.converge(zk, {**given, "by": by, "force": True}, check=False))
    with pytest.raises(ZooKeeperError) as caught:
        zk_lock.converge(zk, {**given, "by": "ann", "force": False}, check=False)
    check(zk_lock, caught.value.details)


def test_zk_fleet_info(zk: KazooClient, agent: AppPaths, options: dict[str, Any]) -> None:
    given = {**options, "agents": None, "wait_for_release": None, "wait_for_files": None, "wait_timeout": 0.0}
    check(zk_fleet_info, zk_fleet_info.gather(zk, given))
    release = Release("https://example.org/x.git", "0" * 40, "site")
    generation = publish(zk, agent, release, read_published(zk, agent))
    for wanted in ("desired", "1" * 40):
        with pytest.raises(ZooKeeperError) as caught:
            zk_fleet_info.gather(zk, {**given, "wait_for_release": wanted})
        check(zk_fleet_info, caught.value.details)
    file = {**FILE, "state": "failed", "znode": agent.root, "zxid": 2**60}
    failed = STATUS.with_changes(generation=generation, state="failed", files={"/etc/shop.conf": file})
    zk.set(agent.agent("web1"), failed.to_node())
    check(zk_fleet_info, zk_fleet_info.gather(zk, {**given, "wait_for_release": "desired", "max_failures": "100%"}))


def test_zk_fleet_info_of_a_rollout(zk: KazooClient, agent: AppPaths, options: dict[str, Any]) -> None:
    release = Release("https://example.org/x.git", "0" * 40, "site")
    published = read_published(zk, agent)
    publish(zk, agent, release, published)
    published = read_published(zk, agent)
    rollout_steering.begin_rollout(zk, agent, published.generation or 0, release, True)
    given = {**options, "agents": None, "wait_for_release": None, "wait_for_files": None, "wait_timeout": 0.0}
    found = zk_fleet_info.gather(zk, given)
    assert found["rollout"]["phase"] == "running"
    check(zk_fleet_info, found)
    with pytest.raises(ZooKeeperError) as caught:
        zk_fleet_info.gather(zk, {**given, "wait_for_release": "desired"})
    check(zk_release, {"rollout": caught.value.details["rollout"]})


def test_zk_fleet(zk: KazooClient, agent: AppPaths) -> None:
    for state in ("present", "absent"):
        given = {"app": agent.root, "names": ["web9"], "state": state}
        check(zk_fleet, zk_fleet.converge(zk, given, check=False))


def test_zk_znode(zk: KazooClient, app: str, options: dict[str, Any]) -> None:
    given = {**{name: spec.get("default") for name, spec in zk_znode.argument_spec().items()}, **options}
    for one in ({"path": f"{app}/a"}, {"znodes": [{**given, "path": f"{app}/b"}, {**given, "path": f"{app}/a"}]}):
        wanted = desired_znodes({**given, "value": "x", **one})
        results = znodes.converge(zk, wanted, check=False, timeout=10)
        check(zk_znode, zk_znode.report(results, several="znodes" in one, diff=True))


def test_zk_znode_info(zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    zk.create(f"{app}/a/b", b"{}", makepath=True)
    monkeypatch.setattr(zk_znode_info, "connect", lambda *_words: contextlib.nullcontext(zk))
    given = {**options, "depth": 2, "max_znodes": 10, "path": app, "paths": None, "values": True, "wait_for": None}
    check(zk_znode_info, zk_znode_info.gather(given))
    wait_for = {"state": "present", "key": None, "value": None, "min_children": None, "newer_than": None}
    several = {**given, "path": None, "paths": [app, f"{app}/a"], "wait_for": wait_for}
    check(zk_znode_info, zk_znode_info.gather(several))
