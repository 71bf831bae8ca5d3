"""How a client finds the members of its ensemble, and how long it waits at each."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
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
    """What stands for name servers: the addresses of each name, or an error; a name that `waits` has no answer yet."""

    def __init__(self, **known: list[str] | Exception) -> None:
        self.known = known
        self.waits: dict[str, threading.Event] = {}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int | None, *_more: int, **hints: int) -> list[Answer]:
        """In place of `socket.getaddrinfo`."""
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
    """What the name servers say."""
    made = Names(zk1=["10.0.0.1"], zk2=["10.0.0.2"], zk3=["10.0.0.3"])
    monkeypatch.setattr(socket, "getaddrinfo", made)
    monkeypatch.setattr(addresses, "KNOWN_COUNTS_AFTER", 0.05)
    yield made
    for waiting in made.waits.values():
        waiting.set()


def a_client(hosts: str = "zk1:2181,zk2:2181,zk3:2181", timeout: float = 12.0) -> KazooClient:
    return KazooClient(hosts=hosts, timeout=timeout, randomize_hosts=False)


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


def test_the_order_is_another_each_time_where_the_client_wants_that(names: Names) -> None:
    client = KazooClient(hosts="zk1:2181,zk2:2181,zk3:2181")
    Addresses(client)
    orders = {tuple(found(client)) for _ in range(200)}
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


def test_what_was_known_counts_while_a_name_server_says_nothing(names: Names) -> None:
    client = a_client()
    Addresses(client)
    assert found(client) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    names.waits = {"zk1": threading.Event()}
    names.known["zk2"] = ["10.0.0.22"]
    assert found(client) == ["10.0.0.1", "10.0.0.22", "10.0.0.3"]
    asked = names.asked.count("zk1")
    assert found(client) == ["10.0.0.1", "10.0.0.22", "10.0.0.3"]
    assert names.asked.count("zk1") == asked  # who has not answered is not asked again


@pytest.mark.parametrize(
    ("answer", "left"), [(SILENT, ["10.0.0.1"]), (OSError(24, "Too many open files"), ["10.0.0.1"]), (UNKNOWN, [])]
)
def test_an_address_is_forgotten_only_where_its_name_is_gone(
    names: Names, answer: Exception, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = a_client()
    Addresses(client)
    found(client)
    names.known["zk1"] = answer
    assert found(client) == [*left, "10.0.0.2", "10.0.0.3"]
    assert f"Cannot resolve zk1: {answer}" in caplog.text


def test_names_that_nobody_answers_for_are_named(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    names.waits = {name: threading.Event() for name in ("zk1", "zk2", "zk3")}
    client = a_client()
    Addresses(client)
    looks = threading.Thread(target=found, args=(client,))
    looks.start()
    wait_for(lambda: "No answer about the address of zk1, zk2, zk3" in caplog.text, "what is missing is told")
    names.waits["zk1"].set()
    looks.join(30)
    assert not looks.is_alive()


def test_where_no_thread_can_be_started_names_are_looked_up_one_after_the_other(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    client = a_client()
    Addresses(client)
    monkeypatch.setattr(threading.Thread, "start", refuse)
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


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """The seconds that each of the tries to connect had, each of which comes to what is said here."""
    allowed: list[float] = []
    client = a_client("10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181")
    answers: list[Any] = []

    def create_connection(_handler: Any, *_arguments: Any, timeout: float, **_options: Any) -> Any:
        allowed.append(timeout)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(type(client.handler), "create_connection", create_connection)
    Addresses(client)
    found(client)

    def do(*outcomes: Any, timeout: float = 12.0) -> list[float]:
        allowed.clear()
        answers[:] = outcomes
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                with pytest.raises(type(outcome)):
                    client.handler.create_connection(("10.0.0.1", 2181), timeout=timeout)
            else:
                assert client.handler.create_connection(("10.0.0.1", 2181), timeout=timeout) == outcome
        return list(allowed)

    return do


def test_all_members_together_have_half_of_a_session_s_time_and_twice_as_much_where_none_has_answered(
    tries: Callable[..., list[float]],
) -> None:
    silent = [socket.timeout()] * 12
    assert tries(*silent) == [2.0] * 3 + [4.0] * 3 + [8.0] * 3 + [12.0] * 3


@pytest.mark.parametrize("word", ["connected", ConnectionRefusedError()])
def test_one_that_answers_is_a_sign_that_the_others_are_off(tries: Callable[..., list[float]], word: Any) -> None:
    silent = socket.timeout()
    assert tries(silent, silent, silent, word, silent) == [2.0, 2.0, 2.0, 4.0, 2.0]


def test_a_look_that_has_a_shorter_time_of_its_own_keeps_it_and_counts_for_nothing(
    tries: Callable[..., list[float]],
) -> None:
    assert tries(*[socket.timeout()] * 3, timeout=1.0) == [1.0] * 3
    assert tries(socket.timeout()) == [2.0]


def test_clients_that_share_a_handler_do_not_stand_in_a_row(names: Names) -> None:
    first = a_client()
    connect = first.handler.create_connection
    Addresses(first)
    second = KazooClient(hosts="zk1:2181", handler=first.handler)
    assert Addresses(second)._connect == connect
    assert found(second) == ["10.0.0.1"]
    assert set(names.asked) == {"zk1"}
