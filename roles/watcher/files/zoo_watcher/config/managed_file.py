# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of `files` in the configuration: which file of this host is rendered from which znode."""

from __future__ import annotations

import os
import re

from zoo_watcher.frozen import dataclass
from zoo_watcher.wire.records import AGENT_DIRECTORY
from zoo_watcher.wire.znode_names import check_path, has_control, quote

from .object_reader import ObjectReader, command_words, nameable, unit_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("value", "directory", "json", "yaml", "properties", "env")
MODE = re.compile(r"0?[0-7]{3}")
LONGEST_INTERVAL = 86_400.0
"""The longest minimum interval between two runs of an action, in seconds."""
MAX_FILES = 1_000
"""The most entries of one agent: each takes room in the agent's status."""


@dataclass(frozen=True)
class ManagedFile:
    """The file `dest` is rendered from `znode`. `owner` and `group` are names, None for the agent's own."""

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
        """Whether it is rendered from all znodes below `znode`, and not only from its own value."""
        return self.format != "value"

    def concerns(self, path: str) -> bool:
        """Whether the file is rendered from the znode `path`, among others."""
        return path == self.znode or (self.is_subtree and path.startswith(f"{self.znode.rstrip('/')}/"))


def managed_files(reader: ObjectReader, base: str, status: str) -> tuple[ManagedFile, ...]:
    """The entries of `files`; `status` is the path of this agent's status."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and len(value) <= MAX_FILES and all(isinstance(entry, dict) for entry in value)

    entries = reader.take("files", f"a list of at most {MAX_FILES} objects", fits, [])
    files: list[ManagedFile] = []
    for number, entry in enumerate(entries):
        inner = ObjectReader(entry, f"files[{number}].", reader.mistakes)
        file = _managed_file(inner)
        _check_place(inner, file, base, status)
        _check_overlap(inner, file, files)
        files.append(file)
    return tuple(files)


def _managed_file(reader: ObjectReader) -> ManagedFile:
    missing = [key for key in ("znode", "dest") if reader.left.get(key) is None]
    for key in missing:
        reader.wrong(key, "missing")
    file = ManagedFile(
        znode=reader.checked("znode", reader.text("znode", "/"), check_path),
        dest=reader.text("dest", ""),
        format=reader.choice("format", FORMATS, "value"),
        owner=reader.text("owner"),
        group=reader.text("group"),
        mode=_mode(reader),
        validate=command_words(reader, "validate"),
        restart_units=unit_names(reader),
        on_change=command_words(reader, "on_change"),
        on_delete=reader.choice("on_delete", ("keep", "remove"), "keep"),
        min_interval=reader.seconds("min_interval", 0, LONGEST_INTERVAL, 0.0),
    )
    if file.validate and not any("%s" in word for word in file.validate):
        reader.wrong("validate", "expected %s in it, which stands for the path of the new file")
    reader.reject_unknown()
    return file


def _mode(reader: ObjectReader) -> int:
    def fits(value: Any) -> bool:
        return isinstance(value, str) and bool(MODE.fullmatch(value))

    return int(reader.take("mode", 'permissions as a string such as "0640"', fits, "0644"), 8)


def _check_place(reader: ObjectReader, file: ManagedFile, base: str, status: str) -> None:
    """Note a `dest` that can't be a file's path, or is the agent's own, and a `znode` that the agent itself writes."""
    dest = file.dest
    if dest and (not _is_place(dest) or not nameable(dest)):
        reader.wrong("dest", f"expected an absolute, normalised path with no control character, got {quote(dest)}")
    own, place = os.path.join(_normalised(base), AGENT_DIRECTORY), _normalised(dest)
    if _is_within(place, own) or (file.format == "directory" and dest and _is_within(own, place)):
        reader.wrong("dest", f"{own} is the agent's own directory, got {quote(dest)}")
    if file.concerns(status):
        reader.wrong("znode", f"{quote(file.znode)} holds this agent's own status, which changes with each file")


def _normalised(path: str) -> str:
    """The path with one slash at its beginning, where Python would leave two."""
    return f"/{os.path.normpath(path).lstrip('/')}"


def _is_place(dest: str) -> bool:
    return os.path.isabs(dest) and os.path.normpath(dest) == dest and dest.strip("/") != "" and not has_control(dest)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _check_overlap(reader: ObjectReader, file: ManagedFile, earlier: list[ManagedFile]) -> None:
    """Note a file with the path of another, or in the directory that another creates."""
    for other in earlier if file.dest else ():
        if file.dest == other.dest:
            reader.wrong("dest", f"{quote(file.dest)} is the dest of another file too")
        elif _is_within(file.dest, other.dest) or _is_within(other.dest, file.dest):
            reader.wrong("dest", f"one of {quote(file.dest)} and {quote(other.dest)} is in the other: separate them")
