# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of `files` in the configuration: which znode is kept as which file of this host."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from zoo_watcher.wire.records import AGENT_DIRECTORY
from zoo_watcher.wire.znode_names import check_path, has_control, quote

from .object_reader import ObjectReader, command_words, nameable, unit_names

FORMATS = ("value", "directory", "json", "yaml", "properties", "env")
MODE = re.compile(r"0?[0-7]{3}")
LONGEST_INTERVAL = 86_400.0
"""Seconds that two actions may be kept apart."""
MOST_FILES = 1_000
"""Entries of one agent: what is said of each has room in the agent's status."""


@dataclass(frozen=True)
class ManagedFile:
    """What `znode` holds is kept at `dest`. `owner` and `group` are names, None where the file is just the agent's."""

    znode: str
    dest: str
    format: str = "value"
    owner: str | None = None
    group: str | None = None
    mode: int = 0o644
    validate: tuple[str, ...] = ()
    restart_units: tuple[str, ...] = ()
    on_change: tuple[str, ...] = ()
    on_delete: str = "keep"
    min_interval: float = 0.0

    @property
    def is_subtree(self) -> bool:
        """Whether all that is below the znode counts, and not its value alone."""
        return self.format != "value"

    def concerns(self, path: str) -> bool:
        """Whether the znode at `path` counts for this file."""
        return path == self.znode or (self.is_subtree and path.startswith(f"{self.znode.rstrip('/')}/"))


def managed_files(keys: ObjectReader, base: str, status: str) -> tuple[ManagedFile, ...]:
    """What is listed under `files`; `status` is the path of this agent's status."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and len(value) <= MOST_FILES and all(isinstance(one, dict) for one in value)

    listed = keys.take("files", f"a list of at most {MOST_FILES} objects", fits, [])
    files: list[ManagedFile] = []
    for number, found in enumerate(listed):
        inner = ObjectReader(found, f"files[{number}].", keys.mistakes)
        kept = _kept_file(inner)
        _check_place(inner, kept, base, status)
        _check_alone(inner, kept, files)
        files.append(kept)
    return tuple(files)


def _kept_file(keys: ObjectReader) -> ManagedFile:
    missing = [key for key in ("znode", "dest") if keys.left.get(key) is None]
    for key in missing:
        keys.wrong(key, "missing")
    kept = ManagedFile(
        znode=keys.checked("znode", keys.text("znode", "/"), check_path),
        dest=keys.text("dest", ""),
        format=keys.choice("format", FORMATS, "value"),
        owner=keys.text("owner"),
        group=keys.text("group"),
        mode=_mode(keys),
        validate=command_words(keys, "validate"),
        restart_units=unit_names(keys),
        on_change=command_words(keys, "on_change"),
        on_delete=keys.choice("on_delete", ("keep", "remove"), "keep"),
        min_interval=keys.seconds("min_interval", 0, LONGEST_INTERVAL, 0.0),
    )
    if kept.validate and not any("%s" in word for word in kept.validate):
        keys.wrong("validate", "expected %s in it, where the path of the new file goes")
    keys.reject_unknown()
    return kept


def _mode(keys: ObjectReader) -> int:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and bool(MODE.fullmatch(value))

    return int(keys.take("mode", 'permissions as a text such as "0640"', fits, "0644"), 8)


def _check_place(keys: ObjectReader, kept: ManagedFile, base: str, status: str) -> None:
    """`dest` can be a file's path, and is not the agent's own; `znode` is not what the agent itself writes."""
    dest = kept.dest
    if dest and (not _is_place(dest) or not nameable(dest)):
        keys.wrong("dest", f"expected an absolute, normalised path with no control character, got {quote(dest)}")
    own = os.path.join(base, AGENT_DIRECTORY)
    if _is_within(dest, own) or (kept.format == "directory" and dest and _is_within(own, dest)):
        keys.wrong("dest", f"{own} is the agent's own directory, got {quote(dest)}")
    if kept.concerns(status):
        keys.wrong("znode", f"{quote(kept.znode)} holds this agent's own status, which changes with each file")


def _is_place(dest: str) -> bool:
    return os.path.isabs(dest) and os.path.normpath(dest) == dest and dest.strip("/") != "" and not has_control(dest)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _check_alone(keys: ObjectReader, kept: ManagedFile, earlier: list[ManagedFile]) -> None:
    """No file is in the place of another, or in the directory that another makes."""
    for other in earlier if kept.dest else ():
        if kept.dest == other.dest:
            keys.wrong("dest", f"{quote(kept.dest)} is the dest of another file too")
        elif _is_within(kept.dest, other.dest) or _is_within(other.dest, kept.dest):
            keys.wrong("dest", f"one of {quote(kept.dest)} and {quote(other.dest)} is in the other; part them")
