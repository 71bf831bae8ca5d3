"""The desired release is read when it may have changed, and read again when that failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.desired import Desired, DesiredRelease, is_another_of_its_generation
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.wire.records import Release
from zoo_watcher.zookeeper.session import Session, Znode

COMMIT = "a" * 40


def znode(generation: int, **changes: Any) -> Znode:
    """The config znode as a publisher writes it."""
    release = {"url": "https://git.example/site.git", "commitId": COMMIT, "relativePath": "site", **changes}
    return Znode(json.dumps(release).encode(), SimpleNamespace(mzxid=generation))


@dataclass
class Server:
    """A server with one config znode whose reads it counts, perhaps a policy, and rollouts that have begun."""

    znode: Znode | None = None
    policy: Znode | None = None
    rollouts: list[str] = field(default_factory=list)
    reads: int = 0
    watches: list[Callable[[Any], None]] = field(default_factory=list)
    silent: bool = False

    @property
    def client(self) -> Any:
        """As in `Session`: five agents are live."""
        return SimpleNamespace(exists_async=lambda _path: SimpleNamespace(numChildren=5))

    def begin_read(self, path: str, watch: Callable[[Any], None] | None = None) -> Callable[[], Znode | None]:
        """As in `Session`."""
        if self.silent:
            raise SessionTroubleError("no answer")
        if not path.endswith("/config"):
            return lambda: self.policy
        assert watch
        self.reads += 1
        self.watches.append(watch)
        return lambda: self.znode

    def begin_list(self, _path: str) -> Callable[[], list[str]]:
        """As in `Session`."""
        return lambda: self.rollouts

    def read(self, path: str, watch: Callable[[Any], None]) -> Znode | None:
        """As in `Session`."""
        assert path.endswith("/config")
        self.watches.append(watch)
        return self.znode

    @staticmethod
    def answer(pending: Any) -> Any:
        """As in `Session`."""
        return pending


@pytest.fixture
def server() -> Server:
    """A server without a config znode."""
    return Server()


@pytest.fixture
def wakes() -> list[None]:
    """A list with an item for each time that the loop was woken."""
    return []


@pytest.fixture
def desired(server: Server, wakes: list[None]) -> DesiredRelease:
    """The desired release of an agent that has just been started."""
    config = Config.from_object({"hosts": "zk1", "base": "/srv"})
    return DesiredRelease(config, cast(Session, server), lambda: wakes.append(None))


def test_a_release_is_desired_with_its_generation_and_the_number_of_live_agents() -> None:
    desired = Desired.from_znode(znode(7), 5, ("https",))
    assert (desired.generation, desired.fleet, desired.problem) == (7, 5, None)
    assert desired.release is not None
    assert desired.release.commit_id == COMMIT


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"commitId": "main"}, "the published release is not valid: commitId"),
        ({"url": "HTTPS://git.example/site.git"}, "the published release is not valid: url: expected https:// as git"),
        ({"url": "http://git.example/site.git"}, "url: http is not allowed on this host, only https, ssh; publish"),
        ({"url": "https://git.example/other.git"}, 'url: "https://git.example/other.git" is below none of the allowed'),
    ],
)
def test_a_release_that_this_host_may_not_deploy_is_a_problem(changes: dict[str, Any], problem: str) -> None:
    desired = Desired.from_znode(znode(7, **changes), 5, ("https", "ssh"), ("https://git.example/site.git",))
    assert desired.release is None
    assert desired.problem is not None
    assert desired.problem.startswith(problem)


def test_an_address_that_this_host_allows_is_not_a_problem() -> None:
    assert Desired.from_znode(znode(7), 5, ("https",), ("https://git.example/",)).problem is None


def test_it_is_read_once_until_its_watch_fires(desired: DesiredRelease, server: Server, wakes: list[None]) -> None:
    assert not desired.is_read
    desired.refresh()
    desired.refresh()
    assert (server.reads, desired.is_read, desired.current) == (1, True, None)
    server.znode = znode(7)
    server.watches[0](None)
    assert len(wakes) == 1
    desired.refresh()
    assert desired.current is not None
    assert desired.current.generation == 7


def test_it_is_read_again_where_there_was_no_answer_or_the_watch_may_be_lost(
    desired: DesiredRelease, server: Server
) -> None:
    server.silent = True
    with pytest.raises(SessionTroubleError):
        desired.refresh()
    assert not desired.is_read
    server.silent = False
    desired.refresh()
    desired.mark_stale()
    desired.refresh()
    assert server.reads == 2


def test_the_same_generation_stays_as_it_was_first_read(desired: DesiredRelease, server: Server) -> None:
    server.znode = znode(7)
    desired.refresh()
    before = desired.current
    desired.mark_stale()
    desired.refresh()
    assert desired.current is before
    server.znode = znode(7, commitId="b" * 40)
    desired.mark_stale()
    desired.refresh()
    assert desired.current is not None
    assert desired.current.release is not None
    assert desired.current.release.commit_id == "b" * 40, "a rebuilt ensemble may repeat a generation"
    server.znode = None
    desired.mark_stale()
    desired.refresh()
    assert desired.current is None


@pytest.mark.parametrize(("czxid", "counts"), [(6, True), (8, False)])
def test_a_policy_counts_in_its_present_form_for_a_release_that_is_published_after_its_creation(
    desired: DesiredRelease, server: Server, czxid: int, counts: bool
) -> None:
    server.znode, server.policy = znode(7), Znode(b'{"rollout": true}', SimpleNamespace(czxid=czxid, mzxid=9))
    desired.refresh()
    assert desired.current is not None
    assert (desired.current.policy is not None, desired.current.may_roll_out) == (counts, counts)


def test_a_rollout_that_has_begun_counts_whatever_the_policy_is_now(desired: DesiredRelease, server: Server) -> None:
    server.znode, server.rollouts = znode(7), ["5", "7"]
    desired.refresh()
    assert desired.current is not None
    assert desired.current.may_roll_out
    server.znode = znode(8)
    desired.mark_stale()
    desired.refresh()
    assert desired.current.generation == 8
    assert not desired.current.may_roll_out


def test_a_generation_is_a_different_release_only_where_an_ensemble_was_rebuilt() -> None:
    release = Release("https://git.example/site.git", COMMIT, "site")
    desired, refused = Desired(7, 1, release), Desired(7, 1, problem="the published release is refused: no signature")
    rebuilt = Desired(7, 1, Release("https://git.example/other.git", COMMIT, "site"))
    assert is_another_of_its_generation(desired, rebuilt)
    for before, after in (
        (refused, desired),
        (desired, refused),
        (desired, desired),
        (desired, Desired(8, 1, release)),
    ):
        assert not is_another_of_its_generation(before, after)
