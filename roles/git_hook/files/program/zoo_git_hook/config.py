# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's configuration: a JSON object, written by the role.

Nothing is taken from the environment, which the person pushing may be able to influence: with another `ZK_HOSTS`, they
could make the hook send its password to a server of theirs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .connection import (
    CONNECTION_OPTIONS,
    MOST,
    MOST_TO_CONNECT,
    ZooKeeperError,
    check_tls_is_on,
    host_string,
)
from .fleet import SHARES, WAITING_OPTIONS
from .records import AppPaths, check_published_url, check_relative_path
from .release_signing import SIGNING_OPTIONS, check_signing
from .shares import parse_share
from .znode_names import InvalidRecord, quote
from .znode_values import ACL_SPEC, PERMISSIONS, read_acl

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    **CONNECTION_OPTIONS,
    "wait": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "pushers": {"type": "path"},
    **WAITING_OPTIONS,
    **SIGNING_OPTIONS,
}
"""Options for connecting, publishing, waiting and signing, as in the modules; `pushers` is the hook's own."""
KINDS: Mapping[str, tuple[str, Any]] = {
    "str": ("a text", str),
    "path": ("a path", str),
    "bool": ("true or false", bool),
    "float": ("a number", (int, float)),
    "list": ("a list of strings", list),
}
TARGET_KEYS = ("branch", "app", "relative_path")


class HookConfigError(Exception):
    """The configuration can't be used; the message is one line that names each mistake."""


@dataclass(frozen=True)
class Target:
    """Where a branch's commits go: an application, and the place below each server's base."""

    branch: str
    app: AppPaths
    relative_path: str


@dataclass(frozen=True)
class HookConfig:
    """`url` is the repository's address for the servers, `options` are `OPTIONS`, each with its value or default.

    `acl` is the ACL of new znodes if nothing else says who may use them; None for the connection's own rule.
    """

    url: str
    targets: tuple[Target, ...]
    options: Mapping[str, Any]
    acl: Any = None

    @classmethod
    def load(cls, path: str) -> HookConfig:
        """The configuration in a file. Raises `HookConfigError`."""
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
        except OSError as exc:
            raise HookConfigError(
                f"{path}: {exc.strerror}; only the repository's owner may push where it publishes"
            ) from exc
        except (ValueError, RecursionError) as exc:
            raise HookConfigError(f"{path}: not JSON: {exc}") from exc
        problems = list(_problems(content)) if isinstance(content, dict) else ["expected a JSON object"]
        if problems:
            raise HookConfigError(f"{path}: {'; '.join(problems)}")
        defaults = {name: spec.get("default") for name, spec in OPTIONS.items()}
        options = {**defaults, **{name: value for name, value in content.items() if name in OPTIONS}}
        acl = read_acl(content["acl"], options, "configuration") if "acl" in content else None
        return cls(content["url"], tuple(map(_target, content["branches"])), options, acl)

    @property
    def force(self) -> bool:
        """Whether a commit is published even if it is already the desired one."""
        return bool(self.options["force"])


def _problems(content: dict[str, Any]) -> Iterator[str]:
    for name in sorted(set(content) - {*OPTIONS, "url", "branches", "acl"}):
        yield f"{name}: no such key"
    for name, value in content.items():
        if name in SHARES:
            yield from (f"{name}: {problem}" for problem in _refused(lambda: parse_share(value)))  # noqa: B023  # used at once
        elif name in OPTIONS:
            yield from _option_problems(name, value, OPTIONS[name])
    yield from _refused(lambda: check_published_url(content.get("url")))
    if content.get("hosts", []) == []:
        yield "hosts: none given"
    elif isinstance(content["hosts"], list):
        yield from _refused(lambda: host_string(content["hosts"]))
    yield from _refused(lambda: check_tls_is_on(content))
    signing = {name: content.get(name) for name in SIGNING_OPTIONS}
    if all(value is None or _is_of(value, KINDS[SIGNING_OPTIONS[name]["type"]][1]) for name, value in signing.items()):
        yield from _refused(lambda: check_signing(signing))
    if isinstance(content.get("pushers"), str) and not os.path.isfile(content["pushers"]):
        yield f"pushers: no file at {quote(content['pushers'])}"
    yield from _branch_problems(content.get("branches"))
    if "acl" in content:
        yield from _acl_problems(content["acl"], content)


def _option_problems(name: str, value: Any, spec: Mapping[str, Any]) -> Iterator[str]:
    wanted, kind = KINDS[spec["type"]]
    most = MOST_TO_CONNECT if name == "connect_timeout" else MOST
    if not _is_of(value, kind):
        # A password is of this kind too.
        yield f"{name}: expected {wanted}" + ("" if spec.get("no_log") else f", got {quote(value)}")
    elif "choices" in spec and value not in spec["choices"]:
        yield f"{name}: expected one of {', '.join(spec['choices'])}, got {quote(value)}"
    elif kind == (int, float) and name not in SIGNING_OPTIONS and not 0 < value <= most:  # so that NaN is refused
        yield f"{name}: expected more than 0 and at most {most:.0f} seconds, got {quote(value)}"


def _is_of(value: Any, kind: Any) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _branch_problems(branches: Any) -> Iterator[str]:
    if not isinstance(branches, list) or not branches:
        yield f"branches: expected a list of objects with {', '.join(TARGET_KEYS)}, got {quote(branches)}"
        return
    apps: set[str] = set()
    for index, entry in enumerate(branches):
        where = f"branches[{index}]"
        if not isinstance(entry, dict) or sorted(entry) != sorted(TARGET_KEYS):
            yield f"{where}: expected an object with {', '.join(TARGET_KEYS)}, got {quote(entry)}"
            continue
        if not isinstance(entry["branch"], str) or not entry["branch"] or entry["branch"].startswith(("-", "refs/")):
            yield f"{where}: branch: expected a branch's name such as main, got {quote(entry['branch'])}"
        yield from (f"{where}: {problem}" for problem in _refused(lambda: _target(entry)))  # noqa: B023  # used at once
        if quote(entry["app"]) in apps:
            yield f"{where}: app: {quote(entry['app'])} is published by another entry already"
        apps.add(quote(entry["app"]))


def _acl_problems(acl: Any, content: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with it; values are not shown, since they may be passwords."""
    shape = "acl: expected a list of objects with scheme, perms, and as the scheme takes it id or password, all strings"
    if not isinstance(acl, list) or not all(isinstance(entry, dict) and _is_entry(entry) for entry in acl):
        yield f"{shape}; perms a list of {', '.join([*PERMISSIONS, 'all'])}"
    else:
        yield from _refused(lambda: read_acl(acl, content, "configuration"))


def _is_entry(entry: Mapping[str, Any]) -> bool:
    perms = entry.get("perms")
    texts = [value for key, value in entry.items() if key != "perms"]
    return (
        {"scheme", "perms"} <= set(entry) <= set(ACL_SPEC)
        and all(isinstance(text, str) for text in texts)
        and isinstance(perms, list)
        and all(isinstance(one, str) and one in (*PERMISSIONS, "all") for one in perms)
    )


def _target(entry: Mapping[str, Any]) -> Target:
    if not isinstance(entry["app"], str):
        raise InvalidRecord(f"app: expected a znode's path, got {quote(entry['app'])}")
    return Target(entry["branch"], AppPaths(entry["app"]), check_relative_path(entry["relative_path"]))


def _refused(check: Any) -> Iterator[str]:
    try:
        check()
    except (InvalidRecord, ZooKeeperError) as exc:
        yield str(exc)
