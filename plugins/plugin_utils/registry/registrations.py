# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From registrations to hosts: their variables, their names, and which registrations are one host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import InvalidEntry, Service, read

_PLAIN_NAME = re.compile(r"[^\W_][\w.-]{0,252}")
_HOST_NAME = re.compile(r"[\w:][\w.:%+-]{0,252}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Registration(NamedTuple):
    """One live entry of a registry: the name it goes by where nothing else is asked for, its group, its variables."""

    name: str
    group: str
    variables: dict[str, Any]


class Host(NamedTuple):
    """One host of the inventory; `groups` before they are made safe names."""

    name: str
    groups: list[str]
    variables: dict[str, Any]


def registrations(registry: Registry, reading: Reading, now: float) -> tuple[list[Registration], list[str]]:
    """What is alive in a registry, and a text for each child that can't be read. `now` is in seconds since 1970."""
    found, problems = [], list(reading.problems)
    for child in reading.children:
        try:
            service = read(registry.format, child.name, child.data)
        except InvalidEntry as exc:
            problems.append(f"{child.path}: left out, {exc}")
            continue
        if service.alive:
            group = registry.group_of(child.segments)
            found.append(Registration(_default_name(child, service), group, _variables(child, service, now)))
    return found, problems


def _default_name(child: Child, service: Service) -> str:
    plain = service.named and _PLAIN_NAME.fullmatch(child.name) and is_host_name(child.name, service.address)
    return child.name if plain else service.address


def _variables(child: Child, service: Service, now: float) -> dict[str, Any]:
    variables = {
        "ansible_host": service.address,
        "zk_address": service.address,
        "zk_port": service.port,
        "zk_id": child.name,
        "zk_path": child.path,
        "zk_service": service.data,
        "zk_ephemeral": child.owner != 0,
        "zk_session": f"0x{child.owner:x}",
        "zk_created": _moment(child.created),
        "zk_modified": _moment(child.modified),
        "zk_age": max(0, int(now - child.created / 1000)),
    }
    if child.segments:
        variables["zk_segments"] = list(child.segments)
    return variables


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_host_name(name: object, address: str) -> bool:
    """Whether Ansible may know a host with this address by `name`: no path, no pattern, no option, no template.

    `localhost` is the controller, for everything that is delegated to it, and so no name for another machine.
    """
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name):
        return False
    return name != "localhost" or address in _LOOPBACK


def merge(named: Iterable[tuple[str, Registration]]) -> tuple[list[Host], list[str]]:
    """Hosts from registrations with their names: the same name at the same address is one host, with all its groups.

    Where one name stands for several addresses, each is `name@address`, which nothing else can be; a text for each such
    name comes second.
    """
    entries = list(named)
    clashes = _clashes(entries)
    by_name: dict[str, list[Registration]] = {}
    for name, one in entries:
        by_name.setdefault(f"{name}@{_address(one)}" if name in clashes else name, []).append(one)
    problems = [
        f"{name}: {len(addresses)} addresses go by this name, so each is part of it, as in {name}@{min(addresses)}"
        for name, addresses in clashes.items()
    ]
    return [_host(name, ones) for name, ones in by_name.items()], problems


def _clashes(entries: Iterable[tuple[str, Registration]]) -> dict[str, set[str]]:
    """The names that stand for more than one address, and those."""
    addresses: dict[str, set[str]] = {}
    for name, one in entries:
        addresses.setdefault(name, set()).add(_address(one))
    return {name: found for name, found in addresses.items() if len(found) > 1}


def _address(one: Registration) -> str:
    address: str = one.variables["zk_address"]
    return address


def _host(name: str, ones: Sequence[Registration]) -> Host:
    services = [{key[3:]: value for key, value in one.variables.items() if key in _SERVICE_KEYS} for one in ones]
    return Host(name, list(dict.fromkeys(one.group for one in ones)), {**ones[0].variables, "zk_services": services})


_SERVICE_KEYS = frozenset({"zk_address", "zk_port", "zk_id", "zk_path", "zk_service"})
