"""A commit whose symlinks lead out of its release does not go live, unless it was healthy on this host before."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]

FAILS_WHERE_BROKEN = ["/bin/sh", "-c", "! grep -q broken index.html"]


def link(repository: GitRepository, path: str, target: str) -> str:
    """Commit a symlink."""
    place = repository.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    return repository.commit({})


def restart(agent: Agent, **config: Any) -> Agent:
    """Restart the agent on the same host, as after an upgrade or a change of the configuration."""
    agent.end()
    agent.config.update(config)
    return agent.start()


@pytest.mark.parametrize(
    ("path", "target"),
    [("passwd", "/etc/passwd"), ("a/up", "../.."), ("other", "../shared/secret"), ("releases", "a/../../")],
)
def test_a_release_with_a_symlink_that_leads_out_is_refused_by_its_name_and_changes_nothing(
    agents: Agents, repository: GitRepository, release: Publish, path: str, target: str
) -> None:
    agent = agents().start()
    agent.wait_outcome(release())
    good = repository.head
    bad = link(repository, path, target)
    status = agent.wait_outcome(release())
    assert (status["state"], status["commitId"], agent.live()) == ("failed", good, good)
    assert status["message"] == (
        f'{bad} has the symlink "{path}" to "{target}", which leads out of the release; publish a commit without it, '
        "or set allow_outside_symlinks on this host"
    )
    assert list((agent.base / ".zoo/staging").iterdir()) == []
    assert not (agent.base / ".zoo/releases" / bad).exists()
    repository.git("rm", "-q", path)
    mended = repository.commit({})
    assert agent.wait_outcome(release())["state"] == "active"
    assert agent.live() == mended


def test_a_symlink_within_the_release_is_deployed_as_it_is_even_where_it_is_dangling(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    targets = {"a": "index.html", "d/b": "../a", "c": "no/such/place", "itself": "itself"}
    for path, target in targets.items():
        link(repository, path, target)
    agent = agents().start()
    assert agent.wait_outcome(release())["state"] == "active"
    assert {path: os.readlink(agent.base / "site" / path) for path in targets} == targets


def test_where_it_is_allowed_a_symlink_may_lead_anywhere(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    link(repository, "passwd", "/etc/passwd")
    agent = agents(allow_outside_symlinks=True).start()
    assert agent.wait_outcome(release())["state"] == "active"
    assert os.readlink(agent.base / "site/passwd") == "/etc/passwd"


def test_the_agents_own_symlinks_to_shared_paths_and_those_of_a_commit_into_them_are_allowed(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    link(repository, "data/newest", "seed")
    link(repository, "uploads", "data")
    agent = agents(shared_paths=["data"]).start()
    for _time in range(2):
        assert agent.wait_outcome(release())["state"] == "active"
        assert (agent.base / "site/uploads/newest").is_symlink()
        repository.commit({"index.html": "two\n"})


def test_a_commits_symlink_at_a_shared_path_gives_way_to_the_agents_own_even_in_a_release_on_disk(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    link(repository, "data", "/srv/data")
    agent = agents(shared_paths=["data"], hooks={"before_activate": ["/bin/false"]}).start()
    assert "before_activate" in agent.wait_outcome(release())["message"]
    restart(agent, hooks={})
    assert agent.wait_outcome(release())["state"] == "active"
    assert (agent.base / "site/data").resolve() == agent.base / ".zoo/shared/data"


def test_symlinks_below_a_shared_path_count_only_where_they_become_its_first_contents(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    before = repository.head
    bad = link(repository, "data/up", "../index.html")
    agent = agents(shared_paths=["data"]).start()
    assert 'the symlink "data/up" to "../index.html"' in agent.wait_outcome(release())["message"]
    assert not (agent.base / ".zoo/shared/data").exists()
    assert agent.wait_outcome(release(before))["state"] == "active"
    assert agent.wait_outcome(release(bad))["state"] == "active"
    assert list((agent.base / "site/data").iterdir()) == []


def test_an_upgrade_takes_nothing_down_and_still_allows_a_rollback(
    deployed: Agents, repository: GitRepository, release: Publish, registrations: Registrations
) -> None:
    link(repository, "passwd", "/etc/passwd")
    # An agent that did not check symlinks left the same on disk as one that allows them.
    agent = deployed(allow_outside_symlinks=True, hooks={"after_activate": FAILS_WHERE_BROKEN})
    old = repository.head
    generation = agent.status["generation"]
    restart(agent, allow_outside_symlinks=False)
    wait_for(lambda: agent.status.get("state") == "active", "it is live as before")
    wait_for(registrations, "it is registered")
    assert (agent.live(), agent.status["generation"], agent.status.get("message")) == (old, generation, None)
    repository.git("rm", "-q", "passwd")
    repository.commit({"index.html": "broken\n"})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("rolled_back", old)
    newer = repository.commit({"index.html": "newer\n"})
    assert agent.wait_outcome(release())["state"] == "active"
    assert agent.live() == newer
    assert agent.wait_outcome(release(old))["state"] == "active"
    assert agent.live() == old


def test_a_release_that_was_healthy_here_is_recreated_where_a_hook_has_built_something_in_it(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    old = link(repository, "passwd", "/etc/passwd")
    agent = agents(allow_outside_symlinks=True).start()
    agent.wait_outcome(release())
    repository.git("rm", "-q", "passwd")
    repository.commit({"index.html": "newer\n"})
    agent.wait_outcome(release())
    (agent.base / ".zoo/releases" / old / "built").write_text("by a hook\n")
    restart(agent, allow_outside_symlinks=False)
    assert agent.wait_outcome(release(old))["state"] == "active"
    assert not (agent.base / "site/built").exists()


def test_a_release_on_disk_that_was_never_healthy_is_refused_once_its_symlinks_are_not_allowed(
    agents: Agents, repository: GitRepository, release: Publish
) -> None:
    agent = agents(allow_outside_symlinks=True, hooks={"before_activate": ["/bin/false"]}).start()
    bad = link(repository, "passwd", "/etc/passwd")
    assert "before_activate" in agent.wait_outcome(release())["message"]
    assert (agent.base / ".zoo/releases" / bad).is_dir()
    restart(agent, allow_outside_symlinks=False, hooks={})
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("failed", None)
    assert 'the symlink "passwd" to "/etc/passwd"' in status["message"]
