"""An ensemble that is not up yet, becomes unreachable, is too slow, or holds more than it should."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent, publish
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import lonely_ensemble
from support.relay import Relay, send
from support.repository import GitRepository
from support.service import Service
from support.silent import SilentMember
from support.waiting import wait_for

IMPATIENT = """
from zoo_watcher.zookeeper import session
from zoo_watcher.__main__ import main
session.ANSWER_TIMEOUT = 0.3
raise SystemExit(main())
"""
"""An agent whose loop waits for an answer for less time than the connection does."""


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Ensemble]:
    """A server, not started yet, with packets of up to 4 MB, and sessions that outlast its start on a busy machine."""
    servers = Ensemble(tmp_path / "single", size=1, tick=2000, jvm=("-Djute.maxbuffer=4194304",))
    try:
        yield servers
    finally:
        servers.stop()


def test_an_agent_waits_for_the_ensemble_outlives_its_outage_and_refuses_what_is_too_large(
    single: Ensemble, tmp_path: Path, repository: GitRepository, service: Service
) -> None:
    zk = KazooClient(hosts=single.hosts)
    app = f"/app/test-{uuid.uuid4().hex[:12]}"
    check = {"interval": 0.05, "fall": 1}
    services = [{"path": f"{app}/service", "port": service.port, "check": check}]
    agent = Agent(tmp_path / "server1", single.hosts, app, zk, "server1", {"services": services, "session_timeout": 30})
    release = {"url": repository.url, "commitId": repository.head, "relativePath": "site"}
    try:
        agent.start()
        service.open()
        wait_for(lambda: "watching" in agent.log, "the agent runs before there is an ensemble")
        single.start()
        zk.start(timeout=20)
        agent.wait_outcome(publish(zk, app, release))
        wait_for(lambda: zk.exists(f"{app}/service/server1"), "it is registered")
        _outlive_a_restart(single, zk, f"{app}/service/server1")
        _refuse_two_megabytes(agent, release)
        later = repository.commit({"index.html": "two\n"})
        assert agent.wait_outcome(publish(zk, app, {**release, "commitId": later}))["commitId"] == later
        assert agent.end() == 0
    finally:
        agent.kill()
        zk.stop()
        zk.close()


def _outlive_a_restart(single: Ensemble, zk: KazooClient, registration: str) -> None:
    """The server restarts within the session timeout: the registration is the very same."""
    before = zk.exists(registration).czxid
    single.members[0].kill()
    single.start()
    wait_for(lambda: zk.connected, "the ensemble is back")
    assert zk.retry(zk.exists, registration).czxid == before


def _refuse_two_megabytes(agent: Agent, release: dict[str, str]) -> None:
    """A value of 2 MB, which this server takes, is reported by its size and changes nothing."""
    data = json.dumps({**release, "padding": "x" * 2_000_000}).encode()
    status = agent.wait_outcome(publish(agent.zk, agent.app, data))
    assert status["state"] == "failed"
    assert f"{len(data)} bytes: expected at most 1000000" in status["message"]
    assert agent.live() == release["commitId"]


def test_an_ensemble_that_is_set_up_again_from_scratch_is_recognised_as_new(
    single: Ensemble, tmp_path: Path, repository: GitRepository, service: Service
) -> None:
    app = "/app/business"
    services = [{"path": f"{app}/service", "port": service.open().port}]
    config = {"services": services, "session_timeout": 2}
    release = {"url": repository.url, "commitId": repository.head, "relativePath": "site"}
    single.start()
    with connected(single.hosts) as zk:
        for number in range(20):
            zk.create(f"/history-{number}")
        agent = Agent(tmp_path / "server1", single.hosts, app, zk, "server1", config).start()
        agent.wait_outcome(publish(zk, app, release))
    try:
        single.members[0].kill()
        shutil.rmtree(single.members[0].directory / "data/version-2")
        single.start()
        with connected(single.hosts) as zk:
            agent.zk = zk
            later = repository.commit({"index.html": "two\n"})
            assert agent.wait_outcome(publish(zk, app, {**release, "commitId": later}))["commitId"] == later
            wait_for(lambda: zk.exists(f"{app}/service/server1"), "it is registered")
    finally:
        agent.kill()


def test_an_ensemble_too_slow_to_withdraw_a_dead_service_is_left_alone_until_the_session_has_ended(
    ensemble: Ensemble, agents: Callable[..., Agent], zk: KazooClient, app: str, service: Service
) -> None:
    """Its answers come in time for the session to be resumed, again and again, and for nothing else."""
    relay = Relay(ensemble.members[0].client_port)
    services = [{"path": f"{app}/service", "port": service.port, "check": {"interval": 0.05, "fall": 1}}]
    agent = agents(hosts=relay.hosts, services=services)
    try:
        service.open()
        agent.start().wait_live()
        registration = f"{app}/service/server1"
        wait_for(lambda: zk.exists(registration), "it is registered")
        relay.delay = 3.4
        service.close()
        wait_for(lambda: not zk.exists(registration), "the session has ended", 90)
        assert "no answer in time to withdraw" in agent.log
        relay.delay = 0.0
        service.open()
        wait_for(lambda: zk.exists(registration), "it is registered again", 60)
    finally:
        relay.close()


@pytest.mark.parametrize("count", [1, 3])
def test_an_unhealthy_service_is_withdrawn_though_each_answer_comes_too_late(
    ensemble: Ensemble, agents: Callable[..., Agent], zk: KazooClient, app: str, service: Service, count: int
) -> None:
    """This is so with a session timeout of minutes: the connection lasts, and so does the session."""
    relay = Relay(ensemble.members[0].client_port)
    port, check = service.open().port, {"interval": 0.05, "fall": 1}
    services = [{"path": f"{app}/service", "id": f"s{i}", "port": port, "check": check} for i in range(count)]
    agent = agents(hosts=relay.hosts, services=services)
    agent.program = ("-c", IMPATIENT)
    try:
        agent.start().wait_live()
        zk.ensure_path(f"{app}/service")
        wait_for(lambda: len(zk.get_children(f"{app}/service")) == count, "all are registered")
        relay.delay = 0.6
        service.close()
        wait_for(lambda: not zk.get_children(f"{app}/service"), "all are withdrawn")
        assert "no answer within 0.3 s" in agent.log
        assert "Disconnected" not in agent.log
    finally:
        agent.kill()
        relay.close()


class HangingUp(Relay):
    """A relay that accepts each client's session, and hangs up on its second request while `hangs_up` is set."""

    hangs_up = False
    times = 0

    def hand_on(self, requests: Iterator[bytes], server: socket.socket) -> None:
        """Send the handshake and one request, and the others unless it hangs up."""
        for number, request in enumerate(requests):
            if number == 2 and self.hangs_up:
                self.times += 1
                return
            send(server, request)


