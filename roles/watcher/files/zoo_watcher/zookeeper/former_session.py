# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session of an earlier process, whose ephemerals this agent can't delete: closing it deletes them."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

from zoo_watcher.config.config import Connection
from zoo_watcher.host.thread import Thread

from .connection import host_string
from .kazoo_client import new_client
from .session_memory import ClientId

log = logging.getLogger(__name__)


def close_former_session(connection: Connection, client_id: ClientId) -> None:
    """Close it, in a thread of its own; if that is not possible, it expires after its timeout anyway."""
    closer = Thread(target=_close, args=(connection, client_id), name="former-session", daemon=True)
    try:
        closer.start()
    except RuntimeError as exc:
        log.warning("former session not closed, it expires: %s", exc)


def _close(connection: Connection, client_id: ClientId) -> None:
    # Below no chroot: the former one may no longer exist.
    members = replace(connection, hosts=host_string(connection.hosts).partition("/")[0])
    try:
        client = new_client(members, client_id)
        with contextlib.closing(client):
            client.start(timeout=connection.session_timeout)
            client.stop()
    except Exception as exc:  # noqa: BLE001  # whatever it is, it takes nothing from the present session
        log.warning("former session not closed, it expires: %s: %s", type(exc).__name__, exc)
    else:
        log.info("former session closed, session=0x%x", client_id[0] & 0xFFFFFFFFFFFFFFFF)
