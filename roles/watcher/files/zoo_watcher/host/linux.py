# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the kernel that Python has no function for: the only file with ctypes and ioctl numbers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from functools import lru_cache
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
"""prctl(2)."""
AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""renameat2(2)."""
FICLONE = 0x40049409
"""ioctl_ficlone(2)."""
NO_AMBIENT = b"\nCapAmb:\t0000000000000000\n"
"""The line in /proc/PID/status of a process without ambient capabilities, see proc(5)."""
NO_REFLINK = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM}
"""The errors of `reflink` if the file system has no reflinks, or none between these two files."""

NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV}
"""The errors of `exchange` if the file system, such as NFS or ZFS before 2.2, or the C library lacks it, or if a
directory is in the lower layer of an overlay."""


def drop_ambient_capabilities() -> None:
    """Let no program that is started from now on have this process's ambient capabilities: no git, hook or command.

    To be called before there is a second thread: each thread has its own (capabilities(7)).
    """
    with contextlib.suppress(OSError):
        if NO_AMBIENT in Path("/proc/self/status").read_bytes():
            return
    _call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def forbid_new_privileges() -> None:
    """Let no program that is started from now on have more rights than this process. Raises `OSError`."""
    _check(_call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), None)


def die_with_parent() -> None:
    """Have this process, and all of the group that it leads, killed when its parent ends."""
    signal.signal(signal.SIGTERM, _kill_group)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_group(_number: int, _frame: object) -> None:
    # Otherwise, what this process has started would live on: only its children learn of the death of a parent.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def sync_file_system(descriptor: int, path: Path) -> None:
    """Make everything written to the file system of an open file durable (syncfs(2)). Raises `OSError` for `path`."""
    _check(_call("syncfs", descriptor), path)


def exchange(first: Path, second: Path) -> None:
    """Exchange two paths atomically. Raises `OSError`."""
    words = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE)
    _check(_call("renameat2", *words), second)


def reflink(source: str, target: str) -> None:
    """Copy a file so that both share the blocks until one is written to. Raises `OSError`, also one of `NO_REFLINK`."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    with open(source, "rb") as origin, open(target, "xb") as copy:
        fcntl.ioctl(copy.fileno(), FICLONE, origin.fileno())
        os.fchmod(copy.fileno(), os.fstat(origin.fileno()).st_mode & 0o777)


def system_call(number: int, *words: int | bytes | None) -> int:
    """Make a system call that the C library has no function for; returns its result. Raises `OSError`."""
    import ctypes  # noqa: PLC0415

    # Otherwise a number is passed as an int, which is half as long as what the kernel reads.
    answer = _library().syscall(number, *(ctypes.c_long(word) if isinstance(word, int) else word for word in words))
    _check(ctypes.get_errno() if answer < 0 else 0, None)
    return int(answer)


def _call(function: str, *words: int | bytes) -> int:
    """Call a function of the C library; returns the number of its error, 0 if there is none."""
    # Imported here: an idle agent does not keep it in memory.
    import ctypes  # noqa: PLC0415

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, function):
        return errno.ENOSYS
    return ctypes.get_errno() if getattr(library, function)(*words) else 0


@lru_cache(maxsize=1)
def _library() -> Any:
    """The C library, for callers with many calls."""
    import ctypes  # noqa: PLC0415

    return ctypes.CDLL(None, use_errno=True)


def _check(number: int, path: Path | None) -> None:
    if number != 0:
        raise OSError(number, os.strerror(number), *([str(path)] if path else []))
