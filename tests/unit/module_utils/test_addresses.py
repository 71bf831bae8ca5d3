"""How a client finds the members of its ensemble, and how long it waits for each."""

from __future__ import annotations

import _thread
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import addresses
from ansible_collections.zoo.deploy.plugins.module_utils.addresses import Addresses
from support.waiting import wait_for

Answer = tuple[Any, Any, Any, str, tuple[Any, ...]]
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
SILENT = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


class Names:
    """Replaces name servers: the addresses of each name, or an error; a name in `waits` has no answer yet."""

    def __init__(self, **known: list[str] | Exception) -> None:
        self.known = known
        self.waits: dict[str, threading.Event] = {}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int | None, *_more: int, **hints: int) -> list[Answer]:
        """Replaces `socket.getaddrinfo`."""
        if hints.get("flags") == socket.AI_NUMERICHOST:
            if not host[0].isdigit():
                raise UNKNOWN
        else:
            self.asked.append(host)
        if host in self.waits:
            self.waits[host].wait(30)
        answer = self.known.get(host, [host])
        if isinstance(answer, Exception):
            raise answer
        return [(None, None, None, "", (address, port)) for address in answer]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """The answers of the name servers."""
    made = Names(zk1=["10.0.0.1"], zk2=["10.0.0.2"], zk3=["10.0.0.3"])
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(addresses, "KNOWN_COUNTS_AFTER", 0.05)
    yield made
    for waiting in made.waits.values():
        waiting.set()


def a_client(hosts: str = "zk1:2181,zk2:2181,zk3:2181", timeout: float = 12.0) -> KazooClient:
    client = KazooClient(hosts=hosts, timeout=timeout, randomize_hosts=False)
    client._stopped.clear()  # as one that is started
    return client


def found(client: KazooClient) -> list[str]:
    return [address for _host, address, _port in client._connection._expand_client_hosts()]


def test_kazoo_is_given_each_address_of_each_name(names: Names) -> None:
    names.known["zk2"] = ["10.0.0.2", "::2"]
    client = a_client()
    Addresses(client)
    assert client._connection._expand_client_hosts() == [
        ("zk1", "10.0.0.1", 2181),
        ("zk2", "10.0.0.2", 2181),
        ("zk2", "::2", 2181),
        ("zk3", "10.0.0.3", 2181),
    ]


def test_the_order_differs_each_time_if_the_client_wants_that(names: Names) -> None:
    client = KazooClient(hosts="zk1:2181,zk2:2181,zk3:2181")
    Addresses(client)
    orders = {tuple(found(client)) for _unused in range(200)}
    assert len(orders) == 6
    assert set(names.asked) == {"zk1", "zk2", "zk3"}


def test_names_are_looked_up_side_by_side(names: Names) -> None:
    names.waits = {name: threading.Event() for name in ("zk1", "zk2", "zk3")}
    client = a_client()
    Addresses(client)
    looks = threading.Thread(target=found, args=(client,))
    looks.start()
    wait_for(lambda: set(names.asked) == {"zk1", "zk2", "zk3"}, "all three are asked about")
    names.waits["zk2"].set()
    looks.join(30)
    assert not looks.is_alive()  # one that is known is enough to begin with


