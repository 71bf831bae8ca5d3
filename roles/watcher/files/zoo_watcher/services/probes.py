# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One probe of a service: a TCP connection, an HTTP or HTTPS request, or a command, with one deadline as a whole."""

from __future__ import annotations

import errno
import functools
import os
import socket
import stat
import time
from collections.abc import Callable

from zoo_watcher.config.config import Check
from zoo_watcher.errors import NotCheckedError
from zoo_watcher.host import command
from zoo_watcher.host.excerpt import first_words
from zoo_watcher.host.shortage import is_shortage

from .http_answer import http_answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

BODY_LIMIT = 1_000_000
"""The most bytes of an HTTP response that are searched for `body`."""
ANSWER_LIMIT = 8_000_000
"""The most bytes received of a response: its headers, and `BODY_LIMIT` in chunks of any size."""
CONTEXTS = 8
"""How many TLS contexts are kept: creating one reads the certificates of all authorities."""


def probe(check: Check) -> str | None:
    """Probe once: None if the service is healthy, else why it is not. Raises `NotCheckedError`."""
    try:
        return PROBES[check.type](check)
    except (OSError, ValueError, MemoryError) as exc:
        if is_shortage(exc):
            raise NotCheckedError(getattr(exc, "strerror", None) or "out of memory") from exc
        return f"{check.type} {check.host}:{check.port}: {first_words(str(exc))}"


class LimitedSocket(socket.socket):
    """A socket that answers until `deadline`, however slowly the other side sends; then everything times out.

    The amount received is limited too: a length in an answer may be any number.
    """

    deadline = 0.0
    received = 0

    def limit(self, shares: int = 1) -> None:
        """Let the next operation last until the deadline, or for one of `shares` of the time until then.

        Raises `socket.timeout` if the deadline has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self.settimeout(left / shares)

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        """As in `socket`; reading an answer calls only this."""
        self.limit()
        if self.received > ANSWER_LIMIT:
            raise OSError(f"the answer has more than {ANSWER_LIMIT} bytes")
        count = super().recv_into(*arguments, **options)
        self.received += count
        return count


def _connect(check: Check, deadline: float) -> LimitedSocket:
    """A connection to the first address that accepts one; none gets all of the time. Raises `OSError`."""
    refused: OSError = OSError("no address")
    addresses = socket.getaddrinfo(check.host, check.port, type=socket.SOCK_STREAM)
    for number, (family, kind, protocol, _name, address) in enumerate(addresses):
        connection = LimitedSocket(family, kind, protocol)
        connection.deadline = deadline
        try:
            connection.limit(len(addresses) - number)
            connection.connect(address)
            if connection.getsockname() == connection.getpeername():
                # If nobody listens, the kernel may have given this very socket the port that it connects to.
                raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        except OSError as exc:
            connection.close()
            refused = exc
        else:
            return connection
    raise refused


def _probe_tcp(check: Check) -> None:
    _connect(check, time.monotonic() + check.timeout).close()


def _probe_http(check: Check) -> str | None:
    where = f"{check.type} {check.host}:{check.port}{check.path}"
    plain = _connect(check, time.monotonic() + check.timeout)
    connection: socket.socket = plain
    try:
        if check.type == "https":
            connection = _wrap(plain, check)
        status, body = http_answer(connection, check, BODY_LIMIT if check.body else 0)
    finally:
        connection.close()
    if status != check.status:
        return f"{where}: status {status}, expected {check.status}"
    if check.body and check.body.encode() not in body:
        return f"{where}: the body lacks {check.body!r}"
    return None


def _wrap(connection: LimitedSocket, check: Check) -> ssl.SSLSocket:
    """The connection, encrypted, once the service has proved its identity. Raises `OSError`."""
    files = [path for path in (check.tls_ca, check.tls_cert, check.tls_key) if path]
    # A renewed certificate makes a new context.
    context = _context(check.tls_ca, check.tls_cert, check.tls_key, check.tls_verify, *map(_age, files))
    connection.limit()
    connected = context.wrap_socket(connection, server_hostname=check.tls_server_name or check.host)
    connected.deadline = connection.deadline
    wrapped: ssl.SSLSocket = connected
    return wrapped


def _age(path: str) -> int:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        # OpenSSL would wait for a writer of a FIFO, longer than the check has time.
        raise OSError(errno.EINVAL, "not a regular file", path)
    return status.st_mtime_ns


@functools.lru_cache(maxsize=CONTEXTS)
def _context(authority: str | None, certificate: str | None, key: str | None, verify: bool, *_ages: int) -> Any:
    import ssl  # noqa: PLC0415

    class LimitedTlsSocket(LimitedSocket, ssl.SSLSocket):
        """The same, encrypted."""

    context = ssl.create_default_context(cafile=authority)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        # An empty password, so that OpenSSL does not ask the terminal for one.
        context.load_cert_chain(certificate, key, "")
    context.sslsocket_class = LimitedTlsSocket
    return context


def _probe_command(check: Check) -> str | None:
    ended = command.run(check.command, check.timeout)
    if ended.problem is None:
        return None
    if ended.found_shortage:
        raise NotCheckedError(f"{check.command[0]} {ended.problem}")
    output = f": {ended.tail}" if ended.tail else ""
    return f"{check.command[0]} {ended.problem}{output}"


PROBES: dict[str, Callable[[Check], str | None]] = {
    "tcp": _probe_tcp,
    "http": _probe_http,
    "https": _probe_http,
    "command": _probe_command,
}
