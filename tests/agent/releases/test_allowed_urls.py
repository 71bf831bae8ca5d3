"""A host that is limited to some repositories contacts no other, and deploys nothing from another."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]


class Ear:
    """Listens on a port, and knows whether anybody has ever connected to it."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.url = f"git://127.0.0.1:{listening.getsockname()[1]}/site.git"

    @property
    def was_asked(self) -> bool:
        """Whether anybody has connected. Such a client never gets an answer."""
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def ear() -> Iterator[Ear]:
    """What a fetch from a server that is not allowed would reach."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield Ear(listening)


def test_a_release_of_another_repository_is_refused_before_its_server_is_contacted_and_changes_nothing(
    agents: Agents, repository: GitRepository, release: Publish, ear: Ear
) -> None:
    agent = agents(allowed_schemes=["file", "git"], allowed_urls=[repository.url]).start()
    assert agent.wait_outcome(release())["state"] == "active"
    live = agent.live()
    status = agent.wait_outcome(release(url=ear.url, commit_id="a" * 40))
    assert (status["state"], status["commitId"], agent.live()) == ("failed", live, live)
    assert status["message"] == (
        f'url: "{ear.url}" is below none of the allowed_urls of this host ({repository.url}); '
        "publish from one of them, or add it there"
    )
    assert not ear.was_asked
    assert [path.name for path in (agent.base / ".zoo/releases").iterdir() if path.is_dir()] == [live]
    newer = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    assert agent.live() == newer


def test_a_repository_whose_name_only_begins_like_an_allowed_one_is_refused(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    shutil.copytree(repository.path, f"{repository.path}-evil")
    agent = agents(allowed_urls=[f"{repository.url}/"]).start()
    for url in (
        f"{repository.url}-evil",
        f"{repository.url}/../{repository.path.name}-evil",
        f"{repository.url}%2devil",
    ):
        status = agent.wait_outcome(release(url=url))
        assert (status["state"], agent.live()) == ("failed", None)
        assert "allowed_urls" in status["message"]
    assert agent.wait_outcome(release(url=str(repository.path)))["state"] == "active"


def test_what_counts_is_the_address_of_the_record_and_not_the_mirrors(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents(
        allowed_schemes=["https", "file"],
        allowed_urls=["https://git.example.org/shop/"],
        git_mirrors={"https://git.example.org/shop/site.git": repository.url},
    ).start()
    assert "allowed_urls" in agent.wait_outcome(release())["message"]
    assert agent.live() is None
    assert agent.wait_outcome(release(url="https://git.example.org/shop/site.git"))["state"] == "active"
    assert agent.live() == repository.head


def test_no_server_is_contacted_for_a_submodule(
    agents: Agents, repository: GitRepository, release: Publish, ear: Ear
) -> None:
    (repository.path / ".gitmodules").write_text(f'[submodule "library"]\n\tpath = library\n\turl = {ear.url}\n')
    repository.git("add", "-A")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'b' * 40},library")
    repository.git("commit", "-q", "-m", "a submodule")
    agent = agents(allowed_schemes=["file", "git"]).start()
    assert agent.wait_outcome(release())["state"] == "active"
    assert list((agent.base / "site/library").iterdir()) == []
    assert not ear.was_asked


@pytest.mark.parametrize("way", ["restart", "reload"])
def test_what_is_live_stays_live_and_registered_when_its_repository_is_no_longer_allowed(
    deployed: Agents,
    repository: GitRepository,
    release: Publish,
    registrations: Callable[[], dict[str, list[str]]],
    way: str,
) -> None:
    agent = deployed()
    live = agent.live()
    # As after an upgrade whose default no longer allows plain git.
    agent.config["allowed_schemes"], agent.config["allowed_urls"] = ["https"], ["https://git.example.org/"]
    if way == "restart":
        agent.end()
        agent.start()
    else:
        agent.configure()
        assert agent.process is not None
        agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "file is not allowed" in str(agent.status.get("message")), "it says so")
    assert (agent.status["state"], agent.status["commitId"], agent.live()) == ("failed", live, live)
    wait_for(registrations, "it is registered again")
    del agent.config["allowed_urls"]
    agent.config["allowed_schemes"] = ["file"]
    agent.end()
    agent.start()
    wait_for(lambda: agent.status.get("state") == "active", "it is allowed again")
    repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["state"] == "active"


def test_the_plain_git_protocol_is_refused_by_default(agents: Agents, release: Publish, ear: Ear) -> None:
    agent = agents()
    # The tests' own agents may read files only.
    agent.config["allowed_schemes"] = None
    status = agent.start().wait_outcome(release(url=ear.url))
    assert status["state"] == "failed"
    assert status["message"].startswith("url: git is not allowed on this host, only https, ssh; publish by one of")
    assert not ear.was_asked
