# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a directory of files, or from nested dictionaries, to entries for `zk_znode`'s option `znodes`.

The name of a file, a directory or a key is the name of a znode. All errors are `InvalidRecord`s that say where.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable

from ansible.plugins.test.core import vault_encrypted

from ansible_collections.zoo.deploy.plugins.module_utils.records import OWN, AppPaths, whose
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import (
    InvalidRecord,
    ancestors,
    check_node_name,
    child,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.content import Content, check_json

LEFT_OUT = frozenset({".git"})
"""Names in a directory that are not part of a configuration."""

MAX_BYTES = 1_400_000
"""More base64 than 1,040,000 bytes, the most in one transaction, encode to; `zk_znode` itself counts exactly."""

Entry = dict[str, Any]

_KEPT = re.compile(r"/(?:(history)/release-\d{10}|(rollouts)/\d+|(bad)/[0-9a-f]{40,64})\Z")
"""What an application keeps of its publications."""

_ONLY_VALUES = "so nothing is deleted; take a path that has only values"


def check_place(path: str, app: str) -> None:
    """Raise `InvalidRecord` if a configuration would be in the way of an application's own znodes."""
    taken = whose(AppPaths(app), path)
    if taken:
        raise InvalidRecord(f"path: {taken}; take another, such as /config/shop")


def from_directory(path: str, directory: str, read: Callable[[str], Content]) -> list[Entry]:
    """The files of `directory` as znodes below `path`; an empty one is an empty znode. `read` gives a file's bytes."""
    if not os.path.isdir(directory):
        raise InvalidRecord(f"{directory}: no such directory")
    return _collect(_files(path, directory, read), directory)


def _files(path: str, directory: str, read: Callable[[str], Content]) -> Iterator[Entry]:
    """The entries of one directory and those below it."""
    try:
        files = sorted(
            (file for file in os.scandir(directory) if file.name not in LEFT_OUT), key=lambda file: file.name
        )
    except OSError as exc:
        raise InvalidRecord(f"{directory}: {exc.strerror}") from exc
    for file in files:
        znode = child(path, check_node_name(file.name, directory))
        if file.is_dir(follow_symlinks=False):
            yield from _or_empty(znode, _files(znode, file.path, read))
        elif file.is_file():
            yield {"path": znode, **read(file.path).options()}
        else:
            raise InvalidRecord(
                f"{file.path}: expected a file or a directory, not a link to a directory or to nothing, a pipe, ..."
            )


def from_values(path: str, values: Any) -> list[Entry]:
    """The keys of `values` as znodes below `path`, nested dictionaries as deeper ones; null is an empty znode."""
    if not isinstance(values, Mapping):
        raise InvalidRecord(f"values for {path}: expected a dictionary")
    return _collect(_items(path, values), path)


def _items(path: str, values: Mapping[Any, Any]) -> Iterator[Entry]:
    for key, value in values.items():
        check_json({key: None}, path)
        znode = child(path, check_node_name(key, path))
        if isinstance(value, Mapping):
            yield from _or_empty(znode, _items(znode, value))
            continue
        check_json(value, znode)
        if _is_secret(value):
            is_list = isinstance(value, (list, tuple))
            text = json.dumps(value, ensure_ascii=False, default=str) if is_list else str(value)
            yield {"path": znode, **Content(text.encode("utf-8", "surrogateescape"), secret=True).options()}
        else:
            yield {"path": znode, "value": "" if value is None else value}


def _is_secret(value: Any) -> bool:
    """Whether it, or something in it, is encrypted by Ansible Vault (`!vault`)."""
    if isinstance(value, Mapping):
        return any(map(_is_secret, value.values()))
    if isinstance(value, (list, tuple)):  # a filter such as zip creates tuples
        return any(map(_is_secret, value))
    return bool(vault_encrypted(value))


def _or_empty(path: str, inside: Iterator[Entry]) -> Iterator[Entry]:
    """What is below a znode, or else the znode itself, emptied: its former value may be a secret."""
    yield next(inside, {"path": path, "secret_value": ""})
    yield from inside


def _collect(entries: Iterable[Entry], source: str) -> list[Entry]:
    """All the entries. Stops at the first too many: by mistake, the directory may be a whole disk."""
    collected, size = [], 0
    for entry in entries:
        collected.append(entry)
        size += sum(len(str(entry.get(option, ""))) for option in ("path", "value", "secret_value"))
        if size > MAX_BYTES:
            raise InvalidRecord(
                f"{source}: over the 1 MB of one transaction; publish its directories each below a path of its own"
            )
    if not collected:
        raise InvalidRecord(f"{source}: there is nothing in it to publish")
    return collected


def deletions(entries: Iterable[Entry], there: Iterable[str | Mapping[str, Any]]) -> list[Entry]:
    """Entries that delete what is in `there` and neither in `entries` nor above one of them, each subtree by its top.

    A value that has become a dictionary is emptied; whether it was a secret is not known here. `there` are paths, or
    znodes as `zk_znode_info` returns them, all below the configuration's own. Raises `InvalidRecord` if one of them
    does not belong to a configuration: it is a live registration or status, or was published once. A name such as
    policy or lock does not tell whose znode it is, so that is refused too.
    """
    entries = list(entries)
    above = {path for entry in entries for path in ancestors(entry["path"])}
    values = {entry["path"] for entry in entries}
    znodes: list[Mapping[str, Any]] = [{"path": one} if isinstance(one, str) else one for one in there]
    surplus = {one["path"] for one in znodes} - values - above
    for one in znodes:
        why = _why_kept(one) if one["path"] in surplus else ""
        if why:
            raise InvalidRecord(f"{one['path']} {why}")
    tops = sorted(path for path in surplus if not surplus.intersection(ancestors(path)))
    filled = {one["path"] for one in znodes if one.get("stat", {}).get("data_length")}
    emptied = sorted(filled.intersection(above) - values)
    return [
        *({"path": path, "secret_value": ""} for path in emptied),
        *({"path": path, "state": "absent", "recursive": True} for path in tops),
    ]


def _why_kept(znode: Mapping[str, Any]) -> str:
    """Why a znode is kept that does not, or may not, come from a configuration; empty for any other."""
    if znode.get("stat", {}).get("ephemeral_owner"):
        return f"is ephemeral, a registration or a status of somebody who lives, {_ONLY_VALUES}"
    found = _KEPT.search(znode["path"])
    if found:
        return f"is in the {found[found.lastindex or 0]} of an application, {_ONLY_VALUES}"
    name = znode["path"].rpartition("/")[2]
    if name in OWN:
        by_hand = "or, where it is none, delete it by zk_znode first"
        return f"may be the {name} of an application, {_ONLY_VALUES}, {by_hand}"
    return ""
