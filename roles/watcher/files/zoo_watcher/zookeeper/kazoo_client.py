# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates kazoo's client from the connection options of the configuration."""

from __future__ import annotations

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import ConfigError
from zoo_watcher.host.shortage import comes_of_shortage

from .connection import ZooKeeperError, make_client, mistakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kazoo.client import KazooClient

    from .kazoo_threads import KazooThreads

LONGEST_PAUSE = 2.0
"""The most seconds between two tries to connect."""

KAZOO_RANGE = ">=2.8,<3"
"""The versions of kazoo whose private attributes are those that `Connector` and `Session` use."""
PRIVATE = {
    "": (
        *("_call", "_connection", "_reset_session", "_session_id", "_session_passwd", "_session_timeout", "_stopped"),
        "last_zxid",
    ),
    "_connection": (
        *("_connect", "_expand_client_hosts", "_invoke", "_read", "_ro_mode", "_socket"),
        *("connection_stopped", "logger"),
    ),
}
"""Those attributes: the client's own, and those of its attribute `_connection`."""


def new_client(
    connection: Connection, client_id: tuple[int, bytes] | None, threads: KazooThreads | None = None
) -> KazooClient:
    """A client that resumes the session `client_id`, if there is one. Raises `ConfigError`."""
    check_connection(connection)
    return _make(
        connection,
        handler=threads,
        timeout=connection.session_timeout,
        client_id=client_id,
        connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": _longest_pause(connection)},
    )


def _make(connection: Connection, **arguments: Any) -> KazooClient:
    try:
        client = make_client(vars(connection), **arguments)
    except ZooKeeperError as exc:
        raise ConfigError([str(exc)]) from exc
    missing = missing_attributes(client)
    if missing:
        from kazoo.version import __version__  # noqa: PLC0415  # kazoo is there now

        lacks = f"kazoo {__version__} lacks {', '.join(missing)}, which the agent needs"
        raise ConfigError([f"{lacks}; install kazoo{KAZOO_RANGE}"])
    return client


def missing_attributes(client: Any) -> list[str]:
    """Those of kazoo's private attributes used by the agent that this client lacks."""
    missing = []
    for owner, names in PRIVATE.items():
        holder = getattr(client, owner, None) if owner else client
        missing += [".".join(filter(None, [owner, name])) for name in names if not hasattr(holder, name)]
    return missing


def check_connection(connection: Connection) -> None:
    """Raises `ConfigError` with everything that is wrong before any server is asked, such as the TLS files."""
    problems = list(mistakes(vars(connection)))
    if problems:
        lack = next(filter(comes_of_shortage, problems), None)
        raise ConfigError([str(problem) for problem in problems]) from lack
    _make(connection)


def _longest_pause(connection: Connection) -> float:
    """Seconds between two tries to connect. A new leader gives each session one more timeout to reconnect."""
    return min(LONGEST_PAUSE, connection.session_timeout / 10)
