# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registrations of this host's services: which are held, at which znodes, with which value."""

from __future__ import annotations

import binascii
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from functools import partial

from zoo_watcher.config.config import Config, Service
from zoo_watcher.errors import NoAnswerError, SessionTroubleError
from zoo_watcher.zookeeper.ephemerals import Ephemerals, TakenError
from zoo_watcher.zookeeper.session import answer_deadline

from .health import Checker, Health
from .own_address import OwnAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Registrations:
    """Holds a registration for each healthy service, and no other."""

    def __init__(self, config: Config, health: Health, ephemerals: Ephemerals, changed: Callable[[], None]) -> None:
        """`changed` is called, from another thread, when there is something new to register."""
        self._services = tuple(zip(config.services, health.checkers))
        self._ephemerals = ephemerals
        self._configured = {config.app.agent(config.name), *(service_path(service) for service in config.services)}
        self._awaits_until = time.monotonic() + config.health_timeout
        self._address = OwnAddress(config.connection.hosts, changed)
        self.refused: frozenset[str] = frozenset()
        """The paths at which the ensemble did not let the last `update` hold or withdraw what it should."""

    def find_address(self, connected_from: str) -> None:
        """Find this host's address again: the connection, which is new, is from the address `connected_from`."""
        if not all(service.address for service, _checker in self._services):
            self._address.find(connected_from)

    def withdraw_ill(self) -> None:
        """Withdraw what is not healthy. `update` reports what goes wrong. Raises `NoAnswerError`."""
        ill = sorted(self._ill)
        # All at once: none has to wait for late answers about others, nor the loop for one after the other.
        deadline = answer_deadline()
        for path in ill:
            self._ephemerals.begin_withdrawal(path)
        late: NoAnswerError | None = None
        for path in ill:
            try:
                self._ephemerals.withdraw(path, deadline)
            except NoAnswerError as exc:
                late = exc
            except SessionTroubleError:
                continue
        if late:
            raise late

    def update(self, *, serving: bool | None) -> list[str]:
        """Withdraw what is to be withdrawn, then hold what is to be held while the host is `serving`, or not.

        If that is not known (None), nothing new is registered, and only what is not healthy is withdrawn.
        Returns a line for each that went wrong; none of these stops the others. Raises `NoAnswerError`.
        """
        refused = {}
        # What is not configured may be the former place of a service that is not registered yet: leave no gap.
        new = [service for service in self._services if serving is not False and self._is_new(*service)]
        # In this order: a service that becomes healthy meanwhile is held before any withdrawal. A check may never end.
        is_awaited = time.monotonic() < self._awaits_until and any(
            not (serving and checker.healthy) or self._waits(one, checker) for one, checker in new
        )
        others: tuple[str, Callable[[], None]] = "others", partial(self._withdraw_others, serving=serving)
        steps = [*self._withdrawals(serving=serving), *([] if new else [others]), *self._holds(serving=serving)]
        for path, step in [*steps, *([] if is_awaited else [others])]:
            try:
                step()
            except NoAnswerError:
                raise
            except (SessionTroubleError, TakenError) as exc:
                refused[path] = str(exc)
        self.refused = frozenset(refused)
        waits = bool(serving) and any(self._waits(*service) for service in self._services)
        return [*refused.values(), *([self._address.trouble] if waits and self._address.trouble else [])]

    @property
    def is_withdrawal_due(self) -> bool:
        """Whether the session holds the registration of a service that is not healthy."""
        return any(map(self._ephemerals.may_hold, self._ill))

    @property
    def _ill(self) -> set[str]:
        """Where an unhealthy service may be registered, also by an earlier version."""
        ill = [service for service, checker in self._services if checker.healthy is False]
        return {place(service) for place in (service_path, _former_path) for service in ill}

    def _waits(self, service: Service, checker: Checker) -> bool:
        """Whether a service can't be registered before this host's address is known."""
        return bool(checker.healthy) and not (service.address or self._address.current)

    def _withdrawals(self, *, serving: bool | None) -> Iterator[tuple[str, Callable[[], None]]]:
        for service, checker in self._services:
            if serving is False or checker.healthy is False:
                path = service_path(service)
                yield path, partial(self._ephemerals.withdraw, path)

    def _withdraw_others(self, *, serving: bool | None) -> None:
        """Withdraw what is no longer configured; a former place only once the new one is there, to leave no gap."""
        services = self._services if serving is not False else ()
        stay = [service for service, checker in services if checker.healthy is not False]
        held = self._ephemerals.held
        moving = {_former_path(service) for service in stay if service_path(service) not in held}
        self._ephemerals.withdraw_others(self._configured | moving)

    def _is_new(self, service: Service, checker: Checker) -> bool:
        """Whether a service is not registered, and its check has not failed: it may be registered soon."""
        return checker.healthy is not False and not self._ephemerals.may_hold(service_path(service))

    def _holds(self, *, serving: bool | None) -> Iterator[tuple[str, Callable[[], None]]]:
        for service, checker in self._services:
            address = service.address or self._address.current
            if serving and checker.healthy and address:
                path = service_path(service)
                yield path, partial(self._ephemerals.hold, path, service_value(service, address))


def service_path(service: Service) -> str:
    """The znode of a registration, named as readers of its format expect."""
    names = {
        "nerve": f"{service.id}_{_sequence(service)}",
        "serverset": f"member_{_member_number(service)}",
    }
    return f"{service.path.rstrip('/')}/{names.get(service.format, service.id)}"


def _former_path(service: Service) -> str:
    """Where version 0.1.0 registers it: a member of a serverset had ten digits."""
    former = f"{service.path.rstrip('/')}/member_{_sequence(service)}"
    return former if service.format == "serverset" else service_path(service)


def _sequence(service: Service) -> str:
    """Ten digits where Nerve has a sequence number; from the id, so that a restart writes the same name."""
    return f"{binascii.crc32(service.id.encode()):010d}"


def _member_number(service: Service) -> int:
    """What tells a serverset's members apart, also from the id: 18 digits, so that no two of a fleet have the same.

    Readers expect a number that does not begin with 0; one in Java may hold it in 64 bits.
    """
    digest = hashlib.sha256(service.id.encode()).digest()
    return 10**17 + int.from_bytes(digest, "big") % (9 * 10**17)


def service_value(service: Service, address: str) -> bytes:
    """The value of a registration: `["address", "port"]`, or the object of its format."""
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
        },
    }
    return json.dumps(forms[service.format]).encode()
