"""An agent that is started with another configuration leaves nothing behind at its previous paths."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
LONG = 30
"""A session timeout so long that an ephemeral that disappears much sooner did not just expire."""


def move_service(agent: Agent) -> None:
    """Register at another path."""
    agent.config["services"][0]["path"] += "/other"


def move_name(agent: Agent) -> None:
    """Take another name, which is also the ID of the registration."""
    agent.name = "server2"


def move_app(agent: Agent) -> None:
    """Serve another application."""
    agent.app += "/other"


@pytest.mark.parametrize("move", [move_service, move_name, move_app])
def test_status_and_registration_move_when_their_paths_change(
    agents: Agents,
    zk: KazooClient,
    registered: dict[str, Any],
    service: Service,
    move: Callable[[Agent], None],
) -> None:
    service.open()
    agent = agents(session_timeout=LONG, **registered).start()
    before = wait_for(lambda: held(zk, agent), "both are there")
    agent.end(signal.SIGKILL)
    move(agent)
    agent.start()
    after = wait_for(lambda: held(zk, agent), "both are there")
    wait_for(lambda: not any(zk.exists(path) for path in before - after), "nothing is left behind", LONG / 3)


@pytest.mark.parametrize(("before", "after"), [("/old", "/new"), ("", "/new"), ("/old", "")])
def test_status_and_registration_move_to_another_chroot(
    agents: Agents, zk: KazooClient, app: str, registered: dict[str, Any], service: Service, before: str, after: str
) -> None:
    service.open()
    for chroot in ("/old", "/new"):
        zk.ensure_path(app + chroot)
    agent = agents(session_timeout=LONG, **registered)
    ensemble = agent.hosts
    agent.hosts += app + before if before else ""
    agent.start()
    left = wait_for(lambda: held(zk, agent, app + before if before else ""), "both are there")
    agent.end(signal.SIGUSR2)
    agent.hosts = ensemble + (app + after if after else "")
    agent.start()
    wait_for(lambda: held(zk, agent, app + after if after else ""), "both are there")
    wait_for(lambda: not any(zk.exists(path) for path in left), "nothing is left behind", LONG / 3)
    wait_for(lambda: "former session closed" in agent.log, "the log says so")


def test_an_agent_in_a_copy_of_a_base_has_a_session_of_its_own(
    agents: Agents, zk: KazooClient, registered: dict[str, Any], service: Service
) -> None:
    service.open()
    first = agents(session_timeout=LONG, **registered).start()
    wait_for(lambda: held(zk, first), "both are there")
    second = agents("server2", session_timeout=LONG, **registered)
    being_written = shutil.ignore_patterns(".new.*")
    shutil.copytree(first.base, second.base, symlinks=True, ignore=being_written)
    second.start()
    theirs = wait_for(lambda: held(zk, second), "those of the second are there")
    ours = wait_for(lambda: held(zk, first), "those of the first are there still")
    owners = [{zk.exists(path).ephemeralOwner for path in paths} for paths in (ours, theirs)]
    assert owners[0].isdisjoint(owners[1])
    assert first.log.count("session SyncConnected") == 1


def held(zk: KazooClient, agent: Agent, chroot: str = "") -> set[str]:
    """The paths of status and registration, once both exist."""
    paths = {
        f"{chroot}{agent.app}/agents/{agent.name}",
        f"{chroot}{agent.config['services'][0]['path']}/{agent.name}",
    }
    return paths if all(zk.exists(path) for path in paths) else set()
