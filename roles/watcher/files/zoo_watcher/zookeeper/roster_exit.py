# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes this host from the roster of its application when its agent is to be removed."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from zoo_watcher.config.config import Config
from zoo_watcher.errors import AgentError

from .connection import explain
from .kazoo_client import new_client

CONNECT_TIMEOUT = 10.0
"""Seconds within which a session must come up, and each answer arrive: a host is removed even if its ensemble is."""
LOOK = 0.2


def leave_roster(config: Config) -> str:
    """Delete the host's entry; returns a line that says what is true now. Raises `AgentError`."""
    path = config.app.roster_entry(config.name)
    # The person who reads the one line does not need kazoo's log of its tries.
    logging.getLogger("kazoo").addHandler(logging.NullHandler())
    client = new_client(config.connection, None)
    try:
        client.start(timeout=CONNECT_TIMEOUT)
        _await_end(client, config)
        client.delete_async(path).get(timeout=CONNECT_TIMEOUT)
    except NoNodeError:
        return f"not in the roster: {path}"
    except KazooTimeoutError as exc:
        raise AgentError(
            f"{path}: still in the roster: no session within {CONNECT_TIMEOUT:g} s, hosts={config.connection.hosts}"
        ) from exc
    except KazooException as exc:
        raise AgentError(f"{path}: still in the roster: {explain(exc)}") from exc
    finally:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()
    return f"left the roster: {path}"


def _await_end(client: Any, config: Config) -> None:
    """Wait until no agent of the name is live: what a killed agent held lasts until its session expires."""
    deadline = time.monotonic() + config.connection.session_timeout + 1
    # With a time limit: a request without a connection waits until there is one.
    while client.exists_async(config.app.agent(config.name)).get(timeout=CONNECT_TIMEOUT):
        if time.monotonic() > deadline:
            raise AgentError(f"{config.app.roster_entry(config.name)}: still in the roster: its agent is live")
        time.sleep(LOOK)
