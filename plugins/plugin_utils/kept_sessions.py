# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that a process keeps between lookups: opening and closing one takes many times as long as a read.

Ansible forks a process for each task of each host. kazoo does not survive a fork, so all sessions are closed before
one. Those of a forked process end with it, or expire if Ansible terminates it at its end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from multiprocessing.util import Finalize
from typing import Any, NamedTuple, TypeVar

from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    is_outage,
)
from ansible_collections.zoo.deploy.plugins.module_utils.identity import named
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import chroot_named, connect

with contextlib.suppress(ImportError):  # `connect` reports it
    from kazoo.handlers.threading import KazooTimeoutError

Result = TypeVar("Result")


class _Session(NamedTuple):
    """A client, and what ends its session: on a call or at the end of the process, whichever is first."""

    client: Any
    end: Finalize[Any]


_SESSIONS: dict[tuple[str, ...], _Session] = {}
"""The sessions of this process, by the connection's options."""


def ask(options: Mapping[str, Any], question: Callable[[Any], Result]) -> Result:
    """The answer to `question` by a client for the options. Raises `ZooKeeperError`.

    The client may be an earlier one. If that has lost its connection, the question is asked again with a new one.
    """
    key = tuple(repr(options[name]) for name in CONNECTION_OPTIONS)
    if key in _SESSIONS:
        client = _SESSIONS[key].client
        try:
            if client.connected:
                return _answer(question, client)
        except ZooKeeperError as exc:
            if not _is_lost(exc):
                raise
        _SESSIONS.pop(key).end()
    _SESSIONS[key] = _begin(options)
    return _answer(question, _SESSIONS[key].client)


def _answer(question: Callable[[Any], Result], client: Any) -> Result:
    """The answer to a question; errors name the client, and mention a missing chroot, as within `connect`."""
    with named(client), chroot_named(client):
        return question(client)


def _is_lost(exc: ZooKeeperError) -> bool:
    """Whether the connection was lost. An ensemble that did not answer in time is not asked again for as long."""
    return is_outage(exc) and not isinstance(exc.__cause__, KazooTimeoutError)


def _begin(options: Mapping[str, Any]) -> _Session:
    context = contextlib.ExitStack()
    client = context.enter_context(connect(options))
    return _Session(client, Finalize(None, context.close, exitpriority=0))


def _end_all() -> None:
    while _SESSIONS:
        _SESSIONS.popitem()[1].end()


os.register_at_fork(before=_end_all)
