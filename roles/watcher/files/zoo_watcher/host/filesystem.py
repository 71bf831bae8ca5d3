# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories that are written whole, made durable, removed, and read back."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, TypeVar

from zoo_watcher.errors import DeployError, PassingError

from . import linux

T = TypeVar("T")

MAY_PASS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY),
}
"""What a full or broken disk, or a host that is short of something, gives: it may be otherwise the next time."""


def load_json(path: Path, build: Callable[[Any], T], fallback: T) -> T:
    """What `build` makes of a file's JSON; `fallback` where it can't be read or is of another form.

    For what the agent has written down for itself: it can do without. `build` may raise what a wrong form brings about.
    """
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, OverflowError, AttributeError, TypeError, KeyError, RecursionError):
        return fallback


def write_whole(path: Path, text: str) -> None:
    """Replace a file's text: a reader sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def write_durably(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's text: a reader, also after a crash, sees the old or the new one. Raises `OSError`."""
    beside = path.with_name(f".new.{path.name}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    # As the file system names them: a path in it need not be UTF-8.
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(os.fsencode(text))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    sync_directory(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory or file, whatever its contents' modes; what can't be removed stays for the next time."""
    if path.is_symlink() or not path.is_dir():
        with contextlib.suppress(OSError):
            path.unlink()
        return
    shutil.rmtree(path, ignore_errors=True)


def sync_directory(path: Path) -> None:
    """Make a directory's entries durable."""
    with open_directory(path) as descriptor:
        os.fsync(descriptor)


def sync_file_system(path: Path) -> None:
    """Make all that was written to the file system of the directory `path` durable, in one call. Raises `OSError`."""
    with open_directory(path) as descriptor:
        linux.sync_file_system(descriptor, path)


@contextlib.contextmanager
def open_directory(path: Path | str) -> Iterator[int]:
    """A directory's descriptor, for as long as the block lasts. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn an `OSError` into a `DeployError`, or `PassingError`, that says what was being done, and where."""
    try:
        yield
    except OSError as exc:
        where = f" {exc.filename}" if exc.filename else ""
        kind = PassingError if exc.errno in MAY_PASS else DeployError
        raise kind(f"{doing}:{where} {exc.strerror or exc}") from exc
