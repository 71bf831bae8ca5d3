# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which repositories a host deploys from, by the protocol and the beginning of the address. Pure.

A beginning matches an address with the same protocol, user, host and port whose path is the same or below it, segment
by segment. An address that programs might read in two ways (`..`, `%2f`, `?`, a host with odd letters) matches none.
`host:path` of ssh is relative to the user's home, so it is not the same as `ssh://host/path`.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from zoo_watcher.wire.records import InvalidRecord, check_published_url, quote, url_scheme, without_userinfo
from zoo_watcher.wire.znode_names import has_control

PORTS = {"https": 443, "http": 80, "git": 9418}
"""The default ports. With ssh, its own configuration decides the port, and knows a host as it is written.
"""
SERVER = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.+-]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
ODD = frozenset("/\\?#;%")
"""What no decoded segment of a path may have: some server, or git itself, takes it for more than a letter."""
MOST_SHOWN = 3


class Location(namedtuple("Location", ("scheme", "server", "is_absolute", "path"))):
    """Where an address leads. `server` is the user, the host and the port; it has no host for a path on this host."""

    __slots__ = ()

    scheme: str
    server: tuple[str | None, str, int]
    is_absolute: bool
    path: tuple[str, ...]

    def is_below(self, other: Location) -> bool:
        """Whether it is the other location, or below it."""
        return self[:3] == other[:3] and self.path[: len(other.path)] == other.path


def find_problem(url: str, schemes: Sequence[str], beginnings: Sequence[str]) -> str | None:
    """Why a host with these protocols and beginnings, each checked before, does not deploy from `url`; None if it does.

    Without beginnings, an address only needs one of the protocols.
    """
    scheme = url_scheme(url)
    if scheme not in schemes:
        allowed = ", ".join(schemes)
        return (
            f"url: {scheme} is not allowed on this host, only {allowed}; publish by one of these, or add {scheme} to "
            "allowed_schemes"
        )
    if not beginnings:
        return None
    shown = f"url: {quote(without_userinfo(url), 300)}"
    allowed = ", ".join(beginnings[:MOST_SHOWN])
    if len(beginnings) > MOST_SHOWN:
        allowed += f" and {len(beginnings) - MOST_SHOWN} more"
    try:
        location = locate(url)
    except InvalidRecord as exc:
        compared = f"can't be compared with the allowed_urls of this host ({allowed})"
        return f"{shown} {compared}: {exc}; write it as one of them is written"
    if any(location.is_below(locate(beginning)) for beginning in beginnings):
        return None
    return (
        f"{shown} is below none of the allowed_urls of this host ({allowed}); publish from one of them, or add it there"
    )


def check_beginning(beginning: str, schemes: Sequence[str]) -> None:
    """Raises `InvalidRecord` if no address could be told to be below it."""
    check_published_url(beginning)
    scheme = url_scheme(beginning)
    if scheme not in schemes:
        raise InvalidRecord(f"{scheme} is not in allowed_schemes, for {quote(without_userinfo(beginning))}")
    try:
        locate(beginning)
    except InvalidRecord as exc:
        raise InvalidRecord(f"{quote(without_userinfo(beginning))}: {exc}") from exc


def locate(url: str) -> Location:
    """Where an address for git leads. Raises `InvalidRecord` if it may be read in two ways."""
    scheme = url_scheme(url)
    has_scheme = url.startswith(f"{scheme}://")
    if has_scheme:
        server, _slash, path = url[len(scheme) + 3 :].partition("/")
        path = f"/{path}"
    elif scheme == "file":
        server, path = "", url
    else:
        server, _colon, path = url.partition(":")
    is_absolute = path.startswith("/")
    if scheme == "file" and (server or not is_absolute):
        raise InvalidRecord("expected an absolute path on this host, or an address with its protocol")
    where = (None, "", 0) if scheme == "file" else _server(scheme, server)
    segments = path[1:] if is_absolute else path
    segments = segments.removesuffix("/")
    return Location(
        scheme, where, is_absolute, tuple(_segment(one, decode=has_scheme) for one in segments.split("/") if segments)
    )


def _server(scheme: str, text: str) -> tuple[str | None, str, int]:
    found = SERVER.fullmatch(text)
    if not found:
        raise InvalidRecord("expected a user, a host and a port such as git@git.example.org:22 with plain letters only")
    port = int(found["port"] or PORTS.get(scheme, 0))
    if port > 65535:
        raise InvalidRecord(f"expected a port up to 65535, got {port}")
    return found["user"], found["host"] if scheme == "ssh" else found["host"].lower(), port


def _segment(text: str, *, decode: bool) -> str:
    """A segment of a path as a server reads it. Git or the server decodes addresses with a protocol, and no others."""
    try:
        segment = unquote_to_bytes(text).decode() if decode else text
    except UnicodeDecodeError:
        segment = text
    # A server may read dots and spaces as dots only.
    if not segment.strip(". ") or not ODD.isdisjoint(segment) or has_control(segment):
        raise InvalidRecord(f"expected no {quote(segment)} in its path")
    return segment
