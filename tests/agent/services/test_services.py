"""A service is registered while its host has a release and it is healthy, and at no other time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import EventType, WatchedEvent
from kazoo.security import make_digest_acl

from support.agent import Agent
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]
HANGING_RESOLVER = """
import pathlib, runpy, socket, time
look_up, hangs = socket.getaddrinfo, pathlib.Path({hangs!r})
def slow(*words, **options):
    while hangs.exists():
        time.sleep(0.01)
    return look_up(*words, **options)
socket.getaddrinfo = slow
runpy.run_module("zoo_watcher", run_name="__main__", alter_sys=True)
"""
"""An agent whose resolver, which no check's timeout ends, does not answer while the file `hangs` exists."""


@pytest.mark.smoke
def test_a_registration_appears_with_health_and_disappears_without(
    agents: Agents, release: Publish, service: Service, registered: dict[str, Any], registrations: Registrations
) -> None:
    agent = agents(**registered).start()
    service.open()
    agent.wait_outcome(release())
    assert wait_for(registrations, "it is registered") == {"server1": ["192.0.2.7", str(service.port)]}
    service.close()
    wait_for(lambda: not registrations(), "it is not registered while its port is closed")
    service.open()
    wait_for(registrations, "it is registered again")
    service.answer = lambda: (503, "down for maintenance")
    wait_for(lambda: not registrations(), "it is not registered while it answers 503")


def test_a_registration_is_ephemeral_and_in_the_agents_own_session(serving: Agents, zk: KazooClient, app: str) -> None:
    serving()
    owner = zk.get(f"{app}/service/server1")[1].ephemeralOwner
    assert owner != 0
    assert owner == zk.get(f"{app}/agents/server1")[1].ephemeralOwner


def test_a_host_without_the_release_that_is_published_is_not_registered(
    agents: Agents, release: Publish, service: Service, registered: dict[str, Any], registrations: Registrations
) -> None:
    service.open()
    release("0" * 40)
    agent = agents(**registered).start()
    wait_for(lambda: "was it pushed" in (agent.status.get("message") or ""), "the agent is at work")
    assert registrations() == {}
    agent.wait_outcome(release())
    wait_for(registrations, "it is registered once it has the release")


def test_a_failed_release_leaves_the_registration_of_the_one_that_is_live(
    deployed: Agents, zk: KazooClient, app: str, release: Publish
) -> None:
    agent = deployed()
    before = zk.get(f"{app}/service/server1")[1].czxid
    assert agent.wait_outcome(release(relativePath="../x"))["state"] == "failed"
    assert agent.wait_outcome(release())["state"] == "active"
    assert zk.get(f"{app}/service/server1")[1].czxid == before


def test_a_deleted_registration_is_recreated(
    serving: Agents,
    zk: KazooClient,
    app: str,
    service: Service,
    registrations: Registrations,
) -> None:
    serving()
    for _unused in range(3):
        wait_for(registrations, "it is registered")
        zk.delete(f"{app}/service/server1")
    assert wait_for(registrations, "it is registered again")["server1"] == ["192.0.2.7", str(service.port)]


def test_an_edited_and_then_deleted_registration_is_recreated(
    serving: Agents, zk: KazooClient, app: str, service: Service, registrations: Registrations
) -> None:
    serving()
    right = {"server1": ["192.0.2.7", str(service.port)]}
    for _unused in range(2):
        zk.set(f"{app}/service/server1", b'["192.0.2.8", "1"]')
        wait_for(lambda: registrations() == right, "it has its value again")
    zk.set(f"{app}/service/server1", b'["192.0.2.8", "1"]')
    zk.delete(f"{app}/service/server1")
    wait_for(lambda: registrations() == right, "it is registered again")


def test_a_deleted_status_is_recreated(agents: Agents, zk: KazooClient, app: str) -> None:
    agent = agents().start().wait_live()
    for _unused in range(3):
        zk.delete(f"{app}/agents/server1")
        agent.wait_live()
    assert agent.status["name"] == "server1"


def test_somebody_elses_registration_is_left_alone_until_it_is_deleted(
    agents: Agents,
    zk: KazooClient,
    app: str,
    service: Service,
    registered: dict[str, Any],
    registrations: Registrations,
) -> None:
    zk.create(f"{app}/service/server1", b'["198.51.100.1", "1"]', makepath=True)
    agent = agents(**registered).start()
    service.open()
    wait_for(lambda: f"{app}/service/server1 is taken" in agent.log, "the log says that the path is taken")
    assert registrations() == {"server1": ["198.51.100.1", "1"]}
    zk.delete(f"{app}/service/server1")
    wait_for(lambda: registrations().get("server1", [""])[0] == "192.0.2.7", "it is registered")


