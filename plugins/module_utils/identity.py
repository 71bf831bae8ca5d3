# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a connection according to the server: that is what an ACL is compared with."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

from .connection import ZooKeeperError

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:  # `connect` reports it before anything here needs it
    kazoo_errors = None

PATIENCE = 2.0
"""Seconds for the server to answer: the task has already failed."""
_LENGTH = struct.Struct("!i")


class WhoAmI:
    """The request of that name (opcode 107, server 3.7 and later), which kazoo does not have.

    It has no fields. The wire form of the answer is that of `WhoAmIResponse` in ZooKeeper's source: the number of
    identities, and the scheme and the user of each.
    """

    type = 107

    def serialize(self) -> bytes:
        """The request's bytes."""
        return b""

    @classmethod
    def deserialize(cls, answer: bytes, offset: int) -> list[tuple[str, str]]:
        """The scheme and the user of each identity."""
        (count,) = _LENGTH.unpack_from(answer, offset)
        offset += _LENGTH.size
        texts = []
        for _index in range(2 * count):
            start = offset + _LENGTH.size
            offset = start + max(_LENGTH.unpack_from(answer, offset)[0], 0)
            texts.append(answer[start:offset].decode(errors="replace"))
        return list(zip(texts[::2], texts[1::2]))


def identities(client: Any) -> list[str]:
    """The scheme and the user of each identity, as `digest ann`, sorted; none if the server does not tell."""
    request = client.handler.async_result()
    with contextlib.suppress(kazoo_errors.KazooException, KazooTimeoutError):
        client._call(WhoAmI(), request)
        return sorted(f"{scheme} {user}".strip() for scheme, user in request.get(timeout=PATIENCE))
    return []


@contextlib.contextmanager
def named(client: Any) -> Iterator[None]:
    """If an ACL forbids what is done inside the block, have the error also tell who the connection is."""
    try:
        yield
    except ZooKeeperError as exc:
        known = identities(client) if _is_refusal(exc) else []
        if not known:
            raise
        exc.args = (f"{exc}; to the server this connection is {', '.join(known)}",)
        raise


def _is_refusal(exc: BaseException | None) -> bool:
    """Whether an ACL is the error, or its cause."""
    return exc is not None and (isinstance(exc, kazoo_errors.NoAuthError) or _is_refusal(exc.__cause__))
