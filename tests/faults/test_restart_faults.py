"""An agent is killed, upgraded, duplicated, given many releases in a second, and its config znode is deleted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from kazoo.client import KazooClient

from faults.support.host import Host, Watch
from faults.support.ledger import FLAPS, Ledger
from faults.support.swaps import Swaps
from support.waiting import wait_for

Hosts = Callable[..., Host]


def watch_past(watch: Watch, host: Host, seconds: float, registration: int) -> None:
    """Watch until the session of a killed process would have expired twice over."""
    over = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > over, "the old session's end is past", seconds + 5)
    host.ledger.judge(FLAPS, f"{watch.events}" if watch.events else "")
    host.check_same(registration)


def test_the_registration_of_a_killed_and_restarted_agent_outlasts_its_old_session(
    host: Hosts, zk: KazooClient, ledger: Ledger
) -> None:
    one = host(session_timeout=2).start()
    registration = one.settle()
    watch = Watch(zk, one.registration)
    ledger.inject("kill -9 of an agent, restarted within the session timeout")
    one.agent.end(signal.SIGKILL)
    one.start()
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    watch_past(watch, one, 2 * 2, registration)


def test_a_killed_agent_that_has_lost_its_session_file_is_registered_once_its_old_session_is_gone(
    host: Hosts, zk: KazooClient, ledger: Ledger
) -> None:
    one = host(session_timeout=2).start()
    one.settle()
    ledger.inject("kill -9 of an agent, and its session file lost")
    one.agent.end(signal.SIGKILL)
    (one.agent.base / ".zoo/session.json").unlink()
    one.start()
    one.origin.commit({"index.html": "two\n"})
    registration = one.settle()
    watch_past(Watch(zk, one.registration), one, 2 * 2, registration)


def test_an_upgrade_is_no_event_at_a_watcher(host: Hosts, zk: KazooClient, ledger: Ledger) -> None:
    one = host(session_timeout=2).start()
    registration = one.settle()
    watch = Watch(zk, one.registration)
    for _unused in range(3):
        ledger.inject("restart of an agent by SIGUSR2")
        assert one.agent.end(signal.SIGUSR2) == 0
        one.start()
        wait_for(lambda: "active, generation=" in one.agent.log[one.logged :], "the new process is at work")
    one.origin.commit({"index.html": "two\n"})
    one.settle()
    watch_past(watch, one, 2 * 2, registration)


def test_a_hanging_agent_whose_session_has_expired_returns_with_the_newest_release(
    host: Hosts, zk: KazooClient, ledger: Ledger
) -> None:
    one = host(session_timeout=1).start()
    one.settle()
    assert one.agent.process is not None
    ledger.inject("SIGSTOP of an agent for longer than its session timeout")
    one.agent.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: not zk.exists(one.registration), "the session expires")
    one.origin.commit({"index.html": "two\n"})
    generation = one.publish()
    one.agent.process.send_signal(signal.SIGCONT)
    one.settle(generation=generation)


def test_a_second_agent_of_the_same_name_takes_nothing_over(host: Hosts, zk: KazooClient, ledger: Ledger) -> None:
    one = host(session_timeout=1).start()
    registration = one.settle()
    watch = Watch(zk, one.registration)
    ledger.inject("a second agent of the same name")
    double = host("double")
    double.agent.config = {"session_timeout": 1}
    double.agent.name = one.agent.name
    double.start()
    assert double.agent.process is not None
    wait_for(lambda: "is another agent named" in double.agent.log, "the second agent says so")
    one.check_same(registration)
    ledger.judge(FLAPS, f"{watch.events}" if watch.events else "")
    one.origin.commit({"index.html": "two\n"})
    one.settle()


def test_ten_publishes_in_a_second_are_one_or_two_deployments_of_the_newest(host: Hosts, ledger: Ledger) -> None:
    one = host().start()
    one.settle()
    commits = [one.origin.commit({"index.html": f"page {number}\n"}) for number in range(10)]
    swaps = Swaps(one.agent.base)
    ledger.inject("ten publishes within a second")
    begin = time.monotonic()
    for commit_id in commits:
        generation = one.publish(commit_id)
    assert time.monotonic() - begin < 1
    one.settle(commits[-1], generation)
    assert swaps.count("site") in {1, 2}
    swaps.close()


def test_a_config_znode_that_is_deleted_undeploys_nothing_and_counts_again_when_it_is_back(
    host: Hosts, zk: KazooClient, app: str, ledger: Ledger
) -> None:
    one = host().start()
    registration = one.settle()
    before = one.origin.head
    for text in ("two\n", "three\n"):
        ledger.inject("deletion of the config znode")
        zk.delete(f"{app}/config")
        one.check_live(before)
        before = one.origin.commit({"index.html": text})
        one.settle()
        one.check_same(registration)
    ledger.inject("deletion of the config znode, and the same release again")
    zk.delete(f"{app}/config")
    one.settle()
    one.check_same(registration)
