# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes kazoo's client of what the configuration says of the connection."""

from __future__ import annotations

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import ConfigError

LONGEST_PAUSE = 2.0
"""Seconds between two tries to connect, at the most."""


def make_client(connection: Connection, client_id: tuple[int, bytes] | None) -> KazooClient:
    """A client that takes the session `client_id` up again if there is one. Raises `ConfigError`."""
    try:
        return KazooClient(
            hosts=connection.hosts,
            timeout=connection.session_timeout,
            client_id=client_id,
            auth_data=_auth_data(connection),
            sasl_options=_sasl_options(connection),
            use_ssl=connection.tls,
            ca=connection.tls_ca,
            certfile=connection.tls_cert,
            keyfile=connection.tls_key,
            keyfile_password=connection.tls_key_password,
            verify_certs=connection.tls_verify,
            **_hostname_check(connection),
            connection_retry={"max_tries": -1, "delay": 0.1, "max_delay": _longest_pause(connection)},
        )
    except (ValueError, TypeError, KazooException) as exc:
        raise ConfigError([f"hosts: {exc}"]) from exc


def _hostname_check(connection: Connection) -> dict[str, bool]:
    """The option for kazoo, which has it from 2.11 on. Raises `ConfigError` for an older one."""
    if not (connection.tls and connection.tls_verify and connection.tls_check_hostname):
        return {}
    if "check_hostname" not in KazooClient.__init__.__code__.co_varnames:
        raise ConfigError(["tls_check_hostname: this kazoo can't check it; install 2.11 or later, or set it to false"])
    return {"check_hostname": True}


def _longest_pause(connection: Connection) -> float:
    """Seconds between two tries to connect. A new leader gives each session one more timeout to come back in."""
    return min(LONGEST_PAUSE, connection.session_timeout / 10)


def _auth_data(connection: Connection) -> list[tuple[str, str]]:
    if not connection.digest_username:
        return []
    return [("digest", f"{connection.digest_username}:{connection.digest_password}")]


def _sasl_options(connection: Connection) -> dict[str, str] | None:
    if not connection.sasl_mechanism:
        return None
    options = {
        "mechanism": connection.sasl_mechanism,
        "service": connection.sasl_service,
        "username": connection.sasl_username,
        "password": connection.sasl_password,
        "principal": connection.sasl_principal,
    }
    return {key: value for key, value in options.items() if value}
