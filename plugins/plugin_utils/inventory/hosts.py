# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From registrations to hosts: which of them are one host, and values that Ansible never takes for templates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import MAX_NAME_BYTES, Registration

try:
    from ansible.template import trust_as_template as _trust_as_template
except ImportError:  # ansible-core 2.18 and earlier
    _trust_as_template = None

CONTROLLER = "localhost"
"""The host that Ansible has without any inventory, for everything that a play does on the controller."""

CONTROLLER_NAMES = (CONTROLLER, "127.0.0.1", "::1")
"""The names that Ansible takes for that host unless a source has one of them."""
NO_ADDRESS = ""
"""Instead of an address among the taken names: the name is the controller's."""

_SERVICE_KEYS = frozenset({"zk_address", "zk_port", "zk_id", "zk_path", "zk_service", "zk_role"})
"""The variables of a registration that its entry in the host's `zk_services` has, without `zk_`."""

_MADE: WeakKeyDictionary[Any, tuple[str, Any]] = WeakKeyDictionary()
"""Where each host from files of this plugin is registered, and the `ansible_host` that `compose` left it."""


class Host(NamedTuple):
    """One host of the inventory; `groups` before they are made safe names."""

    name: str
    groups: list[str]
    variables: dict[str, Any]


def merge(named: Iterable[tuple[str, Registration]], taken: Mapping[str, str | None]) -> tuple[list[Host], list[str]]:
    """Hosts from registrations with their names: the same name at the same address is one host, with all its groups.

    `taken` are names that already mean something: a group (None), a host of another source or file (its address), or
    the controller (`NO_ADDRESS`). If such a name, or one name in the entries, means several things, each host is
    `name@address`, with the address repeated if that is taken too. The second value has a message for each such name.
    No host's name has more than `MAX_NAME_BYTES`.
    """
    entries = list(named)
    clashes = dict(_clashes(entries, taken))
    by_name: dict[str, list[Registration]] = {}
    for name, registration in entries:
        address = _address(registration)
        unique = _unique(name, address, taken)
        is_unique = taken.get(unique) == address or (name in clashes and taken.get(name) != address)
        by_name.setdefault(unique if is_unique else _fitting(name), []).append(registration)
    return [_host(name, registrations) for name, registrations in by_name.items()], list(clashes.values())


def registered_as(named: Iterable[tuple[str, Registration]], known: Mapping[str, str]) -> dict[str, str]:
    """The known hosts, with their addresses, that the entries are about: nothing needs to be replaced."""
    own = {
        (one, _address(entry)) for name, entry in named for one in (_fitting(name), _unique(name, _address(entry), {}))
    }
    return {name: address for name, address in known.items() if (name, address) in own}


def _clashes(entries: Iterable[tuple[str, Registration]], taken: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """The names that mean several things, and a message for each."""
    by_name: dict[str, set[str]] = {}
    for name, registration in entries:
        by_name.setdefault(name, set()).add(_address(registration))
    for name, addresses in by_name.items():
        unique = _unique(name, min(addresses), taken)
        if name in taken and taken[name] is None:
            yield name, f"{name}: a group has this name, so the host is {unique}"
        elif name in taken and taken[name] == NO_ADDRESS:
            whose = "that is Ansible's name for the controller"
            yield name, f"{name}: {whose}, so the host is {unique}; override_hosts has it replaced"
        elif name in taken and addresses != {taken[name]}:
            other = f"another source has a host of this name, at {taken[name]}"
            unique = _unique(name, min(addresses - {taken[name]}), taken)
            advice = "; override_hosts has it replaced" if len(addresses) == 1 else ""
            yield name, f"{name}: {other}, so this one is {unique}{advice}"
        elif len(addresses) > 1:
            yield name, f"{name}: {len(addresses)} addresses have this name, so each is part of it, as in {unique}"


def _unique(name: str, address: str, taken: Mapping[str, str | None]) -> str:
    """The host's name if `name` means several things: nothing else has this one."""
    unique = _fitting(f"{name}@{address}")
    return unique if taken.get(unique, address) == address else _unique(unique, address, taken)


def _fitting(name: str) -> str:
    """A name that fits into the names of Ansible's files: the beginning of a longer one, and a digest of the whole."""
    whole = name.encode()
    if len(whole) <= MAX_NAME_BYTES:
        return name
    end = f"@{hashlib.sha256(whole).hexdigest()[:16]}"
    return whole[: MAX_NAME_BYTES - len(end)].decode(errors="ignore") + end


def _address(registration: Registration) -> str:
    address: str = registration.variables["zk_address"]
    return address


def _host(name: str, registrations: Sequence[Registration]) -> Host:
    services: dict[tuple[Any, Any], dict[str, Any]] = {}
    for registration in registrations:  # a registry that is named twice has each of its znodes twice
        service = {key[3:]: value for key, value in registration.variables.items() if key in _SERVICE_KEYS}
        services.setdefault((service["path"], service["port"]), service)
    groups = list(dict.fromkeys(registration.group for registration in registrations))
    variables: dict[str, Any] = {}
    for registration in registrations:  # the first one wins; variables that only another has are added
        variables = {**registration.variables, **variables}
    return Host(name, groups, {**variables, "zk_services": list(services.values())})


def with_services_of(earlier: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """A host's variables, preceded in `zk_services` by what another file found registered at this address."""
    services = variables["zk_services"]
    own = {service["path"]: service for service in services}
    found = [one for one in earlier if isinstance(one, Mapping)] if isinstance(earlier, list) else []
    others = [one for one in found if one.get("address") == variables["zk_address"] and own.get(one.get("path")) != one]
    return {**variables, "zk_services": [*others, *services]}


def note_made(registered: Mapping[Any, str]) -> None:
    """Remember these hosts, with where they are registered, as a file of this plugin has left them."""
    _MADE.update({host: (address, host.vars.get("ansible_host")) for host, address in registered.items()})


def known_address(host: Any) -> str:
    """Where a host of the inventory is: at its address for Ansible, which another source may have set.

    As long as that is what a file of this plugin left, with what it composes, the host is where it is registered.
    """
    registered, left = _MADE.get(host, ("", None))
    address = host.vars.get("ansible_host")
    # Another source may have set an equal value.
    return registered if registered and address is left else str(host.name if address is None else address)


def untrusted(value: Any) -> Any:
    """`value`, marked unsafe up to ansible-core 2.18; since 2.19 only what is marked as a template is one."""
    if _trust_as_template is not None:
        return value
    from ansible.utils.unsafe_proxy import wrap_var  # noqa: PLC0415 - deprecated where it isn't needed

    return wrap_var(value)


def unused_group_name(name: str, inventory: Any) -> str:
    """A group's name, with underscores appended as long as a host has it and no group does.

    The controller always has its name: a play for it would become one for the group's hosts.
    """
    while name == CONTROLLER or (name in inventory.hosts and name not in inventory.groups):
        name += "_"
    return name
