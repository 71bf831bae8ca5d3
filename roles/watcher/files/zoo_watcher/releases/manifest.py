# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a complete release directory was made of: it shows that a release is complete and unmodified, without git.

A manifest is a JSON object: `shared`, the shared paths that are linked into the release, `signers`, whose signature
was demanded when it was verified (null if none was), and `files`, for each file and symlink below it
`[mode, size, mtime in nanoseconds]` by its path. A change in an inode's number of links changes its ctime,
so that is not compared.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zoo_watcher.frozen import dataclass
from zoo_watcher.host.filesystem import MAY_PASS, read_json, write_durably

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Facts = tuple[int, int, int]
"""Of a file or symlink: mode, size in bytes, mtime in nanoseconds."""


@dataclass(frozen=True)
class Manifest:
    """The files of one release, by path relative to it."""

    files: dict[str, Facts]
    shared: tuple[str, ...] = ()
    signers: str | None = None

    @classmethod
    def of(cls, root: Path, shared: Sequence[str] = (), signers: str | None = None) -> Manifest:
        """What is below `root` now. Raises `OSError`."""
        return cls(look(root), tuple(shared), signers)

    @classmethod
    def load(cls, path: Path) -> Manifest | None:
        """The manifest in a file; None if there is none. Raises `OSError` if it can't be read now."""
        return read_json(path, cls._from_object, None)

    @classmethod
    def _from_object(cls, record: Mapping[str, Any]) -> Manifest:
        files = {name: (int(mode), int(size), int(time)) for name, (mode, size, time) in record["files"].items()}
        return cls(files, tuple(record["shared"]), record.get("signers"))

    def save(self, path: Path) -> None:
        """Write the manifest, durably. Raises `OSError`."""
        write_durably(path, json.dumps({"shared": self.shared, "signers": self.signers, "files": self.files}))

    def matches(self, root: Path) -> bool:
        """Whether `root` contains exactly what the manifest lists, unmodified. Raises `OSError` for what may pass."""
        left = dict(self.files)
        try:
            found = ((path, facts_of(entry.stat(follow_symlinks=False))) for path, entry in walk(root))
            return all(left.pop(path, None) == facts for path, facts in found) and not left
        except OSError as exc:
            if exc.errno in MAY_PASS:
                raise
            return False


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file and symlink below `root`, with its path relative to it; directories are passed through."""
    pending = [""]
    while pending:
        directory = pending.pop()
        with os.scandir(root / directory) as entries:
            for entry in entries:
                path = f"{directory}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/")
                else:
                    yield path, entry


def look(root: Path) -> dict[str, Facts]:
    """What is below `root` now, by path. Raises `OSError`."""
    return {path: facts_of(entry.stat(follow_symlinks=False)) for path, entry in walk(root)}


def facts_of(found: os.stat_result) -> Facts:
    """What a manifest says about a file or symlink."""
    mode = found.st_mode
    # A symlink's own mode means nothing.
    return (stat.S_IFMT(mode) if stat.S_ISLNK(mode) else mode, found.st_size, found.st_mtime_ns)