def test_each_of_several_services_is_registered_by_its_own_health(
    agents: Agents, zk: KazooClient, app: str, service: Service, registered: dict[str, Any]
) -> None:
    other = Service()
    first = registered["services"][0]
    second = {**first, "path": f"{app}/nerve", "port": other.port, "format": "nerve", "id": "other"}
    agents(services=[first, second]).start()
    service.open()
    wait_for(lambda: zk.exists(f"{app}/service/server1"), "the first one is registered")
    assert zk.exists(f"{app}/nerve") is None
    other.open()
    try:
        (name,) = wait_for(lambda: zk.exists(f"{app}/nerve") and zk.get_children(f"{app}/nerve"), "so is the second")
        assert json.loads(zk.get(f"{app}/nerve/{name}")[0]) == {
            "host": "192.0.2.7",
            "port": other.port,
            "name": "other",
        }
        service.close()
        wait_for(lambda: not zk.exists(f"{app}/service/server1"), "the first one has gone")
        assert zk.exists(f"{app}/nerve/{name}")
    finally:
        other.close()


def test_a_service_that_misses_fewer_answers_than_its_fall_stays_registered(
    agents: Agents,
    zk: KazooClient,
    app: str,
    service: Service,
    registered: dict[str, Any],
    registrations: Registrations,
) -> None:
    registered["services"][0]["check"]["fall"] = 3
    agents(**registered).start()
    answers = [200]
    service.answer = lambda: (answers.pop() if answers else 200, "")
    service.open()
    wait_for(registrations, "it is registered")
    events: list[WatchedEvent] = []
    zk.exists(f"{app}/service/server1", watch=events.append)
    answers[:] = [500, 500, 200, 500, 500, 200]
    wait_for(lambda: not answers, "all these answers were given")
    asked = len(service.asked)
    wait_for(lambda: len(service.asked) > asked + 3, "it is asked further")
    assert events == []
    answers[:] = [500] * 3
    event = wait_for(lambda: events, "the registration goes")[0]
    assert event.type == EventType.DELETED


def test_a_service_whose_place_is_taken_keeps_no_other_from_being_registered_or_withdrawn(
    agents: Agents, zk: KazooClient, app: str, service: Service, registered: dict[str, Any]
) -> None:
    first = registered["services"][0]
    second = {**first, "id": "second"}
    zk.create(f"{app}/service/server1", b"somebody else's", makepath=True)
    agent = agents(services=[first, second]).start()
    service.open()
    wait_for(lambda: zk.exists(f"{app}/service/second"), "the other one is registered")
    wait_for(lambda: f"{app}/service/server1 is taken" in str(agent.status.get("troubles")), "the status says so")
    service.close()
    wait_for(lambda: not zk.exists(f"{app}/service/second"), "it is withdrawn")
    zk.delete(f"{app}/service/server1")
    wait_for(lambda: "troubles" not in agent.status, "the status says that nothing is wrong any more")


def test_a_config_that_can_no_longer_be_read_neither_keeps_nor_removes_a_registration(
    deployed: Agents, zk: KazooClient, app: str, service: Service, registrations: Registrations
) -> None:
    agent = deployed()
    zk.set_acls(f"{app}/config", [make_digest_acl("somebody", "else", all=True)])
    agent.end()
    agent.start()
    wait_for(registrations, "what was proved here before is registered")
    wait_for(lambda: f"{app}/config: " in str(agent.status.get("troubles")), "the status says what is refused")
    service.close()
    wait_for(lambda: not registrations(), "an unhealthy service is withdrawn")


def test_a_service_whose_check_hangs_is_withdrawn_until_there_is_an_answer_again(
    agents: Agents, service: Service, registered: dict[str, Any], registrations: Registrations, tmp_path: Path
) -> None:
    hangs = tmp_path / "hangs"
    registered["services"][0]["check"]["timeout"] = 0.1
    agent = agents(**registered)
    agent.program = ("-c", HANGING_RESOLVER.format(hangs=str(hangs)))
    agent.start()
    service.open()
    wait_for(registrations, "it is registered")
    hangs.touch()
    wait_for(lambda: not registrations(), "what was found long ago is no proof of health")
    hangs.unlink()
    wait_for(registrations, "it is registered again")
