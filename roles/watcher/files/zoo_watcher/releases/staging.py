# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates the complete directory of a release: by difference from an existing one if that is safe, else as a whole.

By difference, a file that two commits share is the same inode (a hard link), or the same blocks (a reflink, if the
file system has them). Links share every later write, so a linked file is made read-only, and only a release verified
to be unmodified is linked from.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo_watcher.errors import DeployError
from zoo_watcher.host.filesystem import allow_owner, disk_errors, remove_tree, sync_directory, sync_file_system
from zoo_watcher.host.layout import Layout
from zoo_watcher.host.linux import NO_EXCHANGE, NO_REFLINK, exchange, reflink

from .activation import linked_commits
from .manifest import Facts, Manifest, facts_of, look, walk
from .outside_links import check_symlinks
from .release_directory import is_unmodified
from .repository import GITLINK, Entry, Repository

NOT_TAKEN = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV}
"""The errors for a file that somebody has given to another user (proc_sys_fs(5), protected_hardlinks), that has as many
links as it can have, or that something is mounted over."""


@dataclass(frozen=True)
class Making:
    """One release directory to be created. `earlier` are commits that it may be created from, the likeliest first.

    `signers` says who might sign it, in the form of `allowed_signers`, and `outside_symlinks` whether its symlinks may
    lead out of it.
    """

    layout: Layout
    commit_id: str
    shared_paths: tuple[str, ...]
    hard_links: bool
    signers: str | None
    earlier: tuple[str, ...]
    outside_symlinks: bool = False


def make_release(making: Making, repository: Repository) -> None:
    """Create the release directory, durable before it gets its name. Raises `DeployError`."""
    with disk_errors("staging"):
        # Under a unique name: the remains of an earlier try may belong to another user, and not be removable.
        tree = making.layout.unused(making.commit_id)
        tree.mkdir()
        try:
            _make_tree(making, repository, tree)
        finally:
            # A failed or replaced tree: on a full disk, it would be in the way.
            remove_tree(tree)


def _make_tree(making: Making, repository: Repository, tree: Path) -> None:
    entries = repository.files(making.commit_id)
    files = {path: entry for path, entry in entries.items() if entry.mode != GITLINK}
    if not _by_difference(making, repository, tree, files):
        _check_room(repository, files.values())
        repository.check_out(making.commit_id, tree, None)
    # Once, for all steps: looking at each of thousands of files takes as long as linking them.
    made = look(tree)
    _prove(made, files)
    for submodule in entries.keys() - files.keys():
        (tree / submodule).mkdir(parents=True, exist_ok=True)
    if not making.outside_symlinks:
        symlinks = [path for path, (mode, _size, _time) in made.items() if stat.S_ISLNK(mode)]
        check_symlinks(making.layout, tree, symlinks, making.commit_id, making.shared_paths)
    if making.hard_links:
        _make_read_only(tree, made)
    _link_shared(making, tree, made)
    sync_file_system(tree)
    _put_in_place(making, tree, made)


def _by_difference(making: Making, repository: Repository, tree: Path, files: dict[str, Entry]) -> bool:
    """Take what is unchanged from an earlier release. Returns whether that succeeded; if not, `tree` is empty again."""
    before = _unmodified_release(making)
    if before is None or not repository.has(before):
        return False
    take = _way_to_take(making, before)
    if take is None:
        return False
    changed = repository.changed(before, making.commit_id)
    # What is below a shared path in the earlier release is not a file of its commit.
    fresh = [path for path in files if path in changed or _is_shared(path, making.shared_paths)]
    if len(fresh) * 2 > len(files):
        return False
    _check_room(repository, [files[path] for path in fresh])
    try:
        _take(making.layout.release(before), tree, sorted(files.keys() - set(fresh)), take)
    except OSError as exc:
        if exc.errno not in NOT_TAKEN:
            raise
        remove_tree(tree)
        tree.mkdir()
        return False
    repository.check_out(making.commit_id, tree, fresh)
    return True


def _check_room(repository: Repository, files: Collection[Entry]) -> None:
    """Raises `PassingError` if these files would not leave enough disk space free."""
    repository.floor.check(repository.layout.own, sum(file.size for file in files), len(files))


def _unmodified_release(making: Making) -> str | None:
    """The likeliest of the earlier commits to take files from."""
    return next(
        (commit_id for commit_id in making.earlier if is_unmodified(making.layout, commit_id, making.shared_paths)),
        None,
    )


def _is_shared(path: str, shared_paths: Sequence[str]) -> bool:
    return any(path == shared or path.startswith(f"{shared}/") for shared in shared_paths)


Take = Callable[[str, str], None]


def _way_to_take(making: Making, before: str) -> Take | None:
    """A reflink if the file system has them, else a hard link if that is allowed, else none."""
    source = making.layout.release(before)
    sample = next((str(source / path) for path, entry in walk(source) if entry.is_file(follow_symlinks=False)), None)
    if sample is None:
        return None
    trial = str(making.layout.unused("trial"))
    try:
        reflink(sample, trial)
    except OSError as exc:
        if exc.errno not in NO_REFLINK:
            raise
        return hard_link if making.hard_links and _is_read_only(sample) else None
    else:
        return reflink
    finally:
        remove_tree(Path(trial))


