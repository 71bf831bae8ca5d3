# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Symlinks of a commit that lead out of its release: through them, the application would read, or serve, the host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from zoo_watcher.errors import DeployError
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.records import quote

from .manifest import walk

DEEPEST = 200
LONGEST = 3_000
"""The most directories that a target may lead through, and characters of a path that a symlink may lead to, as for a
commit's path: many deep ones, or ones that lead deeper through each other, would take hours to follow."""


class TooDeepError(Exception):
    """A symlink leads deeper than a path of a commit may be; has its path."""


def check_links(layout: Layout, tree: Path, commit_id: str, shared_paths: Sequence[str]) -> None:
    """Raises `DeployError` if a symlink of the commit in `tree` leads out of it. Raises `OSError`."""
    symlinks = [path for path, entry in walk(tree) if entry.is_symlink()]
    check_symlinks(layout, tree, symlinks, commit_id, shared_paths)


def check_symlinks(
    layout: Layout, tree: Path, symlinks: Iterable[str], commit_id: str, shared_paths: Sequence[str]
) -> None:
    """The same, if it is known which `symlinks` there are.

    A shared path is the agent's own link, or becomes it. What is below becomes the first content of the shared path,
    unless that exists already.
    """
    replaced = [path for path in shared_paths if os.path.lexists(layout.shared / path)]
    links = {
        path: os.readlink(tree / path)
        for path in symlinks
        if path not in shared_paths and not any(path.startswith(f"{one}/") for one in replaced)
    }
    where = "out of the release"
    try:
        path = find_outside(links, frozenset(shared_paths))
    except TooDeepError as exc:
        path, where = str(exc), f"through more than {DEEPEST} directories, or {LONGEST} bytes of their names"
    if path is not None:
        raise DeployError(
            f"{commit_id} has the symlink {quote(path, 300)} to {quote(links[path], 300)}, which leads {where}; "
            "publish a commit without it, or set allow_outside_symlinks on this host"
        )


def find_outside(links: Mapping[str, str], shared_paths: Collection[str]) -> str | None:
    """The first symlink that leads out of the tree with these `links`, targets by path, or out of a shared path in it.

    Each is followed as by the kernel, through the others. What does not exist is taken for a directory, since it may be
    created; a symlink that leads to itself leads nowhere. Raises `TooDeepError`.
    """
    ends: dict[str, str | None] = {}
    for path in sorted(links):
        outside = _follow(path, links, shared_paths, ends)
        if outside is not None:
            return outside
    return None


def _follow(
    start: str, links: Mapping[str, str], shared_paths: Collection[str], ends: dict[str, str | None]
) -> str | None:
    """The symlink on the way from `start` that leads out. `ends` has the end of each, None while it is followed."""
    here = ""
    left: list[str | None] = [*reversed(start.split("/"))]
    followed: list[str] = []
    while left:
        segment = left.pop()
        if segment is None:
            ends[followed.pop()] = here
        elif segment == "..":
            if not here or here in shared_paths:
                return followed[-1]
            here = here.rpartition("/")[0]
        elif segment not in {"", "."}:
            above, here = here, f"{here}/{segment}" if here else segment
            if len(here) > LONGEST:
                raise TooDeepError((followed or [start])[-1])
            end = ends.get(here)
            if end is not None:
                here = end
            elif here in links and here not in ends:
                target = links[here]
                if target.startswith("/"):
                    return here
                left += [None, *reversed(_steps(here, target))]
                ends[here] = None
                followed.append(here)
                here = above
    return None


def _steps(path: str, target: str) -> list[str]:
    if target.count("/") > DEEPEST:
        raise TooDeepError(path)
    return target.split("/")
