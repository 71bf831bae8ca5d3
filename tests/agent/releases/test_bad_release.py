"""Nothing bad is deployed: the status says why, the disk does not change, and the next good release goes live."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import ZnodeStat

from support.agent import Agent, publish
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for
from zoo_watcher.desired import Desired
from zoo_watcher.zookeeper.session import Znode


@dataclass
class Host:
    """An agent that has deployed, and the repository that it deploys from."""

    agent: Agent
    repository: GitRepository

    def publish(self, value: dict[str, Any] | bytes) -> dict[str, Any]:
        """Publish any value, and return the agent's status once it has an outcome."""
        return self.agent.wait_outcome(publish(self.agent.zk, self.agent.app, value))

    def good(self, **changes: Any) -> dict[str, Any]:
        """A release of the repository's head, with changes."""
        return {"url": self.repository.url, "commitId": self.repository.head, "relativePath": "site", **changes}

    def disk(self) -> dict[str, str]:
        """Every directory, symlink and file below the host's root with its content, except logs, JSON and locks."""
        contents = {}
        for directory, directories, files in os.walk(self.agent.root):
            for name in (*directories, *files):
                path = Path(directory, name)
                if path.is_symlink():
                    contents[str(path)] = f"-> {path.readlink()}"
                elif path.is_dir():
                    contents[str(path)] = "directory"
                elif path.suffix not in {".log", ".json", ".lock"}:
                    contents[str(path)] = path.read_bytes().hex()
        return contents


