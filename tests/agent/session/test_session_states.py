"""The five states of a session, each produced with real servers: what the agent reports in it, and what it does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

from faults.support.proxy import Proxy
from support.agent import Agent, expire_session, publish
from support.client import connected
from support.ensemble import Ensemble, Member
from support.lonely import RETRY, lonely_ensemble
from support.ports import free_ports
from support.repository import GitRepository
from support.service import Service
from support.sight import scraped, shown
from support.waiting import wait_for

READ_ONLY = ("-Dreadonlymode.enabled=true",)
LOCAL = ("localSessionsEnabled=true", "localSessionsUpgradingEnabled=true")
"""Options with which a server without a quorum still accepts local sessions of its own."""
TIMEOUT = 10
"""Seconds of session timeout, the most that these servers grant."""
SLOW = 2000
"""Milliseconds of a tick that lets servers grant `LONG`."""
LONG = 40
"""Seconds of session timeout that outlast any election, even on a busy machine."""
PATIENCE = 120
"""Seconds after which a wait fails."""
STATES = {"SyncConnected", "Disconnected", "Expired", "AuthFailed", "ConnectedReadOnly"}


def witness(hosts: str) -> AbstractContextManager[KazooClient]:
    """A client of the test's own, whose `retry` and `Agent.status` outlast an election and the loss of its session."""
    return connected(hosts, timeout=TIMEOUT, connection_retry=RETRY, command_retry={**RETRY, "max_tries": 200})


@contextmanager
def ended(agent: Agent) -> Iterator[Agent]:
    """The agent for a block, after which it is killed."""
    try:
        yield agent
    finally:
        agent.kill()


def wait_state(agent: Agent, state: str) -> dict[str, Any]:
    """Wait until the agent's status file has this session state, and return it. Metrics and log have to agree."""
    try:
        status = wait_for(lambda: shown(agent) if shown(agent).get("session") == state else None, state, PATIENCE) or {}
    except AssertionError as exc:
        raise AssertionError(f"{exc}\nshown: {shown(agent)}\nlog:\n{agent.log}") from exc
    assert state in status["sessionStates"]
    assert f" session {state}" in agent.log
    samples = scraped(agent.config["metrics_port"])
    assert {name: samples[f'zoo_watcher_session_state{{state="{name}"}}'] for name in STATES} == {
        name: float(name == state) for name in STATES
    }
    assert samples[f'zoo_watcher_session_changes_total{{state="{state}"}}'] >= 1
    return status


@pytest.fixture
def watched(registered: dict[str, Any]) -> dict[str, Any]:
    """The configuration of an agent that registers the service and serves metrics."""
    (port,) = free_ports(1)
    return {**registered, "metrics_port": port, "session_timeout": TIMEOUT}


def test_without_a_server_the_session_is_disconnected_and_after_its_timeout_nothing_counts_as_registered(
    tmp_path: Path, app: str, service: Service, watched: dict[str, Any]
) -> None:
    service.open()
    with lonely_ensemble(tmp_path / "ensemble") as (servers, zk):
        agent = Agent(tmp_path / "server1", servers.hosts, app, zk, "server1", watched)
        with ended(agent.start()):
            path = f"{app}/service/server1"
            wait_state(agent, "SyncConnected")
            wait_for(lambda: shown(agent)["registered"] == [path], "it is registered", PATIENCE)
            servers.members[0].kill()
            killed = time.monotonic()
            assert wait_state(agent, "Disconnected")["registered"] == [path], "the session still lasts"
            wait_for(lambda: not shown(agent)["registered"], "the session may have ended", PATIENCE)
            assert time.monotonic() - killed > TIMEOUT / 2, "not before"
            servers.start()
            wait_state(agent, "SyncConnected")
            wait_for(lambda: shown(agent)["registered"] == [path], "it is registered again", PATIENCE)
            times = agent.log.count("session Disconnected")
            assert agent.end() == 0
            assert agent.log.count("session Disconnected") == times, "its own end is no loss of the connection"


