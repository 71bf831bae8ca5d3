# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the children of a registry to registrations: what serves, under which name, and its variables."""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import Child, Reading, Registry
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import (
    Endpoint,
    InvalidEntry,
    elected_role,
    read,
)

_PLAIN_NAME = re.compile(r"[^\W_][\w.-]{0,252}")
_HOST_NAME = re.compile(r"[\w:][\w.:%+-]{0,252}")
_WITH_PORT = re.compile(r"[^:]+:\d{1,5}")
MAX_NAME_BYTES = 240
"""The files of a host's variables and facts have its name, followed by `.yml` or after `s1_`, in at most 255 bytes."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Registration(NamedTuple):
    """One live entry of a registry: its name by default, its group, its variables."""

    name: str
    group: str
    variables: dict[str, Any]


def registrations(registry: Registry, reading: Reading, now: float) -> tuple[list[Registration], list[str]]:
    """What is alive in a registry, and a message for each unreadable child. `now` is in seconds since 1970."""
    live, problems = [], list(reading.problems)
    for child in reading.children:
        try:
            endpoint = read(registry.format, child.name, child.data, registry.listener)
        except InvalidEntry as exc:
            problems.append(f"{child.path}: left out, {exc}")
            continue
        if endpoint.alive:
            group = registry.group_of(child.segments)
            variables = _variables(child, endpoint, now)
            role = _role(endpoint, child, reading.leaders.get(registry.leader_of(child.path) or ""))
            if role:
                variables["zk_role"] = role
            live.append(Registration(_default_name(child, endpoint), group, variables))
    return live, problems


def _role(endpoint: Endpoint, child: Child, leader: str | None) -> str:
    """From the cluster's leader znode if there is one, otherwise from the child itself."""
    return endpoint.role if leader is None else elected_role(endpoint.role, leads=leader == child.name)


def _default_name(child: Child, endpoint: Endpoint) -> str:
    plain = endpoint.names_host and _PLAIN_NAME.fullmatch(child.name) and is_host_name(child.name, endpoint.address)
    return child.name if plain else endpoint.address


def _variables(child: Child, endpoint: Endpoint, now: float) -> dict[str, Any]:
    variables = {
        "ansible_host": endpoint.address,
        "zk_address": endpoint.address,
        "zk_port": endpoint.port,
        "zk_id": child.name,
        "zk_path": child.path,
        "zk_service": endpoint.data,
        "zk_ephemeral": child.owner != 0,
        "zk_session": session_id(child.owner),
        "zk_created": _moment(child.created),
        "zk_modified": _moment(child.modified),
        "zk_age": max(0, int(now - child.created / 1000)),
    }
    if child.segments:
        variables["zk_segments"] = list(child.segments)
    return variables


def session_id(number: int) -> str:
    """A session's id as in ZooKeeper's own logs; `number` is negative if its server has an id over 127."""
    return f"0x{number & 0xFFFFFFFFFFFFFFFF:x}"


def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_host_name(name: object, address: str) -> bool:
    """Whether Ansible may know a host with this address by `name`: not a path, pattern, option or template.

    `localhost`, by any of its names, is the controller for everything that is delegated to it, so it can't name
    another machine.
    """
    if not isinstance(name, str) or not _HOST_NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        return False
    if ":" in name and not (_WITH_PORT.fullmatch(name) or _is_ipv6(name)):
        return False
    return name not in _LOOPBACK or address in _LOOPBACK


def _is_ipv6(name: str) -> bool:
    """Whether the colons in a name are those of an address; Ansible splits patterns at any others."""
    try:
        return ipaddress.ip_address(name).version == 6
    except ValueError:
        return False