def test_what_was_known_counts_while_a_name_server_does_not_answer(names: Names) -> None:
    client = a_client()
    Addresses(client)
    assert found(client) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    names.waits = {"zk1": threading.Event()}
    names.known["zk2"] = ["10.0.0.22"]
    assert found(client) == ["10.0.0.1", "10.0.0.22", "10.0.0.3"]
    asked = names.asked.count("zk1")
    assert found(client) == ["10.0.0.1", "10.0.0.22", "10.0.0.3"]
    assert names.asked.count("zk1") == asked  # a lookup without an answer yet is not repeated


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (SILENT, ["10.0.0.1"]),
        (OSError(24, "Too many open files"), ["10.0.0.1"]),
        (MemoryError(), ["10.0.0.1"]),
        (UNKNOWN, []),
    ],
)
def test_an_address_is_forgotten_only_if_its_name_is_gone(
    names: Names, answer: Exception, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = a_client()
    Addresses(client)
    found(client)
    names.known["zk1"] = answer
    assert found(client) == [*left, "10.0.0.2", "10.0.0.3"]
    assert f"Cannot resolve zk1: {answer}" in caplog.text


def test_names_without_an_answer_are_logged(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    names.waits = {name: threading.Event() for name in ("zk1", "zk2", "zk3")}
    client = a_client()
    Addresses(client)
    looks = threading.Thread(target=found, args=(client,))
    looks.start()
    wait_for(lambda: "No answer about the address of zk1, zk2, zk3" in caplog.text, "what is missing is told")
    names.waits["zk1"].set()
    looks.join(30)
    assert not looks.is_alive()


@pytest.mark.usefixtures("names")
def test_a_lookup_whose_thread_has_ended_before_it_began_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    client = a_client()
    Addresses(client)
    start = _thread.start_new_thread
    monkeypatch.setattr(addresses, "LONGEST_LOOKUP", 0.5)

    def lose_the_first(look_up: Callable[..., None], member: Any) -> int:
        return 1 if member[0] == ("zk1", 2181) and "zk1" not in begun else start(look_up, member)

    begun: list[str] = []
    monkeypatch.setattr("_thread.start_new_thread", lose_the_first)
    assert found(client) == ["10.0.0.2", "10.0.0.3"]
    begun.append("zk1")
    wait_for(lambda: found(client) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "all are known")


@pytest.mark.usefixtures("names")
def test_a_client_that_is_stopped_waits_for_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    client = a_client()
    Addresses(client)
    monkeypatch.setattr("_thread.start_new_thread", lambda *_what: 1)
    client._stopped.set()
    assert found(client) == []


def test_where_no_thread_can_be_started_names_are_looked_up_one_after_the_other(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_what: Any) -> None:
        raise RuntimeError("can't start new thread")

    client = a_client()
    Addresses(client)
    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert found(client) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert names.asked == ["zk1", "zk2", "zk3"]


@pytest.mark.parametrize(
    ("hosts", "known", "members"),
    [
        ("zk:2181", {"zk": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}, 3),
        ("zk:2181", {"zk": ["10.0.0.1", "::1"]}, 1),
        ("zk1:2181,zk2:2181,zk3:2181", {}, 3),
        ("zk1:2181,zk2:2181,zk3:2181", {"zk1": UNKNOWN}, 3),
    ],
)
def test_kazoo_divides_its_time_by_the_members_that_there_are(
    names: Names, hosts: str, known: dict[str, Any], members: int
) -> None:
    names.known.update(known)
    client = a_client(hosts)
    Addresses(client)
    found(client)
    assert len(client.hosts) == members


SILENT_MEMBER = socket.timeout()


class Tries:
    """Tries to connect, with given outcomes, and the seconds that each was allowed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, members: int = 3, **tls: bool) -> None:
        self._clock = 0.0
        hosts = ",".join(f"10.0.0.{number + 1}:2181" for number in range(members))
        self._client = KazooClient(hosts, timeout=12.0, **tls)
        self._outcome: Any = None
        self._allowed: list[float] = []
        monkeypatch.setattr(
            type(self._client.handler),
            "create_connection",
            lambda _handler, **options: self._create_connection(**options),
        )
        monkeypatch.setattr(f"{addresses.__name__}.time", SimpleNamespace(monotonic=lambda: self._clock))
        Addresses(self._client)
        found(self._client)

    def __call__(self, *outcomes: Any, timeout: float = 12.0, address: str = "10.0.0.1") -> list[float]:
        """Try with these outcomes; a number is a connection that took so many seconds."""
        self._allowed.clear()
        for self._outcome in outcomes:
            expected = [type(self._outcome)] if isinstance(self._outcome, Exception) else []
            with contextlib.suppress(*expected):
                self._client.handler.create_connection(address=(address, 2181), timeout=timeout)
        return list(self._allowed)

    def _create_connection(self, *, timeout: float, **_options: Any) -> str:
        self._allowed.append(timeout)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        self._clock += self._outcome
        return "connected"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Tries:
    """Tries at three members, with a session timeout of 12 seconds."""
    return Tries(monkeypatch)


def test_members_leave_time_for_each_other_and_have_more_at_times_while_none_connects(tries: Tries) -> None:
    once, twice, all_of_it = [3.0] * 3, [6.0] * 3, [12.0] * 3
    wanted = [*once, *twice, *once, *all_of_it, *once, *twice, *once, *all_of_it, *once]
    assert tries(*[SILENT_MEMBER] * 27) == wanted


def test_a_single_member_leaves_time_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Tries(monkeypatch, 1)(SILENT_MEMBER) == [12.0]


@pytest.mark.parametrize(
    ("members", "tls", "share"),
    [
        *[(2, False, 3.0), (3, False, 3.0), (5, False, 2.0), (7, False, 1.5)],
        *[(1, True, 12.0), (2, True, 4.0), (3, True, 4.0), (5, True, 4.0), (7, True, 3.0)],
    ],
)
def test_members_with_a_tls_handshake_have_longer(
    monkeypatch: pytest.MonkeyPatch, members: int, tls: bool, share: float
) -> None:
    assert Tries(monkeypatch, members, use_ssl=tls)(SILENT_MEMBER) == [share]


def test_a_second_family_of_addresses_takes_no_time_from_the_first(
    monkeypatch: pytest.MonkeyPatch, names: Names
) -> None:
    names.known.update({f"10.0.0.{number}": [f"10.0.0.{number}", f"2001:db8::{number}"] for number in (1, 2, 3)})
    assert Tries(monkeypatch)(SILENT_MEMBER) == [3.0]


def test_one_that_connects_is_a_sign_that_the_others_are_off(tries: Tries) -> None:
    assert tries(*[SILENT_MEMBER] * 3, 0.5, SILENT_MEMBER) == [3.0, 3.0, 3.0, 6.0, 3.0]


def test_one_that_refuses_takes_nothing_from_one_that_is_slow(tries: Tries) -> None:
    assert tries(*[SILENT_MEMBER, ConnectionRefusedError()] * 4)[::2] == [3.0, 3.0, 3.0, 6.0]


def test_a_member_that_was_slow_once_has_twice_that_time(tries: Tries) -> None:
    tries(*[SILENT_MEMBER] * 3, 4.0)
    assert tries(SILENT_MEMBER, address="10.0.0.2") == [3.0]
    assert tries(SILENT_MEMBER) == [8.0]


def test_a_member_that_was_slow_once_and_silent_later_has_no_more_than_others(tries: Tries) -> None:
    tries(4.0, SILENT_MEMBER)
    assert tries(SILENT_MEMBER) == [3.0]


def test_a_try_that_has_a_shorter_time_of_its_own_keeps_it_and_does_not_count(tries: Tries) -> None:
    assert tries(*[SILENT_MEMBER] * 3, timeout=1.0) == [1.0] * 3
    assert tries(SILENT_MEMBER) == [3.0]


def test_clients_that_share_a_handler_do_not_wrap_each_other(names: Names) -> None:
    first = a_client()
    connect = first.handler.create_connection
    Addresses(first)
    second = KazooClient(hosts="zk1:2181", handler=first.handler)
    assert Addresses(second)._connect == connect
    assert found(second) == ["10.0.0.1"]
    assert set(names.asked) == {"zk1"}
