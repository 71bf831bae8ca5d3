"""A client of an ensemble."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from kazoo.client import KazooClient

SECONDS_TO_STOP = 20.0
"""How long a client may take to stop before its connection is cut."""


@contextlib.contextmanager
def connected(hosts: str, **options: Any) -> Iterator[KazooClient]:
    """A connected client; `options` are kazoo's own."""
    client = KazooClient(hosts=hosts, **options)
    client.start(timeout=20)
    try:
        yield client
    finally:
        stop(client)
        client.close()


def stop(client: KazooClient) -> None:
    """Stop a client. If kazoo loses its own request to close, it would wait for its thread indefinitely."""
    cut = threading.Timer(SECONDS_TO_STOP, cut_connection, [client])
    cut.start()
    try:
        client.stop()
    finally:
        cut.cancel()


def cut_connection(client: KazooClient) -> None:
    """Cut the connection of a client, whose thread then ends if the client is to stop."""
    with contextlib.suppress(OSError, AttributeError):
        client._connection._socket.shutdown(socket.SHUT_RDWR)
