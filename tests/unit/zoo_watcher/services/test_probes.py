"""What a check requests from a service, what counts as an answer, and when it gives up."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.certificates import Certificates
from support.descriptors import starved
from support.service import Service
from zoo_watcher.config.config import Check
from zoo_watcher.errors import NotCheckedError
from zoo_watcher.services.probes import LimitedSocket, probe


def check(port: int, kind: str = "tcp", **options: Any) -> Check:
    """A check of a port of this machine."""
    return Check(**{"type": kind, "host": "127.0.0.1", "port": port, "timeout": 0.5, **options})


@contextmanager
def answering(words: bytes | None) -> Iterator[int]:
    """The port of a server that sends `words` to each client and hangs up, or for None sends nothing and holds on."""
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


def test_a_check_that_the_kernel_connects_to_itself_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    class OnThatPort(LimitedSocket):
        def connect(self, address: Any) -> None:
            self.bind(address)
            super().connect(address)

    monkeypatch.setattr("zoo_watcher.services.probes.LimitedSocket", OnThatPort)
    assert probe(check(port)) == f"tcp 127.0.0.1:{port}: [Errno 111] Connection refused"


def test_a_port_that_listens_is_healthy_and_one_that_does_not_is_named(service: Service) -> None:
    assert probe(check(service.port)) == f"tcp 127.0.0.1:{service.port}: [Errno 111] Connection refused"
    service.open()
    assert probe(check(service.port)) is None


def test_an_http_answer_needs_the_expected_status(service: Service) -> None:
    service.open()
    assert probe(check(service.port, "http", path="/up")) is None
    assert service.asked == ["/up"]
    service.answer = lambda: (503, "fine")
    assert probe(check(service.port, "http", path="/up")) == (
        f"http 127.0.0.1:{service.port}/up: status 503, expected 200"
    )
    assert probe(check(service.port, "http", status=503)) is None


def test_an_http_answer_needs_the_expected_body(service: Service) -> None:
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


def test_what_a_server_sends_instead_of_http_is_quoted_in_part() -> None:
    with answering(b"x" * 5000 + b"\r\n\r\n") as port:
        problem = probe(check(port, "http"))
    assert problem is not None
    assert problem.startswith(f"http 127.0.0.1:{port}: no HTTP answer: 'xxx")
    assert problem.endswith("xxx...")
    assert len(problem) < 250


def test_a_server_that_never_answers_is_not_healthy_after_the_timeout() -> None:
    with answering(None) as port:
        began = time.monotonic()
        problem = probe(check(port, "http", timeout=0.2))
        assert time.monotonic() - began < 2
        assert problem == f"http 127.0.0.1:{port}: timed out"
        assert probe(check(port, "tcp")) is None


@pytest.mark.parametrize("path", ["/a b", "/\r\nX: y", "/ü"])
def test_a_path_that_http_cannot_request_gives_a_reason_and_no_crash(service: Service, path: str) -> None:
    service.open()
    assert str(probe(check(service.port, "http", path=path))).startswith("http 127.0.0.1")


def test_a_host_that_no_resolver_knows_is_named() -> None:
    assert str(probe(check(80, host="no-such-host.invalid"))).startswith("tcp no-such-host.invalid:80: ")


@pytest.mark.parametrize("settings", [{"kind": "tcp"}, {"kind": "http"}, {"kind": "tcp", "host": "localhost"}])
def test_without_a_free_descriptor_a_check_says_nothing_about_a_service(
    service: Service, settings: dict[str, str]
) -> None:
    asked = check(service.open().port, **settings)
    assert probe(asked) is None
    with starved(), pytest.raises(NotCheckedError, match=r"^Too many open files$"):
        probe(asked)


def test_a_command_that_the_host_cannot_start_now_says_nothing_and_one_that_is_missing_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = check(1, "command", command=("true",))
    with starved(), pytest.raises(NotCheckedError, match=r"^true can't be started now: .*Too many open files"):
        probe(asked)

    def refuse(*_words: Any, **_options: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", refuse)
        with pytest.raises(NotCheckedError, match=r"^true can't be started now: .*temporarily unavailable"):
            probe(asked)
    assert probe(asked) is None
    assert "none can't be started: " in (probe(check(1, "command", command=("/none",))) or "")


@contextmanager
def dripping(pause: float, head: bytes, drop: bytes = b"x") -> Iterator[int]:
    """The port of a server that sends `head`, then `drop` after each pause, for as long as the client is connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                connection.sendall(head)
                while not over.wait(pause):
                    connection.sendall(drop)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=[server.accept()[0]], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        over.set()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_server_that_sends_a_byte_now_and_then_gets_no_more_time_than_any_other(head: bytes) -> None:
    with dripping(0.05, head) as port:
        began = time.monotonic()
        assert probe(check(port, "http", timeout=0.3, body="y")) == f"http 127.0.0.1:{port}: timed out"
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("head", "drop", "why"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "more than 10 interim answers"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", "the answer has more than 100 headers"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1;" + b"x" * 1000 + b"\r\nx\r\n",
            "the answer has more than 8000000 bytes",
        ),
    ],
)
def test_a_server_that_sends_without_end_fills_no_memory(head: bytes, drop: bytes, why: str) -> None:
    with dripping(0, head, drop * 1000) as port:
        problem = probe(check(port, "http", timeout=10, body="y"))
    assert problem == f"http 127.0.0.1:{port}: {why}"


