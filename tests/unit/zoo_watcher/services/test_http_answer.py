"""Responses of HTTP servers: they are read as Python's own client reads them, if that can read them at all."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from typing import Any

import pytest

from zoo_watcher.config.config import Check
from zoo_watcher.services.http_answer import http_answer

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def check(**options: Any) -> Check:
    """A check of an HTTP service."""
    return Check(**{"type": "http", "host": "127.0.0.1", "port": 8080, **options})


def ask(answer: bytes, limit: int = LIMIT, **options: Any) -> tuple[tuple[int, bytes], bytes]:
    """What is read of a response, and the request that was sent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        found = http_answer(ours, check(**options), limit)
        ours.shutdown(socket.SHUT_WR)
        return found, theirs.makefile("rb").read()


def ask_by_the_standard_library(answer: bytes, **options: Any) -> tuple[tuple[int, bytes], bytes]:
    """The same as `http.client` does it."""
    asked = check(**options)
    client = http.client.HTTPConnection(asked.host, asked.port)
    client.default_port = {"http": 80, "https": 443}[asked.type]
    client.sock, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        client.request("GET", asked.path, headers={"Connection": "close"})
        response = client.getresponse()
        found = response.status, response.read(LIMIT)
        client.close()
        response.close()
        return found, theirs.makefile("rb").read()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"\r\nfine",
        OK + b"Content-Length: 2\r\n\r\nfine",
        OK + b"Content-Length: 9\r\n\r\nfine",
        OK + b"Content-Length: none\r\n\r\nfine",
        OK + b"\r\n" + b"x" * 5000,
        OK + b"content-length:5000\r\n\r\n" + b"x" * 5000,
        b"HTTP/1.0 503\r\nServer: old\r\n\r\n",
        b"HTTP/1.1  404 Not  Found\n\nno",
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + OK + b"\r\nfine",
        OK,
        CHUNKED + b"4\r\nfine\r\n0\r\n\r\n",
        CHUNKED + b"2;name=value\r\nfi\r\n002 \r\nne\r\n0\r\nTrailer: x\r\n\r\n",
        CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n3E8\r\n" + b"y" * 1000 + b"\r\n0\r\n\r\n",
        OK + b"TRANSFER-ENCODING:  Chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_as_the_standard_library_reads_it(answer: bytes) -> None:
    assert ask(answer)[0] == ask_by_the_standard_library(answer)[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"port": 80},
        {"port": 80, "type": "https"},
        {"port": 443, "type": "https", "path": "/up?of=shop"},
        {"host": "::1"},
        {"host": "shop.example.org"},
    ],
)
def test_a_request_is_the_same_as_the_standard_librarys(options: dict[str, Any]) -> None:
    assert ask(OK, **options)[1] == ask_by_the_standard_library(OK, **options)[1]


def test_the_zone_of_an_address_is_not_sent() -> None:
    assert b"\r\nHost: [fe80::1]:8080\r\n" in ask(OK, host="fe80::1%eth0")[1]


def test_a_body_that_is_not_needed_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(OK + b"Content-Length: 4\r\n\r\n")
        assert http_answer(ours, check(), 0) == (200, b"")


def test_a_body_of_a_known_length_is_not_waited_for_longer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(OK + b"Content-Length: 4\r\n\r\nfine")
        assert http_answer(ours, check(), LIMIT) == (200, b"fine")


def test_a_chunk_may_be_larger_than_the_limit() -> None:
    answer = CHUNKED + b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n"
    assert ask(answer)[0] == (200, b"x" * LIMIT)


def test_the_rest_of_a_chunk_that_is_not_needed_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(CHUNKED + b"ffff\r\nfine")
        assert http_answer(ours, check(), 4) == (200, b"fine")


def test_an_answer_may_come_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)

        def send() -> None:
            for byte in CHUNKED + b"2\r\nfi\r\n2\r\nne\r\n0\r\n\r\n":
                theirs.sendall(bytes([byte]))

        sender = threading.Thread(target=send)
        sender.start()
        assert http_answer(ours, check(), LIMIT) == (200, b"fine")
        sender.join()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "no HTTP answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer: 'SSH-2.0-OpenSSH'"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "no HTTP answer: 'HTTP/1.1 20 OK'"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "no HTTP answer"),
        (OK + b"X" * 70_000, "the answer has a line of more than 65536 bytes"),
        (CHUNKED, "the answer has no size of a chunk, but ''"),
        (CHUNKED + b"-1\r\nfine", "the answer has no size of a chunk, but '-1'"),
        (CHUNKED + b"4\r\nfi", "the answer has no size of a chunk, but ''"),
    ],
)
def test_an_incomplete_or_invalid_answer_gives_a_reason(answer: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        ask(answer)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (OK + b"X: y\r\n" * 101 + b"\r\n", "the answer has more than 100 headers"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 11 + OK + b"\r\n", "more than 10 interim answers"),
    ],
)
def test_an_answer_without_an_end_is_read_no_further(answer: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        ask(answer)


def test_as_many_headers_are_read_as_the_standard_library_reads() -> None:
    answer = OK + b"X: y\r\n" * 99 + b"\r\nfine"
    assert ask(answer)[0] == ask_by_the_standard_library(answer)[0] == (200, b"fine")
