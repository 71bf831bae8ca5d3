"""What is published goes live on a host: the newest release, complete, proved, and kept for a rollback."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.repository import GitRepository
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]


def served(agent: Agent, place: str = "site") -> str:
    """The content of index.html at the release's place."""
    return (agent.base / place / "index.html").read_text()


@pytest.mark.smoke
def test_a_release_goes_live_and_the_status_proves_it(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start().wait_live()
    assert agent.status["state"] == "idle"
    generation = release()
    status = agent.wait_outcome(generation)
    assert (status["state"], status["commitId"], status["name"]) == ("active", repository.head, "server1")
    assert set(status["timings"]) >= {"fetching", "staging", "activating"}
    assert served(agent) == "one\n"
    assert sorted(os.listdir(agent.base / "site")) == ["index.html"]


def test_a_host_that_joins_later_has_the_same_release(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    generation = release()
    for name in ("server1", "server2"):
        agent = agents(name).start()
        assert agent.wait_outcome(generation)["commitId"] == repository.head
        assert served(agent) == "one\n"


def test_the_next_release_takes_the_place_of_the_last(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    first = repository.head
    second = repository.commit({"index.html": "two\n", "new/file": "x"})
    status = agent.wait_outcome(release())
    assert (status["commitId"], status["previousCommitId"]) == (second, first)
    assert served(agent) == "two\n"


def test_an_earlier_release_comes_back_without_its_git_server(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    first, agent = repository.head, agents().start()
    agent.wait_outcome(release())
    repository.commit({"index.html": "two\n"})
    agent.wait_outcome(release())
    repository.path.rename(repository.path.with_name("moved"))
    status = agent.wait_outcome(release(first))
    assert (status["state"], status["commitId"]) == ("active", first)
    assert served(agent) == "one\n"


def test_ten_publishes_in_a_second_end_at_the_newest(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    commits = [repository.commit({"index.html": f"{number}\n"}) for number in range(10)]
    generations = [release(commit_id) for commit_id in commits]
    assert agent.wait_outcome(generations[-1])["commitId"] == commits[-1]
    assert served(agent) == "9\n"
    proved = [generation for generation in generations if f"active, generation={generation} " in agent.log]
    assert len(proved) <= 3
    assert proved[-1] == generations[-1]


def test_the_same_commit_published_again_is_proved_again_and_nothing_moves(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    before = (agent.base / "site").lstat()
    status = agent.wait_outcome(release(publisher="somebody else", unknown={"key": [1]}))
    assert (status["state"], status["commitId"]) == ("active", repository.head)
    assert (agent.base / "site").lstat() == before


def test_a_release_may_move_to_another_place(agents: Agents, repository: GitRepository, release: Publish) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    agent.wait_outcome(release(relativePath="srv/www/site"))
    assert agent.live("srv/www/site") == repository.head
    assert served(agent, "srv/www/site") == "one\n"


def test_deleting_the_node_undeploys_nothing_and_a_new_one_is_deployed(
    agents: Agents, zk: KazooClient, app: str, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    first = repository.head
    agent.wait_outcome(release())
    for text in ("two\n", "three\n"):
        zk.delete(f"{app}/config")
        assert agent.live() is not None
        commit_id = repository.commit({"index.html": text})
        assert agent.wait_outcome(release())["commitId"] == commit_id
        assert served(agent) == text
    assert agent.wait_outcome(release(first))["state"] == "active"


def test_a_commit_that_is_not_pushed_yet_is_deployed_once_it_is(
    agents: Agents, repository: GitRepository, release: Publish, tmp_path: Path
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    repository.git("clone", "-q", repository.url, str(tmp_path / "clone"))
    clone = GitRepository(tmp_path / "clone")
    commit_id = clone.commit({"index.html": "two\n"})
    generation = release(commit_id)
    wait_for(lambda: "was it pushed" in (agent.status.get("message") or ""), "the status says what is missing")
    assert agent.status["state"] not in {"failed", "active"}
    assert served(agent) == "one\n"
    clone.git("push", "-q", "origin", "HEAD:refs/heads/later")
    status = agent.wait_outcome(generation)
    assert (status["state"], status.get("message")) == ("active", None)
    assert served(agent) == "two\n"


def test_a_newer_release_is_not_held_up_by_one_that_cannot_be_fetched(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    release("0" * 40)
    wait_for(lambda: "was it pushed" in (agent.status.get("message") or ""), "the first one is being tried")
    assert agent.wait_outcome(release())["commitId"] == repository.head


def test_no_more_releases_stay_on_disk_than_are_kept(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents(keep_releases=2).start()
    commits = []
    for number in range(4):
        commits.append(repository.commit({"index.html": f"{number}\n"}))
        agent.wait_outcome(release())
    assert sorted(os.listdir(agent.base / ".zoo/releases")) == sorted(commits[-2:])


def test_a_release_that_cannot_be_removed_is_in_the_status_until_a_deployment_has_removed_it(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents(keep_releases=2).start()
    agent.wait_outcome(release())
    oldest = agent.base / ".zoo/releases" / repository.head
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", oldest], check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    told = [f"an old release can't be removed, tried again with the next deployment: {oldest}"]
    try:
        for number in range(2):
            repository.commit({"index.html": f"{number}\n"})
            agent.wait_outcome(release())
        wait_for(lambda: agent.status.get("troubles") == told, "it is told")
    finally:
        subprocess.run(["umount", "-l", oldest], check=True)
    repository.commit({"index.html": "last\n"})
    agent.wait_outcome(release())
    wait_for(lambda: "troubles" not in agent.status, "it is removed")
    assert not oldest.exists()


def test_leftovers_that_cannot_be_removed_from_staging_are_in_the_status_and_hinder_nothing(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    second = repository.commit({"index.html": "two\n"})
    left = [agent.base / ".zoo/staging" / name for name in (second, "more")]
    for place in left:
        place.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=False, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
    told = f"left in the staging directory, remove by hand: {left[0]}"
    try:
        assert agent.wait_outcome(release())["commitId"] == second
        wait_for(lambda: agent.status.get("troubles") == [f"{told} and 1 more"], "it is told after a deployment")
        subprocess.run(["umount", left[1]], check=True)
        agent.end(signal.SIGUSR2)
        agent.start()
        wait_for(lambda: agent.status.get("troubles") == [told], "it is told after a start, with what is left")
        assert not left[1].exists()
    finally:
        subprocess.run(["umount", "-l", *left], check=False, capture_output=True)
    left[0].rmdir()
    wait_for(lambda: "troubles" not in agent.status, "it is gone", 40)
