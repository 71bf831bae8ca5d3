"""A client of an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kazoo.client import KazooClient


@contextlib.contextmanager
def connected(hosts: str, **options: Any) -> Iterator[KazooClient]:
    """A connected client; `options` are kazoo's own."""
    client = KazooClient(hosts=hosts, **options)
    client.start(timeout=20)
    try:
        yield client
    finally:
        client.stop()
        client.close()
