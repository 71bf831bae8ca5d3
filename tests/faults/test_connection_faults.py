"""Connections of an agent are refused, swallowed, cut or slow: a hiccup causes no event, a loss is recovered from."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kazoo.client import KazooClient

from faults.support.host import Host, Watch
from faults.support.ledger import FLAPS, Ledger
from faults.support.proxy import Proxy
from support.ensemble import Ensemble
from support.waiting import wait_for

Hosts = Callable[..., Host]
TIMEOUT = 6
"""Seconds of session timeout of an agent with a hiccup in its connection."""


@pytest.fixture
def way(ensemble: Ensemble) -> Iterator[Proxy]:
    """The agent's only way to the ensemble."""
    with closing(Proxy(ensemble.members[0].client_port)) as proxy:
        yield proxy


def swallow(way: Proxy) -> None:
    way.swallow()


def cut(way: Proxy) -> None:
    way.cut()


def refuse(way: Proxy) -> None:
    way.refuse()


def delay(way: Proxy) -> None:
    way.delay = 0.3


@pytest.mark.parametrize("trouble", [swallow, cut, refuse, delay])
def test_a_hiccup_of_the_connection_within_the_session_timeout_is_no_event_at_a_watcher(
    way: Proxy, host: Hosts, zk: KazooClient, ledger: Ledger, trouble: Callable[[Proxy], None]
) -> None:
    one = host(hosts=f"127.0.0.1:{way.port}", session_timeout=TIMEOUT).start()
    registration = one.settle()
    watch = Watch(zk, one.registration)
    ledger.inject(f"connection to the ensemble, within the session timeout: {trouble.__name__}")
    trouble(way)
    begin, accepted = time.monotonic(), way.accepted
    wait_for(lambda: time.monotonic() - begin > TIMEOUT / 3, "the trouble lasts")
    way.behave()
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    assert way.accepted > accepted or trouble in {swallow, delay}, "the agent has connected again"
    one.check_same(registration)
    ledger.judge(FLAPS, f"{watch.events}" if watch.events else "")


@pytest.mark.parametrize("trouble", [swallow, refuse])
def test_a_connection_lost_for_longer_than_the_session_timeout_takes_nothing_down_and_is_recovered(
    way: Proxy, host: Hosts, zk: KazooClient, ledger: Ledger, trouble: Callable[[Proxy], None]
) -> None:
    one = host(hosts=f"127.0.0.1:{way.port}", session_timeout=2).start()
    registration = one.settle()
    before = one.origin.head
    ledger.inject(f"connection to the ensemble, longer than the session timeout: {trouble.__name__}")
    trouble(way)
    wait_for(lambda: not zk.exists(one.registration), "the session expires")
    one.check_live(before)
    way.behave()
    one.origin.commit({"index.html": "two\n"})
    assert one.settle() != registration


@pytest.mark.parametrize("restarts", [False, True])
def test_a_release_with_which_the_ensemble_cannot_be_reached_gives_way_to_the_previous_one(
    way: Proxy, host: Hosts, ledger: Ledger, restarts: bool
) -> None:
    one = host(hosts=f"127.0.0.1:{way.port}", session_timeout=2, rollback_when_isolated=1)
    live, go_on = one.agent.root / "live", one.agent.root / "go-on"
    first = f"[ -e {live}.first ] || {{ touch {live}.first; exit; }}"
    wait = f"{first}; touch {live}; until [ -e {go_on} ]; do sleep 0.02; done"
    one.agent.config["hooks"] = {"after_activate": ["/bin/sh", "-c", wait]}
    one.start().settle()
    before = one.origin.head
    isolating = one.origin.commit({"index.html": "breaks the network\n"})
    generation = one.publish()
    wait_for(live.exists, "the release is live, its hook runs")
    one.check_live(isolating)
    ledger.inject("a release that isolates its host")
    way.swallow()
    if restarts:
        one.agent.end(signal.SIGKILL)
    go_on.touch()
    if restarts:
        one.agent.start()
    wait_for(lambda: one.agent.live() == before, "the host has gone back")
    way.behave()
    status = one.outcome(generation)
    assert status["state"] == "rolled_back"
    assert "rollback_when_isolated" in status["message"]
    one.check_live(before)
    one.check_registered()


def test_an_agent_that_leaves_while_its_connection_is_lost_for_a_moment_leaves_no_registration(
    way: Proxy, host: Hosts, zk: KazooClient, ledger: Ledger
) -> None:
    one = host(hosts=f"127.0.0.1:{way.port}", session_timeout=30).start()
    one.settle()
    ledger.inject("connection to the ensemble, lost for a moment while the agent leaves")
    way.refuse()
    wait_for(lambda: "session Disconnected" in one.agent.log, "the connection is lost")
    assert one.agent.process
    one.agent.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "leaving" in one.agent.log, "it leaves")
    way.behave()
    assert one.agent.process.wait(20) == 0
    zk.sync(one.registration)
    assert not zk.exists(one.registration), "it is gone at once, not with the session timeout"


def test_a_registration_that_is_deleted_while_the_connection_is_lost_is_recreated(
    way: Proxy, host: Hosts, zk: KazooClient, ledger: Ledger
) -> None:
    one = host(hosts=f"127.0.0.1:{way.port}", session_timeout=30).start()
    one.settle()
    session = zk.exists(one.registration).ephemeralOwner
    ledger.inject("deletion of a registration while its agent's connection is lost")
    way.refuse()
    wait_for(lambda: "session Disconnected" in one.agent.log, "the connection is lost")
    zk.delete(one.registration)
    way.behave()
    one.check_registered()
    assert zk.exists(one.registration).ephemeralOwner == session
