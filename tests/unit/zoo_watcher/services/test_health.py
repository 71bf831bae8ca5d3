"""Whether a service is healthy: what is asked, what counts as an answer, and how answers in a row are counted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.service import Service
from support.waiting import wait_for
from zoo_watcher.config.config import Check
from zoo_watcher.services.health import Checker, Health, probe


def check(port: int, kind: str = "tcp", **options: Any) -> Check:
    """A check of a port of this machine that is asked every 20 ms."""
    return Check(**{"type": kind, "host": "127.0.0.1", "port": port, "interval": 0.02, "timeout": 0.5, **options})


@contextmanager
def answering(words: bytes | None) -> Iterator[int]:
    """The port of a server that says `words` to whoever comes and hangs up; None: says nothing and holds on."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _unused = server.accept()
                except OSError:
                    return
                if words is None:
                    held.append(connection)
                    continue
                with connection:
                    connection.recv(65536)
                    connection.sendall(words)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


def test_a_port_that_listens_is_healthy_and_one_that_does_not_is_named(service: Service) -> None:
    assert probe(check(service.port)) == f"tcp 127.0.0.1:{service.port}: [Errno 111] Connection refused"
    service.open()
    assert probe(check(service.port)) is None


def test_an_http_answer_needs_the_wanted_status(service: Service) -> None:
    service.open()
    assert probe(check(service.port, "http", path="/up")) is None
    assert service.asked == ["/up"]
    service.answer = lambda: (503, "fine")
    assert probe(check(service.port, "http", path="/up")) == (
        f"http 127.0.0.1:{service.port}/up: status 503, expected 200"
    )
    assert probe(check(service.port, "http", status=503)) is None


def test_an_http_answer_needs_the_wanted_body(service: Service) -> None:
    service.open()
    service.answer = lambda: (200, "all is well, größer")
    assert probe(check(service.port, "http", body="größer")) is None
    assert probe(check(service.port, "http", body="ready")) == f"http 127.0.0.1:{service.port}/: the body lacks 'ready'"


def test_a_redirect_is_not_followed(service: Service) -> None:
    service.open()
    service.answer = lambda: (302, "")
    assert "status 302" in str(probe(check(service.port, "http")))


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-OpenSSH\r\n", b"\x00" * 100, b"HTTP/1.1 abc\r\n\r\n"])
def test_a_server_that_does_not_speak_http_is_not_healthy(words: bytes) -> None:
    with answering(words) as port:
        problem = probe(check(port, "http"))
    assert problem is not None
    assert problem.startswith(f"http 127.0.0.1:{port}")
    assert "\n" not in problem


def test_a_server_that_never_answers_is_not_healthy_after_the_timeout() -> None:
    with answering(None) as port:
        began = time.monotonic()
        problem = probe(check(port, "http", timeout=0.2))
        assert time.monotonic() - began < 2
        assert problem == f"http 127.0.0.1:{port}: timed out"
        assert probe(check(port, "tcp")) is None


@pytest.mark.parametrize("path", ["/a b", "/\r\nX: y", "/ü"])
def test_a_path_that_http_cannot_ask_for_is_a_reason_and_no_crash(service: Service, path: str) -> None:
    service.open()
    assert str(probe(check(service.port, "http", path=path))).startswith("http 127.0.0.1")


def test_a_host_that_no_resolver_knows_is_named() -> None:
    assert str(probe(check(80, host="no-such-host.invalid"))).startswith("tcp no-such-host.invalid:80: ")


def counted(settings: Check, answers: str) -> str:
    """Whether a checker that gets these answers (`+` passed, `-` failed) is healthy after each (`1` yes, `0` no)."""
    checker = Checker(settings, lambda: None)
    healthy = ""
    for answer in answers:
        checker._note(None if answer == "+" else "down", checker._epoch)
        healthy += str(int(bool(checker.healthy)))
    return healthy


@pytest.mark.parametrize(
    ("rise", "fall", "answers", "healthy"),
    [
        (1, 2, "-+--+-+--", "011011110"),
        (1, 1, "+-+-", "1010"),
        (3, 2, "++-+++-+--", "0000011110"),
        (2, 3, "+-+-++--+---", "000001111110"),
    ],
)
def test_answers_in_a_row_are_counted(rise: int, fall: int, answers: str, healthy: str) -> None:
    assert counted(check(1, rise=rise, fall=fall), answers) == healthy


def test_a_check_follows_its_service_down_and_up(service: Service) -> None:
    service.open()
    changed = threading.Event()
    checker = Checker(check(service.port), changed.set)
    assert not checker.healthy
    checker.start()
    wait_for(lambda: checker.healthy, "the service is seen to be up")
    assert changed.wait(5)
    changed.clear()
    service.close()
    wait_for(lambda: not checker.healthy, "the service is seen to be down")
    assert changed.wait(5)
    assert "Connection refused" in checker.reason
    service.open()
    wait_for(lambda: checker.healthy, "the service is seen to be up again")


def test_an_answer_to_a_question_from_before_the_proof_proves_nothing() -> None:
    checker = Checker(check(1), lambda: None)
    epoch = checker._epoch
    checker._note(None, epoch)
    assert checker.proved
    checker.prove()
    checker._note(None, epoch)
    assert checker.healthy
    assert not checker.proved
    checker._note(None, checker._epoch)
    assert checker.proved


def test_a_service_that_fails_after_a_switch_stays_healthy_until_it_has_fallen() -> None:
    checker = Checker(check(1, fall=2), lambda: None)
    checker._note(None, checker._epoch)
    checker.prove()
    checker._note("down", checker._epoch)
    assert checker.healthy
    checker._note("down", checker._epoch)
    assert not checker.healthy


def test_a_proof_waits_for_every_check_and_names_those_that_do_not_pass(service: Service) -> None:
    service.open()
    closed = Service()
    health = Health([check(service.port), check(closed.port)], lambda: None)
    health.start()
    health.begin_proof()
    never = threading.Event()
    assert not health.wait_proved(0.3, never.is_set)
    assert str(closed.port) in health.reason
    assert str(service.port) not in health.reason
    closed.open()
    try:
        assert health.wait_proved(10, never.is_set)
    finally:
        closed.close()
    assert health.reason == ""


def test_a_host_without_checks_is_proved_at_once() -> None:
    health = Health([], lambda: None)
    health.begin_proof()
    assert health.wait_proved(0, threading.Event().is_set)


def test_waiting_for_a_proof_ends_when_it_is_cancelled(service: Service) -> None:
    health = Health([check(service.port)], lambda: None)
    cancelled = threading.Event()

    def cancel() -> None:
        cancelled.set()
        health.wake()

    threading.Timer(0.05, cancel).start()
    assert not health.wait_proved(None, cancelled.is_set)


def test_after_a_switch_is_asked_at_once_however_long_the_interval(service: Service) -> None:
    service.open()
    health = Health([check(service.port, "http", interval=60)], lambda: None)
    health.start()
    wait_for(lambda: health.proved, "the first answer")
    began = time.monotonic()
    health.begin_proof()
    assert health.wait_proved(10, threading.Event().is_set)
    assert time.monotonic() - began < 5