def test_a_command_that_cannot_be_killed_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo_watcher.host.command.KILLED", 0.1)
    monkeypatch.setattr("os.killpg", lambda *_words: None)
    problem = probe(check(1, "command", command=("sleep", "5"), timeout=0.1))
    assert problem == "sleep not ended within 0.1 s, and can't be killed"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The certificates of an authority, of a server for `localhost`, and of a client."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Certificates.create(tmp_path_factory.mktemp("https") / "certificates")


@contextmanager
def encrypted(certificates: Certificates, *, wants_certificate: bool = False) -> Iterator[int]:
    """The port of an HTTPS server that answers `fine`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates.ca)
    context.load_cert_chain(certificates.server)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    service = Service()
    service.open(context)
    try:
        yield service.port
    finally:
        service.close()


def https(port: int, certificates: Certificates, **options: Any) -> Check:
    """A check of an HTTPS service at `localhost`, whose authority is trusted."""
    return check(port, "https", **{"host": "localhost", "tls_ca": str(certificates.ca), "timeout": 5, **options})


def test_an_https_answer_needs_a_certificate_of_a_trusted_authority_for_the_name(certificates: Certificates) -> None:
    with encrypted(certificates) as port:
        assert probe(https(port, certificates)) is None
        assert probe(https(port, certificates, host="127.0.0.1", tls_server_name="localhost")) is None
        assert "IP address mismatch" in str(probe(https(port, certificates, host="127.0.0.1")))
        assert "Hostname mismatch" in str(probe(https(port, certificates, tls_server_name="other.example.org")))
        assert "self-signed certificate" in str(probe(https(port, certificates, tls_ca=None)))
        assert probe(https(port, certificates, tls_ca=None, host="127.0.0.1", tls_verify=False)) is None
        assert probe(https(port, certificates, status=204)) == f"https localhost:{port}/: status 200, expected 204"


def test_a_service_that_asks_for_a_certificate_gets_the_checks_own(certificates: Certificates) -> None:
    own = {"tls_cert": str(certificates.client), "tls_key": str(certificates.key)}
    with encrypted(certificates, wants_certificate=True) as port:
        assert probe(https(port, certificates)) is not None
        assert probe(https(port, certificates, **own)) is None


def test_a_renewed_authority_is_read_again(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Certificates.create(tmp_path / "others").ca.read_bytes())
    with encrypted(certificates) as port:
        assert "certificate verify failed" in str(probe(https(port, certificates, tls_ca=str(file))))
        file.write_bytes(certificates.ca.read_bytes())
        assert probe(https(port, certificates, tls_ca=str(file))) is None


def test_a_handshake_that_never_ends_and_missing_files_give_reasons(tmp_path: Path) -> None:
    with answering(None) as port:
        began = time.monotonic()
        assert "timed out" in str(probe(check(port, "https", timeout=0.2)))
        assert time.monotonic() - began < 3
        assert "No such file" in str(probe(check(port, "https", tls_ca=str(tmp_path / "none"))))
        os.mkfifo(tmp_path / "fifo")
        assert "not a regular file" in str(probe(check(port, "https", tls_ca=str(tmp_path / "fifo"))))
