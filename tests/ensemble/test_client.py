"""The client of the tests."""

from __future__ import annotations

import threading

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.serialization import CloseInstance

import support.client
from support.client import connected
from support.ensemble import Ensemble
from support.waiting import wait_for


def test_a_client_stops_although_kazoo_has_lost_its_request_to_close(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support.client, "SECONDS_TO_STOP", 0.5)
    ended = threading.Event()

    def use() -> None:
        with connected(ensemble.hosts) as client:
            lose_close(client)
        ended.set()

    threading.Thread(target=use, daemon=True).start()
    wait_for(ended.is_set, "the client has stopped", 30)


def lose_close(client: KazooClient) -> None:
    """Have a client never send its request to close."""

    class Queue(type(client._queue)):  # type: ignore[misc]
        def append(self, item: object) -> None:
            if item != (CloseInstance, None):
                super().append(item)

    client._queue = Queue(client._queue)
