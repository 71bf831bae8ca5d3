# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrations of this host's services: which are held, at which znodes, with what value."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

from zoo_watcher.config.config import Config, Service
from zoo_watcher.errors import NoAnswerError, SessionTroubleError
from zoo_watcher.zookeeper.ephemerals import Ephemerals, TakenError

from .health import Health


class Registrations:
    """Holds a registration for each service that is healthy, and no other."""

    def __init__(self, config: Config, health: Health, ephemerals: Ephemerals) -> None:
        self._hosts = config.connection.hosts
        self._services = tuple(zip(config.services, health.checkers))
        self._ephemerals = ephemerals
        self._configured = {config.app.agent(config.name), *(service_path(service) for service in config.services)}
        self._address = ""
        self.refused: frozenset[str] = frozenset()
        """The paths at which the ensemble did not let the last `update` hold, or withdraw, what it should."""

    def find_address(self, connected_from: str) -> None:
        """Find this host's address anew: it may have another since it last connected, now from `connected_from`."""
        self._address = source_address(self._hosts, connected_from)

    def update(self, *, serving: bool) -> list[str]:
        """Withdraw what is to be withdrawn, then hold what is to be held while the host is `serving`, or not.

        What went wrong with one of them, in a line each, keeps no other from its turn. Raises `NoAnswerError`.
        """
        refused = {}
        for path, step in (*self._withdrawals(serving=serving), *self._holds(serving=serving)):
            try:
                step()
            except NoAnswerError:
                raise
            except (SessionTroubleError, TakenError) as exc:
                refused[path] = str(exc)
        self.refused = frozenset(refused)
        return list(refused.values())

    def _withdrawals(self, *, serving: bool) -> Iterator[tuple[str, Callable[[], None]]]:
        for service, checker in self._services:
            if not serving or checker.healthy is False:
                path = service_path(service)
                yield path, partial(self._ephemerals.withdraw, path)
        yield "others", partial(self._ephemerals.withdraw_others, self._configured)

    def _holds(self, *, serving: bool) -> Iterator[tuple[str, Callable[[], None]]]:
        for service, checker in self._services:
            if serving and checker.healthy:
                path = service_path(service)
                value = service_value(service, service.address or self._address)
                yield path, partial(self._ephemerals.hold, path, value)


def service_path(service: Service) -> str:
    """The znode of a registration, named as its format's readers expect."""
    names = {
        "nerve": f"{service.id}_{_sequence(service)}",
        "serverset": f"member_{_sequence(service)}",
    }
    return f"{service.path.rstrip('/')}/{names.get(service.format, service.id)}"


def _sequence(service: Service) -> str:
    """Ten digits where these formats have a sequence number; from the id, so that a restart writes the same name."""
    return f"{zlib.crc32(service.id.encode()):010d}"


def service_value(service: Service, address: str) -> bytes:
    """What a registration says: `["address", "port"]`, or its format's object."""
    name = service.path.rstrip("/").rsplit("/", 1)[-1]
    forms: dict[str, Any] = {
        "seed": [address, str(service.port)],
        "nerve": {"host": address, "port": service.port, "name": service.id},
        "serverset": {
            "serviceEndpoint": {"host": address, "port": service.port},
            "additionalEndpoints": {},
            "status": "ALIVE",
        },
        "curator": {
            "name": name,
            "id": service.id,
            "address": address,
            "port": service.port,
            "sslPort": None,
            "payload": None,
            "serviceType": "DYNAMIC",
            "enabled": True,
        },
    }
    return json.dumps(forms[service.format]).encode()


def source_address(hosts: str, connected_from: str) -> str:
    """This host's address as others see it: that of its connection, or of the way to a member, or loopback.

    A host that runs a member itself may be connected to that, by way of loopback.
    """
    if not connected_from or _is_loopback(connected_from):
        members = hosts.split("/", maxsplit=1)[0].split(",")
        routes = filter(None, map(_source_address_towards, members))
        return next((address for address in routes if not _is_loopback(address)), "127.0.0.1")
    return connected_from


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "::ffff:127.")) or address == "::1"


def _source_address_towards(member: str) -> str | None:
    host = member.strip()
    name, _colon, port = host.rpartition(":") if host.rsplit(":", 1)[-1].isdigit() else (host, "", "")
    try:
        family, *_rest, address = socket.getaddrinfo(name.strip("[]"), port or 2181, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: it only looks the route up
            return str(probe.getsockname()[0])
    except (OSError, ValueError):
        return None
