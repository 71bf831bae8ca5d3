# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of `zk_watch`, as a rulebook gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import host_string
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import InvalidRecord, check_path
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import InvalidRegistry, Registry
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.service_watch import ServiceWatch
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import Watch
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watches import ChildrenWatch, DataWatch, SubtreeWatch

WATCHED = ("data", "children", "subtrees", "registries", "session")
"""The options that say what is watched."""

_PATHS: dict[str, Callable[[str, bool, Callable[[str], None]], Watch]] = {
    "data": DataWatch,
    "children": ChildrenWatch,
    "subtrees": SubtreeWatch,
}
_SPEC: dict[str, dict[str, Any]] = {
    **ARGSPEC,
    **{name: {"type": "list", "elements": "str", "default": []} for name in _PATHS},
    "registries": {"type": "list", "elements": "raw", "default": []},
    "session": {"type": "bool", "default": False},
    "initial": {"type": "bool", "default": False},
    "settle": {"type": "float", "default": 0.0},
    "connection": {"type": "dict", "default": {}},
}


class InvalidOptions(ValueError):
    """An invalid option; the message names it."""


class Options(NamedTuple):
    """What is watched, and how to reach the ensemble (`ARGSPEC`)."""

    connection: dict[str, Any]
    watches: list[Watch]
    session: bool
    initial: bool


def read_options(args: Mapping[str, Any], warn: Callable[[str], None]) -> Options:
    """The options in a source's arguments. Raises `InvalidOptions`. `warn` is for what is left out later."""
    try:
        given = {name: value for name, value in _with_connection(args).items() if value is not None}
        checked = ArgumentSpecValidator(_SPEC).validate(given)
        if checked.error_messages:
            raise InvalidOptions("; ".join(checked.error_messages))
        options = checked.validated_parameters
        if not any(options[name] for name in WATCHED):
            raise InvalidOptions(f"nothing to watch: give at least one of {', '.join(WATCHED)}")
        host_string(options["hosts"])
        watches = [*_path_watches(options, warn), *_service_watches(options, warn)]
    except (InvalidRegistry, TypeError) as exc:
        raise InvalidOptions(f"{exc}") from exc
    return Options({name: options[name] for name in ARGSPEC}, watches, options["session"], options["initial"])


def _with_connection(args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, completed with those of `connection`."""
    further = args.get("connection") or {}
    if not isinstance(further, Mapping) or not further.keys() <= ARGSPEC.keys():
        raise InvalidOptions("connection: expected a mapping of connection options, such as tls and digest_username")
    own = {name: value for name, value in args.items() if name != "connection"}
    return {**further, **own}


def _path_watches(options: Mapping[str, Any], warn: Callable[[str], None]) -> list[Watch]:
    watches: list[Watch] = []
    for name, kind in _PATHS.items():
        for path in dict.fromkeys(options[name]):
            try:
                watches.append(kind(check_path(path), options["initial"], warn))
            except InvalidRecord as exc:
                raise InvalidOptions(f"{name}: {exc}") from exc
    return watches


def _service_watches(options: Mapping[str, Any], warn: Callable[[str], None]) -> list[Watch]:
    settle = options["settle"]
    if not 0 <= settle < math.inf:
        raise InvalidOptions(f"settle: expected seconds, 0 or more, got {settle:g}")
    if settle and not options["registries"]:
        raise InvalidOptions("settle: applies to services, and registries names none")
    registries = [Registry.from_option(entry) for entry in options["registries"]]
    return [ServiceWatch(registry, settle, options["initial"], warn) for registry in dict.fromkeys(registries)]
