"""An ensemble of one and a client of it, for tests that stop it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.waiting import wait_for

RETRY = {"max_tries": -1, "delay": 0.05, "max_delay": 0.2}


@contextlib.contextmanager
def lonely_ensemble(root: Path) -> Iterator[tuple[Ensemble, Any]]:
    """The running ensemble, and a client that keeps trying to reach it while the block lasts."""
    servers = Ensemble(root, size=1)
    client = KazooClient(hosts=servers.hosts, timeout=4, connection_retry=RETRY)
    try:
        servers.start()
        client.start(timeout=20)
        yield servers, client
    finally:
        threading.Thread(target=client.stop, daemon=True).start()  # it may wait for a dead server
        servers.stop()


def kill(servers: Ensemble, client: Any) -> None:
    """End the server as a crash would, and wait until the client has noticed."""
    servers.members[0].kill()
    wait_for(lambda: not client.connected, "the client noticed")