def test_a_session_that_another_client_ends_is_reported_as_expired_once_there_is_a_new_one(
    agents: Callable[..., Agent], zk: KazooClient, app: str, service: Service, watched: dict[str, Any]
) -> None:
    service.open()
    agent = agents(**watched).start()
    wait_state(agent, "SyncConnected")
    path = f"{app}/service/server1"
    before = wait_for(lambda: zk.exists(path), "it is registered", PATIENCE)
    expire_session(agent)
    wait_for(lambda: (zk.exists(path) or before).czxid != before.czxid, "it is registered in another session", PATIENCE)
    status = wait_state(agent, "SyncConnected")
    assert status["sessionStates"]["Expired"] < status["sessionStates"]["SyncConnected"]
    assert "session Expired: the ensemble has ended the session" in agent.log
    assert scraped(watched["metrics_port"])['zoo_watcher_session_changes_total{state="Expired"}'] == 1


def use_password(servers: Ensemble, password: str) -> None:
    """Restart the server with another password for the user `agent`."""
    servers.members[0].kill()
    login = servers.root / "jaas.conf"
    login.write_text(re.sub('user_agent="[^"]*"', f'user_agent="{password}"', login.read_text()))
    servers.start()


def test_an_agent_logs_in_by_digest_and_deploys_what_only_its_user_may_read(
    agents: Callable[..., Agent], zk: KazooClient, app: str, release: Callable[..., int]
) -> None:
    zk.add_auth("digest", "agent:sesame")
    zk.create(app, b"", acl=[make_digest_acl("agent", "sesame", all=True)], makepath=True)
    zk.create(f"{app}/config", b"", acl=[make_digest_acl("agent", "sesame", all=True)])
    agent = agents(digest_username="agent", digest_password="sesame").start()
    assert agent.wait_outcome(release())["state"] == "active"
    assert "sesame" not in agent.log


def test_refused_credentials_are_retried_unhurriedly_until_the_server_accepts_them(
    tmp_path: Path, app: str, service: Service, watched: dict[str, Any]
) -> None:
    service.open()
    secret = "correct-horse-battery"
    sasl = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "agent", "sasl_password": secret, "session_timeout": 2}
    path = f"{app}/service/server1"
    with ExitStack() as stack:
        servers = Ensemble.with_sasl(tmp_path / "ensemble", {"agent": secret})
        stack.callback(servers.stop)
        servers.start()
        zk = stack.enter_context(witness(servers.hosts))
        zk.ensure_path(app)
        way = stack.enter_context(closing(Proxy(servers.members[0].client_port)))
        agent = Agent(tmp_path / "server1", f"127.0.0.1:{way.port}", app, zk, "server1", {**watched, **sasl})
        stack.enter_context(ended(agent.start()))
        wait_state(agent, "SyncConnected")
        wait_for(lambda: zk.retry(zk.exists, path), "it is registered", PATIENCE)
        use_password(servers, "another")
        assert wait_state(agent, "AuthFailed")["registered"] == []
        wait_for(lambda: not zk.retry(zk.exists, path), "what it cannot take back goes with its session", PATIENCE)
        accepted, begin = way.accepted, time.monotonic()
        wait_for(lambda: way.accepted > accepted + 2, "it goes on trying", PATIENCE)
        assert time.monotonic() - begin > 3, "and is in no hurry"
        assert agent.log.count("session AuthFailed") == 1, "said once"
        use_password(servers, secret)
        wait_state(agent, "SyncConnected")
        wait_for(lambda: zk.retry(zk.exists, path), "it is registered again", PATIENCE)
        assert secret not in agent.log
        assert "Traceback" not in agent.log


