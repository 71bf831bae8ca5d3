# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of a base: two agents in one base would remove each other's releases."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import struct
import time
from pathlib import Path

from zoo_watcher.errors import AgentError

from .filesystem import MAY_BE_REMOVED, identify, open_regular
from .layout import Layout

PATIENCE = 2.0
"""Seconds after which a held lock belongs to another agent: a mere check for one takes it for an instant."""
PAUSE = 0.05
FLOCK = "hhqqi"
"""The kernel's `struct flock`, see fcntl_locking(2): type, whence, start, length, process."""


log = logging.getLogger(__name__)

KERNEL = ("/proc", "/sys")
"""Where the kernel's own file systems are: root may write there, but nobody can create a directory."""
LOCKS = Path("/proc/locks")
"""Everybody's locks, for everybody to read."""
PASSED_ON = "ZOO_WATCHER_LOCK"
"""The variable with the descriptor of the lock that `pass_on` has left."""


def check_base(layout: Layout) -> None:
    """Raises `AgentError` if no user could use the base, or releases can't be renamed in it.

    Nothing is created, and the rights of this process do not count.
    """
    place = next(path for path in (layout.base, *layout.base.parents) if os.path.lexists(path))
    try:
        device = os.stat(os.path.join(place, "")).st_dev
        kernels = {os.stat(path).st_dev for path in KERNEL if os.path.ismount(path)}
        own = {path: path.stat().st_dev for path in (layout.own, layout.releases, layout.staging) if path.exists()}
    except OSError as exc:
        if isinstance(exc, PermissionError):
            return
        raise AgentError(f"base: {exc.filename}: {exc.strerror}") from exc
    if device in kernels:
        raise AgentError(f"base: {layout.base}: no directory can be made in this file system")
    for directory, other in own.items():
        if other != device:
            why = f"is in another file system than {layout.base}, so that no release could be renamed into its place"
            raise AgentError(f"base: {directory} {why}; mount that file system at the base")


def try_base(layout: Layout, running: Layout) -> None:
    """Create the base, and check that an agent that leaves the base `running` can lock it. Raises `AgentError`."""
    # Closing the lock that this process holds would release a part of it (fcntl_locking(2)).
    with contextlib.suppress(OSError):
        if os.path.samefile(layout.lock, running.lock):
            if not stat.S_ISREG(os.lstat(layout.lock).st_mode):
                raise AgentError(f"base: {layout.lock}: {layout.lock.name} is not a regular file; move it away")
            return
    os.close(lock_base(layout))


def lock_base(layout: Layout) -> int:
    """Create the base and hold its lock; its descriptor. Raises `AgentError`, also if another agent holds it."""
    try:
        descriptor = _open_lock(layout)
    except OSError as exc:
        raise AgentError(f"base: {exc.filename}: {exc.strerror}") from exc
    return _hold(_take_up(descriptor), layout)


def pass_on(descriptor: int) -> None:
    """Leave a lock to the program that this process is about to execute: at no instant may another agent get it."""
    os.set_inheritable(descriptor, True)
    os.environ[PASSED_ON] = str(descriptor)


def _take_up(descriptor: int) -> int:
    """The lock that was left to this program; the open one if that is of another file, or there is none."""
    left = os.environ.pop(PASSED_ON, None)
    if left is None:
        return descriptor
    held = int(left)
    os.set_inheritable(held, False)
    if identify(held) != identify(descriptor):
        os.close(held)
        return descriptor
    if fcntl.fcntl(held, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        # Only a writable one shows who holds it; closing it would release that (fcntl_locking(2)).
        with contextlib.suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
    os.close(descriptor)
    return held


def keep_lock(layout: Layout, descriptor: int) -> int:
    """The descriptor of the lock: a new one if somebody has removed the file, so that it was no longer held.

    Likewise if its disk has failed, and another one is there. Raises `OSError` if the file can't be created now,
    `AgentError` if another agent holds it.
    """
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(layout.lock)
        if (there.st_dev, there.st_ino) == identify(descriptor):
            return descriptor
    renewed = _hold(_open_lock(layout), layout)
    with contextlib.suppress(OSError):
        os.close(descriptor)
    log.warning("the lock of the base was removed, and is recreated, path=%s", layout.lock)
    return renewed


def was_removed(descriptor: int, layout: Layout) -> bool:
    """Whether somebody has removed the file of a lock, or renamed it, as NFS does then.

    False if its file system can no longer tell: then that itself is gone.
    """
    try:
        is_nameless = os.fstat(descriptor).st_nlink == 0
        return is_nameless or os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")) != layout.lock.name
    except OSError:
        return False


def _hold(descriptor: int, layout: Layout) -> int:
    try:
        _await_lock(descriptor, layout)
    except BaseException:
        os.close(descriptor)
        raise
    # This lock shows who holds it (fcntl_locking(2)). If a file system has none, nobody can wake the agent.
    with contextlib.suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _open_lock(layout: Layout) -> int:
    """The open lock file; one that can't be written is opened as it is: what is live is served anyway."""
    try:
        layout.make()
        descriptor = open_regular(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
        # Anybody who may read it can hold it (flock(2)) and keep an agent from starting; earlier versions allowed it.
        os.fchmod(descriptor, 0o600)
    except OSError as exc:
        if exc.errno not in MAY_BE_REMOVED or not layout.lock.exists():
            raise
        with contextlib.suppress(OSError):
            return open_regular(layout.lock, os.O_RDWR)
        return open_regular(layout.lock)
    return descriptor


def _await_lock(descriptor: int, layout: Layout) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if _try_lock(descriptor):
                return
        except OSError as exc:
            raise AgentError(f"base: {layout.lock} can't be locked: {exc.strerror}") from exc
        if time.monotonic() > deadline:
            raise AgentError(f"another agent works in {layout.base}; this one ends")
        time.sleep(PAUSE)


def is_locked(layout: Layout) -> bool:
    """Whether an agent works in the base; anybody who may enter it may ask."""
    try:
        descriptor = open_regular(layout.lock)
    except PermissionError:
        return _is_listed(layout.lock)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_listed(path: Path) -> bool:
    """Whether the kernel lists a lock of a file that this user may not open (proc_locks(5))."""
    try:
        status = os.stat(path)
        rows = [line.split() for line in LOCKS.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    places = [row[-3].split(":") for row in rows if row[1] == "FLOCK"]
    return any(number == str(status.st_ino) and _is_device(status.st_dev, *device) for *device, number in places)


def _is_device(device: int, major: str, minor: str) -> bool:
    # A file system without a device of its own, such as a btrfs subvolume, may be listed with another number.
    return os.major(device) == 0 or device == os.makedev(int(major, 16), int(minor, 16))


def agent_pid(layout: Layout) -> int | None:
    """The process id of the agent that works in the base, from the kernel; None if there is none.

    Also None if the agent is in a container of its own.
    """
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        descriptor = open_regular(layout.lock)
    except OSError:
        return None
    try:
        kind, *_range, pid = struct.unpack(FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # A process of another pid namespace is 0 here, and to kill(2), 0 means the caller's own process group.
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
