# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notifies the service manager as sd_notify(3) does: a datagram to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time


def notify(*words: str) -> bool:
    """Send it `READY=1`, `STATUS=...`, `WATCHDOG=1`, `STOPPING=1`; False if it accepts nothing now."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return True
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # Never waits: a service manager that hangs must not stop the agent.
        sender.sendto("\n".join(words).encode(), socket.MSG_DONTWAIT, address)
        return True
    return False


def live_on() -> None:
    """Send the watchdog a sign of life from the thread that it watches: the main one."""
    if threading.current_thread() is threading.main_thread():
        notify("WATCHDOG=1")


def reloading() -> str:
    """The words that announce that this process reloads; `READY=1` ends that."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, a third of the limit, since one may be lost; None if none are expected."""
    granted = os.environ.get("WATCHDOG_USEC", "")
    return int(granted) / 3_000_000 if granted.isdigit() and int(granted) else None


def unit() -> str | None:
    """The unit's name without `.service`, as set in the role's unit; None if this does not run in such a unit."""
    return os.environ.get("ZOO_WATCHER_UNIT", "").removesuffix(".service") or None


def runtime_directory() -> str | None:
    """The unit's own directory under /run; None if it has none."""
    directories = os.environ.get("RUNTIME_DIRECTORY", "").split(":")
    return directories[0] or None