def test_a_server_without_a_quorum_is_read_only_and_nothing_is_lost_when_the_others_are_back(
    tmp_path: Path, app: str, repository: GitRepository, service: Service, watched: dict[str, Any]
) -> None:
    service.open()
    path = f"{app}/service/server1"
    with ExitStack() as stack:
        servers = Ensemble(tmp_path / "ensemble", tick=SLOW, extra=LOCAL, jvm=READ_ONLY)
        stack.callback(servers.stop)
        servers.start()
        zk = stack.enter_context(witness(servers.hosts))
        agent = Agent(tmp_path / "server1", servers.hosts, app, zk, "server1", {**watched, "session_timeout": LONG})
        stack.enter_context(ended(agent.start()))
        wait_state(agent, "SyncConnected")
        generation = publish(zk, app, {"url": repository.url, "commitId": repository.head, "relativePath": "site"})
        agent.wait_outcome(generation)
        before = wait_for(lambda: zk.exists(path), "it is registered", PATIENCE)
        for member in servers.members[:2]:
            member.kill()
        assert wait_state(agent, "ConnectedReadOnly")["registered"] == []
        (port,) = free_ports(1)
        late = Agent(tmp_path / "server2", servers.hosts, app, zk, "server2", {"metrics_port": port})
        stack.enter_context(ended(late.start()))
        assert wait_state(late, "ConnectedReadOnly")["registered"] == []
        assert late.live() is None, "a read-only server's release may be an old one"
        assert shown(agent)["session"] == "ConnectedReadOnly"
        servers.start()
        wait_state(agent, "SyncConnected")
        wait_state(late, "SyncConnected")
        late.wait_outcome(generation)
        assert late.live() == repository.head
        wait_for(lambda: shown(agent)["registered"] == [path], "it knows that it is registered", PATIENCE)
        assert zk.retry(zk.exists, path).czxid == before.czxid, "the very same registration"
        assert "Expired" not in {*shown(agent)["sessionStates"], *shown(late)["sessionStates"]}
        assert "Traceback" not in agent.log + late.log


def make_deaf(member: Member) -> None:
    """Restart a member so that it and the others look for each other at ports where nobody listens."""
    member.kill()
    config = member.directory / "zoo.cfg"
    nobody = iter(free_ports(6))
    config.write_text(
        re.sub(
            r"(?m)^(server\.\d=127\.0\.0\.1):\d+:\d+$",
            lambda match: f"{match[1]}:{next(nobody)}:{next(nobody)}",
            config.read_text(),
        )
    )
    member.start()


def test_a_read_only_server_is_left_for_one_that_can_write_while_it_stays_cut_off(
    tmp_path: Path, app: str, service: Service, watched: dict[str, Any]
) -> None:
    service.open()
    with ExitStack() as stack:
        servers = Ensemble(tmp_path / "ensemble", tick=SLOW, extra=LOCAL, jvm=READ_ONLY)
        stack.callback(servers.stop)
        servers.start()
        lonely, *others = servers.members
        majority = ",".join(f"127.0.0.1:{member.client_port}" for member in others)
        zk = stack.enter_context(witness(majority))
        # The lonely one comes first: it is the only one at which kazoo itself would look for a better server.
        agent = Agent(tmp_path / "server1", servers.hosts, app, zk, "server1", {**watched, "session_timeout": LONG})
        stack.enter_context(ended(agent.start()))
        wait_state(agent, "SyncConnected")
        for member in others:
            member.kill()
        make_deaf(lonely)
        wait_state(agent, "ConnectedReadOnly")
        assert f"session ConnectedReadOnly, server=127.0.0.1:{lonely.client_port}:" in agent.log
        for member in others:
            member.start()
        wait_state(agent, "SyncConnected")
        assert lonely.mode == "read-only", "it is still cut off"
        wait_for(lambda: zk.retry(zk.exists, f"{app}/service/server1"), "it is registered with the majority", PATIENCE)
        wait_for(lambda: shown(agent)["registered"], "and knows it", PATIENCE)


def test_a_read_only_server_that_accepts_no_new_session_is_disconnected_and_causes_no_traceback(
    tmp_path: Path, app: str, registered: dict[str, Any]
) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        servers = Ensemble(tmp_path / "ensemble", jvm=READ_ONLY)
        stack.callback(servers.stop)
        servers.start()
        zk = stack.enter_context(witness(servers.hosts))
        config = {**registered, "metrics_port": port, "log_level": "debug"}
        agent = Agent(tmp_path / "server1", servers.hosts, app, zk, "server1", config)
        stack.enter_context(ended(agent.start()))
        wait_state(agent, "SyncConnected")
        for member in servers.members[:2]:
            member.kill()
        wait_for(lambda: servers.members[2].mode == "read-only", "the last one is read-only", PATIENCE)
        wait_for(lambda: "invalid server response" in agent.log, "it was asked for a session of its own", PATIENCE)
        assert wait_state(agent, "Disconnected")
        servers.start()
        wait_state(agent, "SyncConnected")
        assert "Traceback" not in agent.log
