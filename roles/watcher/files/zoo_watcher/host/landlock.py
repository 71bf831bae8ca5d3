# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Permanently drops rights of this process and all that it starts: Landlock, see landlock(7).

Landlock allows what is below a path, and forbids nothing by name. To make some paths unreadable, everything next to
them on the way down from the root directory is allowed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from . import linux

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls."""
ASK_VERSION = 1
PATH_BENEATH, NET_PORT = 1, 2
EXECUTE, WRITE, READ = 1 << 0, 1 << 1, 1 << 2
ENTRIES = sum(1 << bit for bit in range(4, 14))
"""Create, remove and move entries of a directory. Listing one is left to its mode."""
TRUNCATE = 1 << 14
CONNECT_TCP = 1 << 1
SCOPES = 0b11
"""Abstract sockets and signals."""
OF_FILE = EXECUTE | WRITE | READ | TRUNCATE
"""The rights in a rule for a file that is not a directory."""
MOVES, TRUNCATES, CONNECTS, SCOPED = 2, 3, 4, 6
"""The versions from which the kernel knows moves between directories, impossible before, and the other rights."""
Tree = dict[str, Any]
"""Names, each with the tree of the names below it."""
ABSENT = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
"""The errors of a kernel without Landlock, or of a filter of system calls."""
REMOTE = {"9p", "afs", "ceph", "cifs", "fuse", "nfs", "nfs4", "smb3"}
"""File systems whose server may be down: even opening a path on them may block for ever."""


def version() -> int:
    """The kernel's version of Landlock; 0: none that is of use."""
    try:
        found = linux.system_call(CREATE_RULESET, None, 0, ASK_VERSION)
    except OSError as exc:
        if exc.errno in ABSENT:
            return 0
        raise
    return found if found >= MOVES else 0


def confine(
    writable: Iterable[str], hidden: Collection[str], needed: Iterable[str], ports: Collection[int] | None
) -> None:
    """From now on, write only below `writable`, and read nothing below `hidden` unless it is `needed`, or below that.

    What is below `writable` can also be read, but not executed. TCP connections lead only to `ports`, None: to any. No
    process outside can be traced or signalled. `version` says how much of this the kernel enforces. Raises `OSError`.
    """
    present = version()
    written = {os.path.realpath(path) for path in writable}
    everything = WRITE | READ | ENTRIES | (TRUNCATE if present >= TRUNCATES else 0)
    rights: dict[str, int] = {"/dev": WRITE}
    secrets = [os.path.realpath(path) for path in hidden]
    for path in [*beside(secrets), *(path for path in needed if not _is_above(path, secrets))]:
        rights[path] = rights.get(path, 0) | READ
    for path in beside(written):
        rights[path] = rights.get(path, 0) | EXECUTE
    for path in written:
        rights[path] = everything
    restricts_ports = ports is not None and present >= CONNECTS
    attributes = [everything | EXECUTE, CONNECT_TCP if restricts_ports else 0, SCOPES if present >= SCOPED else 0]
    size = 8 * (3 if present >= SCOPED else 2 if present >= CONNECTS else 1)
    ruleset = linux.system_call(CREATE_RULESET, struct.pack("=3Q", *attributes), size, 0)
    try:
        for path, allowed in rights.items():
            _allow(ruleset, path, allowed)
        for port in ports or () if restricts_ports else ():
            linux.system_call(ADD_RULE, ruleset, NET_PORT, struct.pack("=2Q", CONNECT_TCP, port), 0)
        linux.forbid_new_privileges()
        linux.system_call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _is_above(path: str, others: Iterable[str]) -> bool:
    return any(other.startswith(f"{path.rstrip('/')}/") for other in others)


def _allow(ruleset: int, path: str, allowed: int) -> None:
    """Allow this below a path, unless the path does not exist or can't be looked at."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        of_kind = allowed if stat.S_ISDIR(os.fstat(descriptor).st_mode) else allowed & OF_FILE
        if of_kind:
            linux.system_call(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("=Qi", of_kind, descriptor), 0)
    finally:
        os.close(descriptor)


def beside(paths: Iterable[str]) -> Iterator[str]:
    """All but these paths: what lies next to them on the way down. Symlinks are left out, as they lead elsewhere."""
    resolved = {os.path.realpath(path) for path in paths}
    tree: Tree = {}
    for path in resolved:
        if any(_is_above(other, [path]) for other in resolved):
            continue
        level = tree
        for name in path.strip("/").split("/"):
            level = level.setdefault(name, {})
    yield from _beside("/", tree, _remote_mounts())


def _beside(directory: str, tree: Tree, remote: Collection[str]) -> Iterator[str]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        # A directory that can't be listed may still be entered; what is needed there has a rule of its own.
        return
    for entry in entries:
        if entry.name not in tree:
            if entry.path not in remote and not entry.is_symlink():
                yield entry.path
        elif tree[entry.name]:
            yield from _beside(entry.path, tree[entry.name], remote)


def _remote_mounts() -> set[str]:
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split() for line in file]
        return {line[4] for line in fields if line[line.index("-") + 1].partition(".")[0] in REMOTE}
    return set()
