# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release is live: what the symlink at the release's place points at, and nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from zoo_watcher.errors import DeployError
from zoo_watcher.host.layout import READABLE, Layout, disk_errors, remove_tree, sync_directory
from zoo_watcher.wire.records import COMMIT_ID

from .manifest import Manifest


def live_commit(layout: Layout, relative_path: str) -> str | None:
    """The commit whose complete release directory is live at `relative_path`; None where it is none of ours."""
    try:
        target = Path(os.readlink(layout.place(relative_path)))
    except OSError:
        return None
    ours = target.parent.name == layout.releases.name and COMMIT_ID.fullmatch(target.name)
    return target.name if ours and layout.release(target.name).is_dir() else None


def activate(layout: Layout, relative_path: str, commit_id: str) -> None:
    """Make a complete release live: at every instant the old one or this one is. Raises `DeployError`."""
    with disk_errors(f"activating {relative_path}"):
        place = layout.place(relative_path)
        _make_parents(layout, place)
        _check_free(place)
        target = os.path.relpath(layout.release(commit_id), place.parent)
        beside = layout.staging / f"live-{commit_id}"
        remove_tree(beside)
        os.symlink(target, beside)
        os.replace(beside, place)
        sync_directory(place.parent)


def _make_parents(layout: Layout, place: Path) -> None:
    """Make the directories above the symlink; none of them may be a symlink, which could lead out of the base."""
    directory = layout.base
    for segment in place.parent.relative_to(layout.base).parts:
        directory = directory / segment
        if directory.is_symlink():
            raise DeployError(f"{directory} is a symlink: a release can't be put below it; choose another relativePath")
        directory.mkdir(mode=READABLE, exist_ok=True)


def _check_free(place: Path) -> None:
    if place.is_symlink() or not place.exists():
        return
    kind = "directory" if place.is_dir() else "file"
    raise DeployError(
        f"a {kind} is at {place}, where the symlink to the release belongs: move it away, then publish again"
    )


def whole(layout: Layout, commit_id: str, shared_paths: Sequence[str], signers: str | None = None) -> bool:
    """Whether a release directory may go live as it is: untouched, and verified against these signers if any."""
    manifest = _untouched(layout, commit_id, shared_paths)
    return manifest is not None and manifest.signers == signers


def untouched(layout: Layout, commit_id: str, shared_paths: Sequence[str]) -> bool:
    """Whether a commit's release directory is there as it was made, with these shared paths."""
    return _untouched(layout, commit_id, shared_paths) is not None


def _untouched(layout: Layout, commit_id: str, shared_paths: Sequence[str]) -> Manifest | None:
    manifest = Manifest.load(layout.manifest(commit_id))
    if manifest is None or manifest.shared != tuple(shared_paths):
        return None
    return manifest if manifest.matches(layout.release(commit_id)) else None


def allowed_signers(path: str | None) -> str | None:
    """The digest of a file of allowed signers: with another one, a signature is verified anew. Raises `DeployError`."""
    if path is None:
        return None
    with disk_errors("require_signature"):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def prune(layout: Layout, keep: frozenset[str]) -> list[str]:
    """Remove the release directories of all commits but those in `keep`; the commits that went."""
    gone = [commit_id for commit_id in layout.staged() if commit_id not in keep]
    for commit_id in gone:
        # Renamed first: a directory under its commit's name is complete, also if this is cut short.
        leaving = layout.staging / f"leaving-{commit_id}"
        os.replace(layout.release(commit_id), leaving)
        remove_tree(layout.manifest(commit_id))
        remove_tree(leaving)
    return gone
