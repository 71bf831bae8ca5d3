"""Metrics clients that send nothing, or are too many, hold up neither a thread nor a scrape."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from socketserver import TCPServer
from types import SimpleNamespace
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Gauge

from support.ports import free_ports
from support.waiting import wait_for
from zoo_watcher.host.thread import Thread
from zoo_watcher.metrics import scrapes

Connect = Callable[[], socket.socket]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The port on which a metric is served to two clients at the same time."""
    monkeypatch.setattr(scrapes, "MOST", 2)
    monkeypatch.setattr(scrapes._Handler, "timeout", 0.5)
    registry = CollectorRegistry()
    Gauge("example", "an example", registry=registry).set(7)
    (free,) = free_ports(1)
    scrapes.serve_scrapes(free, "127.0.0.1", registry)
    return free


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    """Connects a client that sends nothing."""
    with ExitStack() as clients:
        yield lambda: clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))


def scrape(port: int) -> bytes:
    """The response to a scrape, empty if there is none."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_a_client_that_does_not_finish_its_request_is_disconnected_silently(
    port: int, connect: Connect, capfd: pytest.CaptureFixture[str]
) -> None:
    client = connect()
    client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    assert client.recv(1) == b""
    assert b"example 7.0" in scrape(port)
    assert capfd.readouterr() == ("", "")


def test_a_client_whose_thread_gets_no_memory_spoils_no_other_scrape(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo_watcher.host.thread.LONGEST_START", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "_bootstrap", lambda _thread: None)
        assert scrape(port) == b""
    for _number in range(scrapes.MOST + 1):
        assert b"example 7.0" in scrape(port)


def test_one_client_too_many_is_disconnected_and_the_others_give_their_places_back(
    port: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrapes._Handler, "timeout", 3600)
    clients = [connect(), connect()]
    assert connect().recv(1) == b""
    for client in clients:
        client.close()
    wait_for(lambda: b"example 7.0" in scrape(port), "a scrape is answered")


def test_a_place_is_free_again_where_no_thread_could_be_started_for_it(
    port: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(scrapes._Handler, "timeout", 3600)
    with monkeypatch.context() as broken:
        broken.setattr(Thread, "start", fail)
        for _client in range(5):
            assert connect().recv(1) == b""
    assert b"example 7.0" in scrape(port)


@pytest.mark.parametrize("where", ["get_request", "verify_request"])
def test_a_moment_without_memory_does_not_end_the_server(
    port: int, connect: Connect, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    lacked: list[str] = []

    def lack(*_arguments: object) -> None:
        lacked.append(where)
        raise MemoryError

    monkeypatch.setattr(scrapes, "REFUSED", 0.05)
    with monkeypatch.context() as broken:
        broken.setattr(TCPServer, where, lack)
        connect()
        wait_for(lambda: lacked, "a client was not accepted for want of memory")
    wait_for(lambda: b"example 7.0" in scrape(port), "a scrape is answered")


def test_no_name_is_looked_up_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers that don't answer would delay the agent's session for as long."""
    asked: list[object] = []
    monkeypatch.setattr(socket, "gethostbyaddr", asked.append)
    (free,) = free_ports(1)
    scrapes.serve_scrapes(free, "127.0.0.2", CollectorRegistry())
    with pytest.raises(socket.gaierror):
        scrapes.serve_scrapes(free, "localhost", CollectorRegistry())
    assert asked == []


def test_without_a_descriptor_for_a_client_the_server_pauses_before_it_accepts_again(
    port: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def lack(_server: TCPServer) -> tuple[socket.socket, object]:
        steps.append("accept")
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(TCPServer, "get_request", lack)
        broken.setattr(scrapes, "time", SimpleNamespace(sleep=lambda _seconds: steps.append("pause")))
        connect()
        wait_for(lambda: len(steps) >= 10, "the server has tried again")
    assert steps[:10] == ["accept", "pause"] * 5
    wait_for(lambda: b"example 7.0" in scrape(port), "a scrape is answered")


def test_clients_that_send_a_byte_now_and_then_are_disconnected_too(port: int, connect: Connect) -> None:
    def drip(client: socket.socket) -> None:
        with suppress(OSError):
            while not done.wait(0.1):
                client.sendall(b"G")

    done = threading.Event()
    clients = [connect(), connect()]
    threads = [threading.Thread(target=drip, args=[client], daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: b"example 7.0" in scrape(port), "a scrape is answered")
    finally:
        done.set()
    for thread in threads:
        thread.join(20)


def test_a_client_that_does_not_read_its_response_is_disconnected_silently(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scrapes, "MOST", 1)
    monkeypatch.setattr(scrapes._Handler, "timeout", 2)
    registry = CollectorRegistry()
    Gauge("example", "x" * 20_000_000, registry=registry).set(7)
    (free,) = free_ports(1)
    scrapes.serve_scrapes(free, "127.0.0.1", registry)
    with socket.create_connection(("127.0.0.1", free)) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert client.recv(1) == b"H"
        assert scrape(free) == b"", "its place is taken"
        wait_for(lambda: b"example 7.0" in scrape(free), "a scrape is answered")
    assert capfd.readouterr() == ("", "")
