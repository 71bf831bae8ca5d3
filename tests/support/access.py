"""Which znodes of an ensemble a connection may use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError


def everything(client: KazooClient, root: str) -> list[str]:
    """Every znode of a tree."""
    return [root, *(path for name in client.get_children(root) for path in everything(client, f"{root}/{name}"))]


def readable(client: KazooClient, paths: Iterable[str]) -> list[str]:
    """The znodes among `paths` that a connection may read."""
    found = []
    for path in paths:
        with contextlib.suppress(NoAuthError):
            client.get(path)
            found.append(path)
    return found
