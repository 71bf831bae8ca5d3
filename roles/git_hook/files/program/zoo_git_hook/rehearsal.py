# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks whether a publication would be accepted, without making one."""

from __future__ import annotations

import contextlib
from typing import Any

from .connection import ZooKeeperError, explain, translated
from .records import AppPaths

with contextlib.suppress(ImportError):  # `connect` reports it
    from kazoo.exceptions import NoAuthError, NoNodeError

NOWHERE = "/zoo-deploy-rehearsal-of-nothing"
"""No znode has this name; checking it makes a transaction fail after everything before it was checked."""


def rehearse(client: Any, paths: AppPaths) -> None:
    """Send the leader the transaction of a publication within one that can't succeed. Raises `ZooKeeperError`.

    A server checks the operations in order, the ACL of each first, and rolls all back at the first that fails.
    """
    with translated(paths.root):
        missing = [path for path in _directories(paths) if not _is_there(client, path)]
        transaction = client.transaction()
        for path in missing:
            transaction.create(path)
        if not _is_there(client, paths.config):
            transaction.create(paths.config)
        else:
            client.get(paths.config)
            transaction.set_data(paths.config, b"")
        transaction.create(paths.history_prefix, sequence=True)
        transaction.check(NOWHERE, 0)
        places = [*missing, paths.config, paths.history]
        for path, result in zip(places, transaction.commit()):
            # Without a parent: the chroot does not exist.
            if isinstance(result, (NoAuthError, NoNodeError)):
                raise ZooKeeperError(f"{path}: {explain(result)}", path=path) from result


def _is_there(client: Any, path: str) -> bool:
    """Whether a znode exists. From ZooKeeper 3.9 on, a client that may not read an existing one gets no stat of it."""
    try:
        return client.exists(path) is not None
    except NoAuthError:
        return True


def _directories(paths: AppPaths) -> list[str]:
    """The znodes that a first publication creates, parents first."""
    words = paths.root.split("/")[1:]
    return [*("/" + "/".join(words[: end + 1]) for end in range(len(words))), paths.history, paths.agents, paths.lock]