@pytest.fixture(scope="module")
def host(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the repository's head live, shared by the tests of this file."""
    root = tmp_path_factory.mktemp("host")
    with connected(ensemble.hosts) as client:
        agent = Agent(root / "server1", ensemble.hosts, f"/app/test-{uuid.uuid4().hex[:12]}", client)
        made = Host(agent.start(), GitRepository.create(root / "origin"))
        try:
            assert made.publish(made.good())["state"] == "active"
            yield made
        finally:
            agent.end()


def nested(depth: int) -> bytes:
    """A release whose url is a list nested `depth` levels deep."""
    return b'{"url": %s%s, "commitId": "%s", "relativePath": "a"}' % (b"[" * depth, b"]" * depth, b"a" * 40)


BAD_KEYS = [
    ({"url": None}, "url: expected a repository's address"),
    ({"url": ["https://example.org"]}, "url: expected a repository's address"),
    ({"url": "--upload-pack=x"}, "no leading dash"),
    ({"url": "ssh://-oProxyCommand=x/repository"}, "host that begins with a dash"),
    ({"url": "-oProxyCommand=x:repository"}, "no leading dash"),
    ({"url": "ext::sh -c touch% /tmp/owned"}, "no transport helper"),
    ({"url": "fd::17"}, "no transport helper"),
    ({"url": "https://user:secret@example.org/x.git"}, "carries a password"),
    ({"url": "https://[::1/x.git"}, "url: "),
    ({"url": "https://example.org/x.git\nfile:///etc"}, "no control character"),
    ({"url": "https://example.org/x.git"}, "https is not allowed on this host, only file"),
    ({"url": "ftp://example.org/x.git"}, "ftp is not allowed on this host"),
    ({"url": "example.org:x.git"}, "ssh is not allowed on this host"),
    ({"commitId": "main"}, 'expected 40 or 64 hex digits, got "main"'),
    ({"commitId": "a" * 39}, "expected 40 or 64 hex digits"),
    ({"commitId": "a" * 41}, "expected 40 or 64 hex digits"),
    ({"commitId": "a" * 39 + "\n"}, "expected 40 or 64 hex digits"),
    ({"commitId": 1234567890}, "expected 40 or 64 hex digits"),
    ({"relativePath": "../outside"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "a/../../outside"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "/etc/outside"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "."}, "relativePath: expected a normalised relative path"),
    ({"relativePath": ""}, "relativePath: expected a relative path"),
    ({"relativePath": "a//b"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "a/"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "a\x00b"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": "a\ud800b"}, "relativePath: expected a normalised relative path"),
    ({"relativePath": ".zoo/releases"}, ".zoo is the agent's own directory"),
    ({"relativePath": ".zoo"}, ".zoo is the agent's own directory"),
    ({"relativePath": "a" * 256}, "longer than a file system takes"),
    ({"relativePath": "site/below"}, "is a symlink"),
    ({"relativePath": 7}, "relativePath: expected a relative path"),
]


@pytest.mark.parametrize(("keys", "message"), BAD_KEYS)
def test_a_release_with_a_wrong_value_is_refused_by_its_key(host: Host, keys: dict[str, Any], message: str) -> None:
    before = host.disk()
    status = host.publish(host.good(**keys))
    assert status["state"] == "failed"
    assert message in status["message"]
    assert "\n" not in status["message"]
    assert "secret" not in status["message"]
    assert host.disk() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no data"),
        (b"main", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'["https://example.org", "site"]', "expected a JSON object"),
        (b"null", "expected a JSON object"),
        (b"{}", "url, commitId, relativePath: missing"),
        (b'{"url": "https://example.org/x.git", "commitId": "%s"}' % (b"a" * 40), "relativePath: missing"),
        (b"[" * 200_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b"9" * 10_000, "not JSON"),
        (nested(300), "url: expected a repository's address"),
        (json.dumps({"x": "y" * 1_040_000}).encode(), "bytes: expected at most 1000000"),
    ],
)
def test_data_that_is_not_a_release_is_refused(host: Host, data: bytes, message: str) -> None:
    before = host.disk()
    status = host.publish(data)
    assert status["state"] == "failed"
    assert message in status["message"]
    assert status["commitId"] == host.repository.head
    assert host.disk() == before


def test_a_place_that_is_taken_by_a_directory_is_refused_and_the_directory_stays(host: Host) -> None:
    precious = host.agent.base / "data"
    precious.mkdir()
    (precious / "file").write_text("mine")
    status = host.publish(host.good(relativePath="data"))
    assert status["state"] == "failed"
    assert f"a directory is at {precious}" in status["message"]
    assert (precious / "file").read_text() == "mine"


def test_a_commit_of_nine_objects_and_a_million_paths_is_refused_and_the_host_serves_on(host: Host) -> None:
    live = host.agent.live()
    commit_id = host.repository.nest(6, "abcdefghij")
    status = host.publish(host.good(commitId=commit_id))
    assert (status["state"], status["message"]) == (
        "failed",
        f"{commit_id} has more than 200000 files (max_release_files)",
    )
    assert host.agent.live() == live
    assert list((host.agent.base / ".zoo/staging").iterdir()) == []


def test_after_all_of_that_a_good_release_goes_live(host: Host) -> None:
    host.publish(b"not a release")
    commit_id = host.repository.commit({"index.html": f"{uuid.uuid4()}\n"})
    status = host.publish(host.good())
    assert (status["state"], status["commitId"], status.get("message")) == ("active", commit_id, None)
    assert host.agent.live() == commit_id


def test_a_refused_release_is_refused_again_after_a_restart_and_the_last_good_one_stays(host: Host) -> None:
    live = host.agent.live()
    generation = publish(host.agent.zk, host.agent.app, b"not a release")
    host.agent.wait_outcome(generation)
    host.agent.end()
    host.agent.start()
    assert host.agent.wait_outcome(generation)["state"] == "failed"
    assert host.agent.live() == live


def test_nested_lists_of_any_depth_are_refused_and_crash_nothing() -> None:
    stat = ZnodeStat(*[1] * len(ZnodeStat._fields))
    for depth in range(600, 1010):
        desired = Desired.from_znode(Znode(nested(depth), stat), 1, ("file",))
        assert desired.release is None
        assert desired.problem


def test_bad_data_is_reported_while_a_first_release_waits_for_its_health_and_the_release_goes_on(
    agents: Callable[..., Agent],
    registered: dict[str, Any],
    release: Callable[..., int],
    service: Service,
    zk: KazooClient,
    app: str,
) -> None:
    agent = agents(health_timeout=1, **registered).start()
    generation = release()
    wait_for(lambda: agent.status.get("message"), "it waits for its service")
    bad = publish(zk, app, b"garbage")
    wait_for(lambda: "the published release is not valid" in str(agent.status.get("troubles")), "it says so")
    assert (agent.status["generation"], agent.status["state"]) == (generation, "checking")
    service.open()
    assert agent.wait_outcome(bad)["state"] == "failed"
    assert agent.live()
    wait_for(lambda: "troubles" not in agent.status, "it is told once")
