# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release is live: what the symlink at the release's place points at, and nothing else."""

from __future__ import annotations

import os
import stat
from collections import deque
from pathlib import Path

from zoo_watcher.errors import DeployError
from zoo_watcher.host.filesystem import MAY_PASS, REFUSED, disk_errors, make_directory, remove_tree, sync_directory
from zoo_watcher.host.layout import PRIVATE, READABLE, Layout
from zoo_watcher.wire.records import COMMIT_ID

MOST_ENTRIES = 100_000
"""How many entries below the base are searched for symlinks, the nearest first: it may contain other files as well."""


def live_commit(layout: Layout, relative_path: str) -> str | None:
    """The commit whose complete release directory is live at `relative_path`; None if it is not one of ours.

    Raises `OSError` for what may pass: what is live there can't be told now.
    """
    return _commit_behind(layout, layout.place(relative_path))


def check_visible(layout: Layout, relative_path: str, commit_id: str) -> None:
    """Raises `OSError` if a place, or a release, may not be looked at: then what is live can't be told.

    Somebody else's symlink, which may lead where this user has no access, is not followed.
    """
    try:
        os.readlink(layout.place(relative_path))
        os.stat(layout.release(commit_id))
    except OSError as exc:
        if exc.errno in REFUSED:
            raise


def _commit_behind(layout: Layout, link: Path) -> str | None:
    try:
        target = link.parent / os.readlink(link)
        if not COMMIT_ID.fullmatch(target.name) or not os.path.samefile(target.parent, layout.releases):
            return None
        return target.name if stat.S_ISDIR(os.stat(layout.release(target.name)).st_mode) else None
    except OSError as exc:
        if exc.errno in MAY_PASS:
            raise
        return None


def linked_commits(layout: Layout) -> set[str]:
    """The commits that symlinks below the base lead to, whoever created them; at most `MOST_ENTRIES` are looked at.

    Raises `OSError` for what may pass.
    """
    found = set()
    left = deque([layout.base])
    entries = 0
    while left and entries < MOST_ENTRIES:
        for entry in _entries(left.popleft()):
            entries += 1
            if entry.is_symlink():
                found.add(_commit_behind(layout, Path(entry.path)))
            elif entry.path != str(layout.own) and entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
    return {commit_id for commit_id in found if commit_id}


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    """The entries of a directory that may be read, else none. Raises `OSError` for what may pass."""
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as exc:
        if exc.errno in MAY_PASS:
            raise
        return []


def activate(layout: Layout, relative_path: str, commit_id: str) -> None:
    """Make a complete release live: at every instant, either the old one or this one is. Raises `DeployError`."""
    check_complete(layout, commit_id)
    with disk_errors(f"activating {relative_path}"):
        place = layout.place(relative_path)
        _make_parents(layout, place)
        _check_free(place)
        _put_link(layout, place, os.path.relpath(layout.release(commit_id), place.parent))


def prepare(layout: Layout, relative_path: str, commit_id: str) -> None:
    """Create everything that activation needs disk space for: what is left is one rename. Raises `DeployError`.

    What an earlier try has created is created again: that shows whether the disk can be written to now.
    """
    with disk_errors(f"preparing {relative_path}"):
        place = layout.place(relative_path)
        _make_parents(layout, place)
        _check_free(place)
        made = layout.staging / "live"
        if made.is_symlink():
            made.unlink()
        _make_link(layout, os.path.relpath(layout.release(commit_id), place.parent))


def check_complete(layout: Layout, commit_id: str) -> None:
    """Raises `DeployError` if the directory of a release, which was here, no longer exists."""
    release = layout.release(commit_id)
    with disk_errors("looking at the release"):
        if not release.is_dir():
            raise DeployError(f"no release is at {release} any more; does a hook remove it?")


def read_link(layout: Layout, relative_path: str) -> str | None:
    """The target of the symlink at `relative_path`, whoever created it; None if there is no symlink.

    Raises `OSError` for what may pass.
    """
    try:
        return os.readlink(layout.place(relative_path))
    except OSError as exc:
        if exc.errno in MAY_PASS:
            raise
        return None


def restore_link(layout: Layout, relative_path: str, link: str | None) -> None:
    """Restore a place to what it was before a release went live there: this symlink, or none. Raises `DeployError`."""
    with disk_errors(f"restoring {relative_path}"):
        place = layout.place(relative_path)
        if not place.is_symlink():
            return
        if link is not None:
            _put_link(layout, place, link)
            return
        place.unlink()
        sync_directory(place.parent)


def _put_link(layout: Layout, place: Path, link: str) -> None:
    os.replace(_make_link(layout, link), place)
    sync_directory(place.parent)


def _make_link(layout: Layout, link: str) -> Path:
    """The symlink that is to be renamed to a place, created if it does not exist yet."""
    made = layout.staging / "live"
    # A hook may have removed it since the release was staged.
    make_directory(layout.staging, PRIVATE)
    if not made.is_symlink() or os.readlink(made) != link:
        remove_tree(made)
        os.symlink(link, made)
    return made


def _make_parents(layout: Layout, place: Path) -> None:
    """Create the directories above the symlink; none of them may be a symlink, which could lead out of the base."""
    directory = layout.base
    for segment in place.parent.relative_to(layout.base).parts:
        directory = directory / segment
        if directory.is_symlink():
            raise DeployError(f"{directory} is a symlink: a release can't be put below it; choose another relativePath")
        make_directory(directory, READABLE)


def _check_free(place: Path) -> None:
    if place.is_symlink() or not place.exists():
        return
    kind = "directory" if place.is_dir() else "file"
    raise DeployError(
        f"a {kind} is at {place}, where the symlink to the release belongs: move it away, then publish again"
    )
