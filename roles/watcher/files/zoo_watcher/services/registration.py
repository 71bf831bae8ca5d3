# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrations of this host's services: which are held, at which znodes, with what value."""

from __future__ import annotations

import json
import socket
import zlib
from typing import Any

from zoo_watcher.config.config import Config, Service
from zoo_watcher.zookeeper.ephemerals import Ephemerals

from .health import Health


class Registrations:
    """Holds a registration for each service that is healthy, and no other."""

    def __init__(self, config: Config, health: Health, ephemerals: Ephemerals) -> None:
        self._hosts = config.connection.hosts
        self._services = tuple(zip(config.services, health.checkers))
        self._ephemerals = ephemerals
        self._configured = {config.app.agent(config.name), *(service_path(service) for service in config.services)}
        self._address = ""

    def find_address(self) -> None:
        """Find this host's address anew: it may have another since the last session began."""
        self._address = source_address(self._hosts)

    def update(self, *, serving: bool) -> None:
        """Hold what is to be held while the host is `serving`, or not. Raises `TakenError`, `SessionTroubleError`."""
        for service, checker in self._services:
            path = service_path(service)
            if serving and checker.healthy:
                self._ephemerals.hold(path, service_value(service, service.address or self._address))
            elif not serving or checker.healthy is False:
                self._ephemerals.withdraw(path)
        self._ephemerals.withdraw_others(self._configured)


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


def source_address(hosts: str) -> str:
    """This host's address on the way to the ensemble: the first that is not loopback, else loopback."""
    members = hosts.split("/", maxsplit=1)[0].split(",")
    addresses = [address for address in map(_source_address_towards, members) if address]
    return next((address for address in addresses if not address.startswith("127.") and address != "::1"), "127.0.0.1")


def _source_address_towards(member: str) -> str | None:
    host = member.strip()
    name, _colon, port = host.rpartition(":") if host.rsplit(":", 1)[-1].isdigit() else (host, "", "")
    try:
        family, *_rest, address = socket.getaddrinfo(name.strip("[]"), port or 2181, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing: it only looks the route up
            return str(probe.getsockname()[0])
    except OSError:
        return None
