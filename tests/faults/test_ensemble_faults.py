"""Members of the ensemble crash, hang and are cut off, a quorum is lost, a session expires."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.support.host import Host, patiently
from faults.support.ledger import Ledger
from faults.support.partition import PartitionedEnsemble
from faults.support.ways import Ways
from support.agent import expire_session
from support.client import connected
from support.ensemble import Ensemble
from support.lonely import RETRY
from support.repository import GitRepository
from support.waiting import wait_for

Hosts = Callable[..., Host]
TIMEOUT = 6
"""Seconds of session timeout that outlast an election."""


@pytest.fixture
def ways(ensemble: Ensemble) -> Iterator[Ways]:
    """The agent's proxies to the shared ensemble."""
    with ExitStack() as stack:
        yield Ways(ensemble, stack)


@pytest.fixture
def whole(ensemble: Ensemble) -> Iterator[Ensemble]:
    """The shared ensemble, repaired after the test."""
    yield ensemble
    for member in ensemble.members:
        member.signal(signal.SIGCONT)
    ensemble.start()


@pytest.mark.parametrize("role", ["leader", "follower"])
@pytest.mark.parametrize("crash", [signal.SIGKILL, signal.SIGSTOP], ids=["kill", "stop"])
def test_the_crash_of_the_agents_own_member_costs_neither_commit_nor_registration(
    whole: Ensemble, ways: Ways, host: Hosts, ledger: Ledger, role: str, crash: signal.Signals
) -> None:
    victim = next(member for member in whole.members if member.mode == role)
    ways.lead_to(victim)
    one = host(hosts=ways.hosts, session_timeout=TIMEOUT).start()
    registration = one.settle()
    ways.open()
    ledger.inject(f"{crash.name} of the {role} that an agent is connected to")
    if crash == signal.SIGKILL:
        victim.kill()
    else:
        victim.signal(crash)
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    one.check_same(registration)


def test_a_quorum_lost_for_longer_than_the_session_timeout_costs_nothing_in_the_end(
    whole: Ensemble, host: Hosts, ledger: Ledger
) -> None:
    one = host(session_timeout=2).start()
    one.settle()
    before = one.origin.head
    ledger.inject("loss of the quorum for longer than the session timeout")
    for member in whole.members[:2]:
        member.kill()
    over = time.monotonic() + 2 * 2
    later = one.origin.commit({"index.html": "two\n"})
    while time.monotonic() < over:
        one.check_live(before)
        time.sleep(0.2)
    whole.start()
    one.settle(later)


def test_a_session_that_is_expired_on_purpose_is_replaced_with_all_that_it_held(host: Hosts, ledger: Ledger) -> None:
    one = host(session_timeout=4).start()
    registration = one.settle()
    for text in ("two\n", "three\n"):
        ledger.inject("a session expired by another client")
        expire_session(one.agent)
        wait_for_another(one, registration)
        one.origin.commit({"index.html": text})
        registration = one.settle()


def wait_for_another(one: Host, registration: int) -> None:
    """Wait until the host is registered in another session than the one that made `registration`."""

    def another() -> bool:
        stat = patiently(lambda: one.zk.exists(one.registration))
        return bool(stat and stat.czxid != registration)

    wait_for(another, "it is registered in a new session")
    one.check_registered()


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_an_agent_at_a_member_that_is_cut_off_moves_to_the_majority(
    tmp_path: Path, repository: GitRepository, ledger: Ledger, role: str, host: Hosts
) -> None:
    servers = PartitionedEnsemble(tmp_path / "partitioned")
    with ExitStack() as stack:
        stack.callback(servers.stop)
        servers.start()
        ways = Ways(servers, stack)
        victim = next(member for member in servers.members if member.mode == role)
        majority = ",".join(f"127.0.0.1:{one.client_port}" for one in servers.members if one is not victim)
        zk = stack.enter_context(connected(majority, timeout=10, connection_retry=RETRY))
        ways.lead_to(victim)
        one = host(hosts=ways.hosts, session_timeout=TIMEOUT)
        one.zk = one.agent.zk = zk
        one.start()
        registration = one.settle()
        ledger.inject(f"a {role} cut into a minority")
        servers.cut_off(victim)
        ways.open()
        wait_for(lambda: victim.mode not in {"leader", "follower"}, "the member has lost the others")
        repository.commit({"index.html": "two\n"})
        one.settle()
        one.check_same(registration)
        servers.reunite(victim)
        wait_for(lambda: victim.mode == "follower", "the member is back")
        repository.commit({"index.html": "three\n"})
        one.settle()
        one.check_same(registration)
        one.stop()


def test_a_rolling_restart_of_the_members_keeps_a_registration(whole: Ensemble, host: Hosts, ledger: Ledger) -> None:
    one = host(session_timeout=TIMEOUT).start()
    registration = one.settle()
    for member in whole.members:
        ledger.inject("restart of a member")
        member.kill()
        patiently(lambda: one.zk.exists("/"))
        whole.start()
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    one.check_same(registration)
