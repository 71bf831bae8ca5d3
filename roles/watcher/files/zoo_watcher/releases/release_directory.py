# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The complete release directories of a host: whether one is as it was created, and the removal of those not kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from zoo_watcher.config.document import read_named
from zoo_watcher.errors import PassingError
from zoo_watcher.host.filesystem import allow_owner, disk_errors, remove_tree
from zoo_watcher.host.layout import Layout

from .activation import linked_commits
from .manifest import Manifest


def is_deployable(layout: Layout, commit_id: str, shared_paths: Sequence[str], signers: str | None = None) -> bool:
    """Whether a release directory may go live as it is: unmodified, and verified against these signers if any.

    Raises `DeployError` if that can't be found out.
    """
    manifest = _manifest_if_unmodified(layout, commit_id, shared_paths)
    return manifest is not None and manifest.signers == signers


def is_unmodified(layout: Layout, commit_id: str, shared_paths: Sequence[str]) -> bool:
    """Whether a commit's release directory is there as created, with these shared paths. Raises `DeployError`."""
    return _manifest_if_unmodified(layout, commit_id, shared_paths) is not None


def _manifest_if_unmodified(layout: Layout, commit_id: str, shared_paths: Sequence[str]) -> Manifest | None:
    with disk_errors("comparing a release with its manifest"):
        manifest = Manifest.load(layout.manifest(commit_id))
        if manifest is None or manifest.shared != tuple(shared_paths):
            return None
        return manifest if manifest.matches(layout.release(commit_id)) else None


def allowed_signers(path: str | None, revoked: str | None = None, openpgp: str | None = None) -> str | None:
    """The digest of a file of allowed signers, and of those of `revoked` and `openpgp` keys.

    If it changes, a signature is verified again. Raises `PassingError`, whatever prevents one from being read: that is
    not the fault of a release.
    """
    if path is None:
        return None
    # Imported here: a host that demands no signature does not wait for it.
    from hashlib import sha256  # noqa: PLC0415

    digest = sha256(_signers(path, "require_signature"))
    for key, further in (("revoked_signers", revoked), ("openpgp_signers", openpgp)):
        if further is not None:
            digest.update(key.encode() + sha256(_signers(further, key)).digest())
    return digest.hexdigest()


def _signers(path: str, key: str) -> bytes:
    try:
        return read_named(path)
    except OSError as exc:
        raise PassingError(f"{key}: {path}: {exc.strerror}", "disk") from exc


def prune(layout: Layout, keep: frozenset[str]) -> dict[Path, str]:
    """Remove the release directories of all commits except `keep`; returns those that can't be removed now, and why.

    A directory that a symlink of the base leads to stays, whatever the agent remembers; so do all while a part of the
    base can't be looked at, such as a dead mount. Raises `OSError`.
    """
    problems: dict[Path, str] = {}
    removable = sorted(set(layout.staged()) - keep)
    try:
        linked = linked_commits(layout) if removable else set()
    except OSError as exc:
        return {layout.release(commit_id): f"{exc.filename}: {exc.strerror}" for commit_id in removable}
    for commit_id in removable:
        try:
            if commit_id not in linked:
                _remove(layout, commit_id)
        except OSError as exc:
            problems[layout.release(commit_id)] = str(exc.strerror)
    return problems


def _remove(layout: Layout, commit_id: str) -> None:
    """Remove a release directory. Raises `OSError`."""
    # Renamed first: a directory under its commit's name is complete, also if this is interrupted.
    leaving = layout.unused(f"leaving-{commit_id}")
    # A hook may have made it read-only, and moving a directory requires write permission on it.
    allow_owner(layout.release(commit_id))
    try:
        os.replace(layout.release(commit_id), leaving)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        # In the lower layer of an overlay, it can only be removed where it is; without a manifest, it is not complete.
        remove_tree(layout.manifest(commit_id))
        remove_tree(layout.release(commit_id))
        if os.path.lexists(layout.release(commit_id)):
            raise
        return
    remove_tree(layout.manifest(commit_id))
    remove_tree(leaving)
