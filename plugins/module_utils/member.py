# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one member of an ensemble reports, by four-letter words or by its AdminServer. Does not need kazoo.

The words are `srvr`, which every member answers, and `mntr`, which has more and is refused unless zoo.cfg allows it
(`4lw.commands.whitelist`). The AdminServer's `/commands/monitor` is the same over HTTP, a JSON object.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .connection import ConnectError, check_tls_files, check_tls_is_on, host_string
from .znode_names import printable

Facts = dict[str, Any]

MOST_BYTES = 1_000_000
"""The most bytes of an answer; `mntr` has some 20,000."""
DEFAULT_PORT = 2181
ADMIN_PATIENCE = 2.0
"""Seconds for an AdminServer to answer: for example, a firewall may drop what is sent to it."""
REFUSED = "is not executed because it is not in the whitelist"
"""A member's answer to a word that is not allowed."""
SRVR = {
    "Zookeeper version": "version",
    "Mode": "mode",
    "Zxid": "zxid",
    "Node count": "znodes",
    "Connections": "connections",
    "Outstanding": "outstanding",
}
"""What is taken from `srvr`, by the words that its lines begin with."""
MONITORED = {
    "version": "version",
    "server_state": "mode",
    "znode_count": "znodes",
    "num_alive_connections": "connections",
    "outstanding_requests": "outstanding",
    "global_sessions": "sessions",
    "watch_count": "watches",
    "ephemerals_count": "ephemerals",
    "approximate_data_size": "data_size",
    "synced_followers": "synced_followers",
}
"""What is taken from `mntr`, by its names, which are prefixed with `zk_` there but not in the AdminServer's answer."""
TEXTS = ("mode", "version")
"""The facts that are not numbers."""
_LATENCY = re.compile(r"^Latency min/avg/max: ([\d.]+)/([\d.]+)/([\d.]+)", re.MULTILINE)


class Address(NamedTuple):
    """Where to reach a member. `text` is how it was given."""

    text: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From `host`, `host:port` or `[address]:port`. Raises `ConnectError`."""
        has_port = ":" in text.rpartition("]")[2]
        host, _colon, port = text.rpartition(":") if has_port else (text, "", str(DEFAULT_PORT))
        name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not name or {*"[]"} & {*name} or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConnectError(f"hosts: expected host:port with a port from 1 to 65535, got {text!r}")
        return cls(text, name, int(port))


class Question(NamedTuple):
    """How to ask members: within `seconds` for all of it, with TLS if there is a context; a port of 0 means none."""

    seconds: float
    tls: ssl.SSLContext | None
    admin_port: int
    admin_tls: ssl.SSLContext | None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Question:
        """From the options of a task. Raises `ConnectError`."""
        if not 0 <= options["admin_port"] < 65536:
            raise ConnectError(f"admin_port: expected a port from 1 to 65535, or 0, got {options['admin_port']}")
        speaks_tls = options["tls"] or options["admin_tls"]
        check_tls_is_on({**options, "tls": speaks_tls})
        context = _tls_context(options) if speaks_tls else None
        return cls(
            options["connect_timeout"],
            context if options["tls"] else None,
            options["admin_port"],
            context if options["admin_tls"] else None,
        )


def addresses(options: Mapping[str, Any]) -> list[Address]:
    """The members in the option `hosts`; the chroot does not matter here. Raises `ConnectError`."""
    members = host_string(options["hosts"]).partition("/")[0]
    return [Address.parse(member.strip()) for member in members.split(",") if member.strip()]


def _tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    check_tls_files({**options, "tls": True})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(options["tls_verify"] and options["tls_check_hostname"])
    context.verify_mode = ssl.CERT_REQUIRED if options["tls_verify"] else ssl.CERT_NONE
    context.load_default_certs()
    if options["tls_ca"]:
        context.load_verify_locations(options["tls_ca"])
    if options["tls_cert"]:
        context.load_cert_chain(options["tls_cert"], options["tls_key"] or None, options["tls_key_password"] or "")
    return context


def ask_member(address: Address, question: Question) -> Facts:
    """What a member reports about itself: `member`, and what is known about it; `problem` if it does not serve."""
    deadline = time.monotonic() + question.seconds
    try:
        answer = _word(address, question, b"srvr", deadline)
        facts = parse_srvr(answer)
        if "mode" not in facts:
            first = (answer.strip() or "closed the connection without an answer").splitlines()[0]
            return {"member": address.text, "problem": printable(first)}
        return {"member": address.text, **_monitored(address, question, deadline), **facts}
    except (OSError, ValueError) as exc:
        return {"member": address.text, "problem": f"no answer: {exc}"}


def _monitored(address: Address, question: Question, deadline: float) -> Facts:
    """What a serving member reports by `mntr`, or else by its AdminServer; `admin_problem` if that fails too."""
    answer = _word(address, question, b"mntr", deadline)
    if REFUSED not in answer:
        return parse_mntr(answer)
    if not question.admin_port:
        return {}
    try:
        return monitored(_command(address, question, "monitor", min(deadline, time.monotonic() + ADMIN_PATIENCE)))
    except (OSError, ValueError) as exc:
        return {"admin_problem": f"port {question.admin_port}: {exc}"}


def _word(address: Address, question: Question, word: bytes, deadline: float) -> str:
    return _exchange(address, question.tls, word, deadline).decode(errors="replace")


def parse_srvr(answer: str) -> Facts:
    """The facts in the answer to `srvr` of a member that serves and allows it."""
    pairs = [line.partition(": ") for line in answer.splitlines()]
    facts = {SRVR[word]: value for word, _colon, value in pairs if word in SRVR}
    latency = _LATENCY.search(answer)
    return {**_typed(facts), **(_latency(*latency.groups()) if latency else {})}


def parse_mntr(answer: str) -> Facts:
    """The facts in the answer to `mntr` of a member that serves and allows it."""
    pairs = [line.partition("\t") for line in answer.splitlines()]
    return monitored({name[len("zk_") :]: value for name, _tab, value in pairs if name.startswith("zk_")})


def monitored(values: Mapping[str, Any]) -> Facts:
    """The facts among ZooKeeper's monitoring values."""
    latency = [values.get(f"{which}_latency") for which in ("min", "avg", "max")]
    facts = {MONITORED[name]: value for name, value in values.items() if name in MONITORED}
    return {**_typed(facts), **(_latency(*latency) if None not in latency else {})}


