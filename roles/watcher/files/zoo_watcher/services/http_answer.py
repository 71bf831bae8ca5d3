# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of HTTP/1.1 (RFC 9112) as a check needs: one GET, the status of the response, the beginning of its body.

Python's `http.client` parses headers with the package `email`: the two would be a twentieth of an idle agent's memory.
"""

from __future__ import annotations

import re
import socket

from zoo_watcher.config.config import Check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST_LINE = 65536
"""The most bytes of a line: the status, a header, or the size of a chunk."""
MOST_HEADERS = 100
"""The most headers of a response, as many as Python's own client reads."""
MOST_INTERIM = 10
"""The most interim responses before the final one."""
STATUS = re.compile(rb"HTTP/1\.[0-9] +([0-9]{3})(?: .*)?")
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]+)[ \t]*(?:;.*)?")
"""The line before a chunk: its size, and extensions that nobody needs."""
SWITCHING_PROTOCOLS = 101
INTERIM = range(100, 200)
"""The statuses, except `SWITCHING_PROTOCOLS`, that another response follows."""


def http_answer(connection: socket.socket, check: Check, limit: int) -> tuple[int, bytes]:
    """Request the check's path: the status, and the first `limit` bytes of the body. The connection can be closed then.

    Raises `OSError`, and `ValueError` if the host can't be named in a request, or the server does not speak HTTP.
    """
    connection.sendall(_request(check))
    with connection.makefile("rb") as answer:
        status, headers = _head(answer)
        return status, _body(answer, headers, limit) if limit else b""


def _request(check: Check) -> bytes:
    # The zone of a link-local address means something on this host only.
    name = check.host.partition("%")[0].encode("idna").decode("ascii")
    authority = f"[{name}]" if ":" in name else name
    if check.port != DEFAULT_PORTS[check.type]:
        authority = f"{authority}:{check.port}"
    lines = (f"GET {check.path} HTTP/1.1", f"Host: {authority}", "Accept-Encoding: identity", "Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _head(answer: IO[bytes]) -> tuple[int, dict[bytes, bytes]]:
    """The status of the final response, and its headers by their names in lower case."""
    for _number in range(MOST_INTERIM + 1):
        line = _line(answer)
        found = STATUS.fullmatch(line)
        if not found:
            raise ValueError(f"no HTTP answer: {line.decode('utf-8', 'replace')!r}" if line else "no HTTP answer")
        headers = _headers(answer)
        status = int(found[1])
        if status not in INTERIM or status == SWITCHING_PROTOCOLS:
            return status, headers
    raise ValueError(f"more than {MOST_INTERIM} interim answers")


def _headers(answer: IO[bytes]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for _number in range(MOST_HEADERS + 1):
        line = _line(answer)
        if not line:
            return headers
        name, _colon, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    raise ValueError(f"the answer has more than {MOST_HEADERS} headers")


def _line(answer: IO[bytes]) -> bytes:
    """A line without its end; also empty if there is nothing more."""
    line = answer.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise ValueError(f"the answer has a line of more than {LONGEST_LINE} bytes")
    return line.rstrip(b"\r\n")


def _body(answer: IO[bytes], headers: dict[bytes, bytes], limit: int) -> bytes:
    if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        return _unchunked(answer, limit)
    length = headers.get(b"content-length", b"")
    return answer.read(min(int(length), limit) if length.isdigit() else limit)


def _unchunked(answer: IO[bytes], limit: int) -> bytes:
    body = bytearray()
    while True:
        line = _line(answer)
        found = CHUNK_SIZE.fullmatch(line)
        if not found:
            raise ValueError(f"the answer has no size of a chunk, but {line.decode('utf-8', 'replace')!r}")
        size, left = int(found[1], 16), limit - len(body)
        body += answer.read(min(size, left))
        if size == 0 or size >= left:
            return bytes(body)
        _line(answer)
