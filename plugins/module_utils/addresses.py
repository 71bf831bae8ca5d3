# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of an ensemble's members: how a client finds them, and how long it waits for each."""

from __future__ import annotations

import _thread
import contextlib
import random
import socket
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kazoo.client import KazooClient

KNOWN_COUNTS_AFTER = 1.0
"""Seconds for name servers to answer before their earlier addresses are used."""
LONGEST_LOOKUP = 60.0
"""Seconds after which an answer is no longer waited for. glibc takes 30 for three silent name servers."""
LOOK_AGAIN = 0.2
"""Seconds within which stopping a client ends the wait."""
GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""The errors of name servers for a name that does not exist, or that has no address."""

Address = tuple[str, str, int]
"""A member's name, its address and its port."""


class Addresses:
    """Replaces kazoo's own way to find the members of a client's ensemble.

    kazoo asks for one name after the other, and waits a whole session timeout for each member. If a name server or a
    member's host is down, and so silent, that is longer than a session, or a task, may last.
    """

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self._members = list(client.hosts)
        self._known: dict[tuple[str, int], list[Address]] = {}
        self._asked: dict[tuple[str, int], float] = {}
        self._answers = threading.Condition()
        self._silent = 0
        self._took: dict[tuple[str, int], float] = {}
        # The class's own method: clients may share a handler.
        self._connect = type(client.handler).create_connection.__get__(client.handler)
        client.handler.create_connection = self.connect
        if hasattr(client._connection, "_expand_client_hosts"):
            client._connection._expand_client_hosts = self.find

    def find(self) -> list[Address]:
        """All addresses of the members; the names are looked up in parallel."""
        for member in self._members:
            self._ask(member)
        with self._answers:
            self._answers.wait_for(lambda: not self._asked, KNOWN_COUNTS_AFTER)
            self._await_one()
            found = self._all_known()
        if found:
            self._client.hosts = _one_for_each_member(found, self._members)
        if self._client.randomize_hosts:
            random.shuffle(found)
        return found

    def _await_one(self) -> None:
        """Wait until one address is known, all lookups have ended, or the client is being stopped."""
        if not self._asked or self._all_known():
            return
        self._client.logger.warning(
            "No answer about the address of %s", ", ".join(sorted(host for host, _port in self._asked))
        )
        end = time.monotonic() + LONGEST_LOOKUP
        while self._asked and not self._all_known() and time.monotonic() < end and not self._client._stopped.is_set():
            self._answers.wait(LOOK_AGAIN)

    def connect(self, address: tuple[str, int], timeout: float, **options: Any) -> Any:
        """A connection; if kazoo allows a whole session timeout, it gets only this member's share. Raises `OSError`."""
        if timeout < self._client._session_timeout / 1000:
            return self._connect(address=address, timeout=timeout, **options)
        began = time.monotonic()
        patience = min(timeout, self._patience(address, timeout))
        try:
            connection = self._connect(address=address, timeout=patience, **options)
        except (TimeoutError, socket.timeout):  # the same from Python 3.10 on
            self._silent += 1
            self._took.pop(address, None)
            raise
        self._silent, self._took[address] = 0, time.monotonic() - began
        return connection

    def _patience(self, address: tuple[str, int], session: float) -> float:
        """The seconds that one address has to connect, and again for the TLS handshake if there is one.

        Even with as many members down as an ensemble can lose, time is left for one more, or for as many again. If
        none connects, each second round lasts twice as long, each fourth four times, and so on: they may be slow, or
        down for long. A member that once took longer gets more time.
        """
        count = len(self._client.hosts)
        most_off = count // 2
        parts = max(3, most_off + 1) if self._client.use_ssl else 2 * most_off + 2
        share = session / (parts if count > 1 else 1)
        time_round = self._silent // count + 1
        return max(share * (time_round & -time_round), 2 * self._took.get(address, 0))

    def _all_known(self) -> list[Address]:
        return [address for member in self._members for address in self._known.get(member, [])]

    def _ask(self, member: tuple[str, int]) -> None:
        with self._answers:
            now = time.monotonic()
            # A thread that never answers may have ended for lack of memory.
            if now - self._asked.get(member, -LONGEST_LOOKUP) < LONGEST_LOOKUP:
                return
            self._asked[member] = now
        if not _is_address(member[0]):
            # `Thread.start` would wait for ever if a thread gets no memory. If none can be started, this one asks.
            with contextlib.suppress(RuntimeError):
                _thread.start_new_thread(self._look_up, (member,))
                return
        self._look_up(member)

    def _look_up(self, member: tuple[str, int]) -> None:
        host, port = member
        known = self._known.get(member, [])
        try:
            answers = socket.getaddrinfo(host.strip(), port, 0, 0, socket.IPPROTO_TCP)
            known = [(host, str(address[0]), int(address[1])) for *_kind, address in answers]
        except Exception as exc:  # noqa: BLE001  # whatever it is, such as too little memory, the next try may do
            self._client.logger.warning("Cannot resolve %s: %s", host, exc)
            if isinstance(exc, socket.gaierror) and exc.errno in GONE:
                known = []  # its name no longer exists, so its address may belong to another host
        finally:
            with self._answers:
                self._known[member] = known
                self._asked.pop(member, None)
                self._answers.notify_all()


def _is_address(host: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(socket.getaddrinfo(host.strip(), None, flags=socket.AI_NUMERICHOST))
    return False


def _one_for_each_member(found: list[Address], members: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What kazoo counts to divide its time by: names with several addresses are that many members.

    A host's second family of addresses, such as IPv6 next to IPv4, is not a member of its own.
    """
    families = [[(address, port) for _host, address, port in found if (":" in address) is six] for six in (False, True)]
    most = max(families, key=len)
    return most if len(most) > len(members) else members