def test_a_server_that_hangs_up_on_each_connection_is_a_few_lines_of_the_log(
    ensemble: Ensemble, agents: Callable[..., Agent]
) -> None:
    relay = HangingUp(ensemble.members[0].client_port)
    agent = agents(hosts=relay.hosts)
    try:
        agent.start().wait_live()
        relay.hangs_up = True
        relay.end_all()
        wait_for(lambda: relay.times >= 30, "it was lost often")
        told = agent.log.count("session SyncConnected")
        assert told <= 5
        assert len(re.findall(r"\d connections in \d s were lost at once: .+", agent.log)) == 1
        relay.hangs_up = False
        wait_for(lambda: agent.log.count("session SyncConnected") == told + 1, "there is a session that lasts")
    finally:
        relay.close()


def test_an_ensemble_that_is_unreachable_is_a_few_lines_of_the_journal_each_with_its_priority(
    tmp_path: Path, app: str
) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    stream = f"{journal.stat().st_dev}:{journal.stat().st_ino}"
    with lonely_ensemble(tmp_path / "ensemble") as (servers, zk):
        agent = Agent(tmp_path / "server1", servers.hosts, app, zk, log_to=journal)
        try:
            agent.start(JOURNAL_STREAM=stream).wait_live()
            wait_for(lambda: zk.exists(f"{app}/roster/server1"), "all is done that there is to do")
            begun = journal.read_text().splitlines()
            servers.members[0].kill()
            again = re.compile(r"session still Disconnected after ([5-9]|1\d) s")
            wait_for(lambda: again.search(journal.read_text()), "it is said once more")
            outage = journal.read_text().splitlines()[len(begun) :]
            servers.start()
            wait_for(lambda: journal.read_text().count("\n<6>INFO session SyncConnected") == 2, "there is a session")
        finally:
            agent.kill()
    assert [line[:8] for line in begun] == ["<6>INFO "] * len(begun)
    assert [line[:11] for line in outage] == ["<4>WARNING "] * len(outage)
    told = [line.split(" session ")[1].partition(":")[0] for line in outage if " session " in line]
    assert (told[0], told[1][:24], len(told)) == ("Disconnected", "still Disconnected after", 2)
    # It tries to connect many times a second, and what it was doing at that moment may be logged too.
    assert len(outage) <= 4, outage


def test_no_session_is_lost_to_members_whose_hosts_are_off(
    serving: Callable[..., Agent], zk: KazooClient, ensemble: Ensemble, app: str
) -> None:
    off = [SilentMember(), SilentMember()]
    ports = [*(member.port for member in off), ensemble.members[0].client_port]
    agent = serving(hosts=",".join(f"127.0.0.1:{port}" for port in ports), session_timeout=10)
    registration = f"{app}/service/server1"
    first = zk.exists(registration)
    for times in (2, 3, 4):
        assert agent.process
        agent.process.send_signal(signal.SIGHUP)

        def has_begun(times: int = times) -> bool:
            return agent.log.count("session SyncConnected") == times

        wait_for(has_begun, "it has begun anew")
    assert zk.exists(registration).czxid == first.czxid
    for member in off:
        member.close()
