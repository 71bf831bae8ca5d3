# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's address as others see it; names are resolved in a thread, because a resolver may take long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from zoo_watcher.backoff import Backoff
from zoo_watcher.host.thread import Thread

LOOPBACK = "127.0.0.1"


class OwnAddress:
    """`current` is the address that was found last, None before the first. `changed` is called when it is another one.

    `trouble` is why the last search found none.
    """

    def __init__(self, hosts: str, changed: Callable[[], None]) -> None:
        self.current: str | None = None
        self.trouble: str | None = None
        self._members = [member.partition("/")[0].strip() for member in hosts.split(",")]
        self._changed = changed
        self._outdated = threading.Event()

    def find(self, connected_from: str) -> None:
        """Find it again: the connection is now from `connected_from`. Raises `RuntimeError` if no thread is left."""
        self._outdated.set()
        self._outdated = threading.Event()
        if connected_from and not is_loopback(connected_from):
            self.current, self.trouble = connected_from, None
            return
        # A host that runs a member itself may be connected to it over loopback.
        Thread(target=self._look_up, args=(self._outdated,), name="own-address", daemon=True).start()

    def _look_up(self, outdated: threading.Event) -> None:
        for pause in Backoff():
            address = address_towards(self._members)
            if outdated.is_set():
                return
            if address:
                self.current, self.trouble = address, None
                self._changed()
                return
            self.trouble = (
                f"this host's address is not known: {', '.join(self._members)} can't be resolved or reached; "
                "services without `address` are not registered yet"
            )
            self._changed()
            if outdated.wait(pause):
                return


def address_towards(members: list[str]) -> str | None:
    """The address on the way to a member elsewhere, or loopback if all are here; None if that can't be told."""
    all_known = True
    for member in members:
        address = _source_address_towards(member)
        if address is None:
            all_known = False
        elif not is_loopback(address):
            return address
    return LOOPBACK if all_known else None


def is_loopback(address: str) -> bool:
    """Whether only this host itself can be reached there."""
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _source_address_towards(member: str) -> str | None:
    name, _colon, port = member.rpartition(":") if member.rsplit(":", 1)[-1].isdigit() else (member, "", "")
    try:
        family, *_rest, address = socket.getaddrinfo(name.strip("[]"), port or 2181, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: it only looks up the route
            return str(probe.getsockname()[0])
    except (OSError, ValueError, MemoryError):
        return None
