"""A ZooKeeper client that ends by itself in a running agent."""

from __future__ import annotations

import queue
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient

from faults.support.proxy import Proxy
from support.agent import Agent
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for
from zoo_watcher.config.config import Connection
from zoo_watcher.zookeeper.kazoo_client import new_client
from zoo_watcher.zookeeper.session import Session


@pytest.fixture
def way(ensemble: Ensemble) -> Iterator[Proxy]:
    """A proxy between the agent and one server."""
    proxy = Proxy(int(ensemble.hosts.split(",")[0].rpartition(":")[2]))
    yield proxy
    proxy.close()


def test_an_agent_without_a_free_descriptor_resumes_its_session_once_there_is_one(
    way: Proxy,
    agents: Callable[..., Agent],
    registered: dict[str, Any],
    service: Service,
    zk: KazooClient,
    app: str,
    repository: GitRepository,
    release: Callable[..., int],
    registrations: Callable[[], dict[str, list[str]]],
) -> None:
    # Looking up the name takes a descriptor, and so does a connection.
    agent = agents(hosts=f"localhost:{way.port}", session_timeout=20, **registered).start()
    service.open()
    agent.wait_outcome(release())
    wait_for(registrations, "it is registered")
    created = zk.exists(f"{app}/agents/server1").czxid
    assert agent.process is not None
    number = agent.process.pid
    limits = resource.prlimit(number, resource.RLIMIT_NOFILE)
    resource.prlimit(number, resource.RLIMIT_NOFILE, (3, limits[1]))
    way.cut()
    wait_for(lambda: "Too many open files" in agent.log, "what is missing is told")
    resource.prlimit(number, resource.RLIMIT_NOFILE, limits)
    later = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release())["commitId"] == later
    wait_for(registrations, "it is registered")
    assert agent.process.poll() is None
    assert zk.exists(f"{app}/agents/server1").czxid == created, "it is the same session"
    assert "has ended by itself" not in agent.log


class Loop:
    """A session, and what the agent's loop does about it."""

    def __init__(self, hosts: str) -> None:
        self.woken: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.events: list[Any] = []
        self.session = Session(Connection(hosts, session_timeout=10), None, lambda: self.woken.put(None))

    def usable(self) -> bool:
        """Whether the session is usable, once it has been looked after."""
        if not self.session.usable:
            self.session.look_after()
        return self.session.usable


@pytest.fixture
def loop(ensemble: Ensemble) -> Iterator[Loop]:
    """A loop whose session is connected."""
    loop = Loop(ensemble.hosts)
    loop.session.start()
    wait_for(loop.usable, "it is connected")
    yield loop
    loop.session.stop()


def end_worker(session: Session, name: str) -> None:
    getattr(session.client.handler, name).put(sys.exit)
    wait_for(lambda: not session.usable, "its thread has ended")


@pytest.mark.parametrize("name", ["callback_queue", "completion_queue"])
def test_a_client_whose_thread_for_callbacks_has_ended_gives_way_to_a_new_one_in_the_same_session(
    loop: Loop, zk: KazooClient, app: str, name: str
) -> None:
    session = loop.session
    session.ask(session.client.create_async, f"{app}/held", b"", ephemeral=True, makepath=True)
    assert session.read(f"{app}/held", loop.events.append)
    client, client_id = session.client, session.client_id
    created = zk.exists(f"{app}/held").czxid
    threads = threading.active_count()
    end_worker(session, name)
    wait_for(loop.usable, "it is usable again")
    assert session.client is not client
    assert session.client_id == client_id
    wait_for(lambda: len(loop.events) == 1, "the watch is told that it is lost")
    assert session.connections == 2
    assert zk.exists(f"{app}/held").czxid == created
    assert session.read(f"{app}/held", loop.events.append)
    zk.set(f"{app}/held", b"1")
    wait_for(lambda: len(loop.events) == 2, "a new watch works")
    wait_for(lambda: threading.active_count() <= threads, "nothing is left of the old client")


def test_a_new_client_that_cannot_be_made_is_tried_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    make = new_client

    def fail_twice(*arguments: Any) -> Any:
        tried.append(1)
        if len(tried) < 3:
            raise OSError(24, "Too many open files")
        return make(*arguments)

    monkeypatch.setattr("zoo_watcher.zookeeper.session.new_client", fail_twice)
    client_id = loop.session.client_id
    end_worker(loop.session, "callback_queue")
    wait_for(loop.usable, "it is usable again")
    assert len(tried) == 3
    assert loop.session.client_id == client_id


def test_a_session_for_which_no_thread_can_be_started_is_tried_again(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(ensemble.hosts)
    start = threading.Thread.start
    failures = [1, 2]

    def refuse(thread: threading.Thread) -> None:
        if failures and failures.pop() == 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loop.session.start()
    assert not loop.session.usable
    wait_for(loop.usable, "it is connected")
    loop.session.stop()


def test_beginning_to_read_many_znodes_without_a_connection_does_not_wait_for_one(
    way: Proxy, zk: KazooClient, app: str
) -> None:
    zk.create(f"{app}/host", b"here", makepath=True)
    session = Session(Connection(f"127.0.0.1:{way.port}", session_timeout=20), None, lambda: None)
    session.start()
    wait_for(lambda: session.usable, "it is connected")
    way.refuse()
    wait_for(lambda: not session.usable, "the connection is lost")
    reads: list[Callable[[], Any]] = []

    def ask() -> None:
        reads.extend([session.begin_read(f"{app}/host") for _host in range(3000)])

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()
    way.behave()
    wait_for(lambda: session.usable, "it is connected again")
    ask()
    assert all(read().data == b"here" for read in reads[3000:])
    session.stop()