def _is_read_only(path: str) -> bool:
    """Whether hard links were allowed when the file was created: making it read-only now would modify its release."""
    return not os.stat(path).st_mode & 0o222


def hard_link(source: str, target: str) -> None:
    """The same inode under another name; a symlink's own."""
    os.link(source, target, follow_symlinks=False)


def _take(source: Path, tree: Path, paths: Sequence[str], take: Take) -> None:
    made = {""}
    for path in paths:
        directory = path.rpartition("/")[0]
        if directory not in made:
            os.makedirs(tree / directory, exist_ok=True)
            made.add(directory)
        take(f"{source}/{path}", f"{tree}/{path}")


def _prove(made: Mapping[str, Facts], files: dict[str, Entry]) -> None:
    """Check that the tree has the commit's files, each with its size, and nothing else."""
    sizes = {path: size for path, (_mode, size, _time) in made.items()}
    expected = {path: entry.size for path, entry in files.items()}
    if sizes != expected:
        wrong = sorted({path for path in sizes.keys() | expected.keys() if sizes.get(path) != expected.get(path)})
        raise DeployError(f"staging: {len(wrong)} files are not as the commit has them, the first is {wrong[0]!r}")


def _make_read_only(tree: Path, made: dict[str, Facts]) -> None:
    """Make every file read-only, and note that in `made`."""
    for path, (mode, _size, _time) in made.items():
        if mode & 0o222 and not stat.S_ISLNK(mode):
            os.chmod(tree / path, mode & 0o555)
            made[path] = facts_of(os.lstat(tree / path))


def _link_shared(making: Making, tree: Path, made: dict[str, Facts]) -> None:
    """Put a symlink at each shared path; what the first release has there becomes its first content."""
    # All of them before anything is read or removed: through a symlink of the commit, that would be outside the tree.
    for path in making.shared_paths:
        _make_directory(tree, (tree / path).parent)
    for path in making.shared_paths:
        place, shared = tree / path, making.layout.shared / path
        if not os.path.lexists(shared):
            shared.parent.mkdir(parents=True, exist_ok=True)
            _begin_shared(place, shared)
        remove_tree(place)
        target = making.layout.release(making.commit_id) / path
        os.symlink(os.path.relpath(shared, target.parent), place)
        for replaced in [one for one in made if one == path or one.startswith(f"{path}/")]:
            del made[replaced]
        made[path] = facts_of(os.lstat(place))


def _begin_shared(place: Path, shared: Path) -> None:
    """Copy, make durable, rename: a shared path is complete or not there. The application writes into it."""
    # Imported here: a shared path is created once.
    from shutil import copyfile, copytree  # noqa: PLC0415

    beside = shared.with_name(f".{shared.name}.new")
    remove_tree(beside)
    if place.is_dir() and not place.is_symlink():
        copytree(place, beside, symlinks=True)
        for path, entry in walk(beside):
            if not entry.is_symlink():
                os.chmod(beside / path, entry.stat().st_mode | 0o200)
    elif place.is_file() and not place.is_symlink():
        copyfile(place, beside)
    else:
        beside.mkdir()
    sync_file_system(shared.parent)
    os.replace(beside, shared)
    sync_directory(shared.parent)


def _make_directory(tree: Path, directory: Path) -> None:
    """Create the directories above a shared path; a symlink of the commit among them could lead out of the tree."""
    current = tree
    for segment in directory.relative_to(tree).parts:
        current = current / segment
        if os.path.lexists(current) and (current.is_symlink() or not current.is_dir()):
            kind = "symlink" if current.is_symlink() else "file"
            raise DeployError(f"shared_paths: {current.relative_to(tree)} is a {kind} in this commit")
        current.mkdir(exist_ok=True)


def _put_in_place(making: Making, tree: Path, made: dict[str, Facts]) -> None:
    """The manifest is first: a directory under its commit's name is complete, also if a modified one is replaced."""
    layout = making.layout
    Manifest(made, making.shared_paths, making.signers).save(layout.manifest(making.commit_id))
    release = layout.release(making.commit_id)
    if release.is_dir():
        _change_places(layout, tree, release)
    else:
        os.replace(tree, release)
    sync_directory(layout.releases)


def _change_places(layout: Layout, tree: Path, release: Path) -> None:
    """Replace an existing release by the tree, atomically if the file system can."""
    allow_owner(release)
    try:
        exchange(tree, release)
    except OSError as exc:
        if exc.errno not in NO_EXCHANGE:
            raise
        replaced = layout.unused(tree.name)
        try:
            os.replace(release, replaced)
        except OSError as other:
            if other.errno != errno.EXDEV or release.name in linked_commits(layout):
                raise
            _remove_and_replace(tree, release)
            return
        try:
            os.replace(tree, release)
        except OSError:
            os.replace(replaced, release)
            raise
        remove_tree(replaced)


def _remove_and_replace(tree: Path, release: Path) -> None:
    """Replace a release in the lower layer of an overlay, which can be removed, but not renamed.

    Raises `OSError`; if the tree can't be renamed either, as across a mount, nothing has been removed.
    """
    try:
        os.replace(tree, release)
    except OSError as exc:
        if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        remove_tree(release)
        os.replace(tree, release)