def _typed(facts: Mapping[str, Any]) -> Facts:
    """Numbers as numbers, strings made safe for a terminal, and a version without its build."""
    typed = {name: printable(str(value)) if name in TEXTS else int(str(value), 0) for name, value in facts.items()}
    return {**typed, "version": re.split(r"[-,]", str(typed["version"]))[0]} if "version" in facts else typed


def _latency(least: Any, mean: Any, most: Any) -> Facts:
    return {"latency": {"min": float(str(least)), "avg": float(str(mean)), "max": float(str(most))}}


def _command(address: Address, question: Question, name: str, deadline: float) -> Facts:
    """An answer of the AdminServer. Raises `OSError`, and `ValueError` for an invalid one."""
    # HTTP/1.0: the answer ends with the connection, and is not chunked.
    request = f"GET /commands/{name} HTTP/1.0\r\nHost: {address.host}\r\n\r\n".encode()
    at = address._replace(port=question.admin_port)
    head, _blank, body = _exchange(at, question.admin_tls, request, deadline).partition(b"\r\n\r\n")
    try:
        answer = dict(json.loads(body))
    except (ValueError, TypeError, RecursionError) as exc:
        first = head.decode("ascii", errors="replace").partition("\r\n")[0]
        raise ValueError(f"expected a JSON object, got {first[:80]!r}") from exc
    if answer.get("error"):
        raise ValueError(str(answer["error"]))
    return answer


def _exchange(address: Address, tls: ssl.SSLContext | None, request: bytes, deadline: float) -> bytes:
    """Send a request, and read until the other side closes. Raises `OSError`."""
    connection = socket.create_connection((address.host, address.port), timeout=_left(deadline))
    with connection:
        stream = tls.wrap_socket(connection, server_hostname=address.host) if tls else connection
        with stream:
            stream.sendall(request)
            answer = b""
            while len(answer) < MOST_BYTES:
                stream.settimeout(_left(deadline))
                part = stream.recv(65536)
                if not part:
                    return answer
                answer += part
    raise OSError(f"more than {MOST_BYTES} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
