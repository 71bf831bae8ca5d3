"""Anything that is not a ZooKeeper server is not mistaken for one, whatever it answers."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.waiting import wait_for
from zoo_watcher.config.config import Connection
from zoo_watcher.zookeeper.session import Session
from zoo_watcher.zookeeper.session_states import AUTH_FAILED, SYNC_CONNECTED

KNOWN = (0x1234, b"\x01" * 16)
"""A session that the agent already has."""


def answer(version: int = 0, timeout: int = 4000, session: int = 0x99) -> bytes:
    """A server's answer to a client that connects: a session, with this timeout in milliseconds."""
    body = struct.pack("!iiqi16s?", version, timeout, session, 16, b"\x02" * 16, False)
    return struct.pack("!i", len(body)) + body


@contextmanager
def answering(words: bytes, held: list[socket.socket] | None = None) -> Iterator[str]:
    """The address of a server that sends `words` to each client and stays connected; `held` gets the connections."""
    held = [] if held is None else held
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].sendall(words)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()


@contextmanager
def connecting(hosts: str, **credentials: str) -> Iterator[Session]:
    """A session that the server at `hosts` is to resume."""
    session = Session(Connection(hosts, **credentials), KNOWN, lambda: None)  # type: ignore[arg-type]
    session.start()
    try:
        yield session
    finally:
        session.stop()


def test_whatever_answers_like_a_server_is_accepted_as_one() -> None:
    with answering(answer()) as hosts, connecting(hosts) as session:
        wait_for(lambda: session.states.current == SYNC_CONNECTED, "it is connected")


def test_a_session_that_was_granted_a_shorter_timeout_requests_the_full_one_the_next_time() -> None:
    held: list[socket.socket] = []
    with answering(answer(timeout=4000), held) as hosts, connecting(hosts):
        for connection in range(2):

            def connected(number: int = connection) -> bool:
                return len(held) > number

            wait_for(connected, "it connects")
            asked = struct.unpack_from("!iiqi", held[connection].recv(1024))[3]
            assert asked == Connection(hosts).session_timeout * 1000
            held[connection].shutdown(socket.SHUT_RDWR)


def test_the_pause_that_ends_a_session_follows_the_timeout_granted_before_the_credentials_were_refused() -> None:
    refused = struct.pack("!iiqi", 16, -4, 0, -115)
    with (
        answering(answer(timeout=7000) + refused) as hosts,
        connecting(hosts, digest_username="u", digest_password="p") as session,
    ):
        wait_for(lambda: session.states.current == AUTH_FAILED, "the credentials are refused")
        assert session.timeout == 7


def test_a_session_is_logged_as_the_servers_write_it(caplog: pytest.LogCaptureFixture) -> None:
    """The first byte of a session's id is the number of a member: from 128 on the id is negative."""
    caplog.set_level("INFO")
    with answering(answer(session=-0x37FFFB7C2F560000)) as hosts, connecting(hosts):
        wait_for(lambda: "session=0xc8000483d0aa0000" in caplog.text, "the session is logged")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "one of 1213486160 bytes"),
        (b"\xff\xff\xff\xfe", "one of -2 bytes"),
        (answer(timeout=0x48545450), "a session timeout of 1.21349e+06 s"),
        (answer(version=7), "protocol version 7"),
    ],
    ids=["words", "a negative length", "a timeout of days", "another protocol"],
)
def test_anything_but_a_server_is_not_mistaken_for_one_and_gets_no_session(
    words: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = f"Connection dropped: not the answer of a ZooKeeper server: {problem}"
    with answering(words) as hosts, connecting(hosts) as session:
        wait_for(lambda: line in caplog.text, "it is told from a server")
        assert session.states.counts[SYNC_CONNECTED] == 0
        assert (session.client._session_id, session.client._session_passwd) == KNOWN


def test_a_fifo_in_place_of_the_authority_is_named_and_not_waited_for(tmp_path: Path) -> None:
    authority = Certificates.create(tmp_path / "certificates").ca
    session = Session(Connection("127.0.0.1:1", tls=True, tls_ca=str(authority)), KNOWN, lambda: None)
    authority.unlink()
    os.mkfifo(authority)
    session.start()
    said = f"{authority}: not a regular file"
    try:
        wait_for(lambda: said in (session.trying or {}).get("error", ""), "it is named")
    finally:
        # If a thread waits for a writer, it has one now and ends.
        with contextlib.suppress(OSError):
            os.close(os.open(authority, os.O_WRONLY | os.O_NONBLOCK))
        session.stop()


def test_the_local_address_is_that_of_the_present_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_connection
    sources = itertools.chain(["127.0.0.2"], itertools.repeat("127.0.0.3"))

    def connect_from(address: tuple[str, int], timeout: float | None = None) -> socket.socket:
        return create(address, timeout, (next(sources), 0))

    held: list[socket.socket] = []
    monkeypatch.setattr(socket, "create_connection", connect_from)
    with answering(answer(), held) as hosts, connecting(hosts) as session:
        wait_for(lambda: session.connections == 1, "it is connected")
        assert session.local_address == "127.0.0.2"
        held[0].shutdown(socket.SHUT_RDWR)
        wait_for(lambda: session.connections == 2, "it is connected anew")
        assert session.local_address == "127.0.0.3"
