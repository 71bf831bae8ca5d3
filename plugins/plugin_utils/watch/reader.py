# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads znodes for the watches, a few at once, and sets a ZooKeeper watch on each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import Interest, Observation

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.handlers.threading import KazooTimeoutError
except ImportError:
    pass  # `connect` reports it

GRACE = 2.0
"""Seconds after a connection in which a refusal may be premature: kazoo reports a connection before it has
authenticated."""
PAUSE = 0.2
"""Seconds between two tries while there is no answer."""


class StoppedError(Exception):
    """Nobody takes the events any longer."""


class _NoAnswerError(Exception):
    """There is no connection now, or what was read is out of date: read again."""


class ZnodeReader:
    """Reads with one client. One of kazoo's threads calls `on_event` with the event of each watch that fires."""

    def __init__(self, client: Any, on_event: Callable[[Any], None], is_stopped: Callable[[], bool]) -> None:
        self._client = client
        self._on_event = on_event
        self._is_stopped = is_stopped
        self._connected_at = -math.inf

    def start_anew(self) -> None:
        """Note a new connection: whatever is read from now on is at least as new."""
        self._connected_at = time.monotonic()
        self._client.sync_async("/")  # answered before later requests: this member may be behind the last one

    def read(self, interests: Sequence[tuple[str, Interest | None]]) -> list[Observation | Exception | None] | None:
        """What is at each path, in order, each with a watch; None if there is no answer, or not yet.

        A znode that may not be read is an exception; one that is missing or of no interest is None.
        """
        try:
            requests = [
                (path, interest, self._request(path, interest) if interest else None) for path, interest in interests
            ]
            return [self._observe(path, interest, sent) if interest else None for path, interest, sent in requests]
        except _NoAnswerError:
            return None

    def _request(self, path: str, interest: Interest) -> tuple[Any, Any]:
        value = self._client.get_async(path, self._on_event) if interest.value else None
        names = self._client.get_children_async(path, self._on_event, include_data=True) if interest.names else None
        return value, names

    def _observe(self, path: str, interest: Interest, requests: Any) -> Observation | Exception | None:
        value, children = requests
        try:
            data, stat = self._answer(value) if value else (b"", None)
            names, parent_stat = self._answer(children) if children else ((), None)
            return Observation(stat or parent_stat, data or b"", set(names))
        except kazoo_errors.NoNodeError:
            if interest.awaited:
                self._await_creation(path)
            return None
        except kazoo_errors.NoAuthError as exc:
            if time.monotonic() < self._connected_at + GRACE:
                raise _NoAnswerError from exc
            refused: Exception = exc
            return refused

    def _await_creation(self, path: str) -> None:
        """Set a watch for a missing znode. If it was created meanwhile, it is read once more."""
        if self._answer(self._client.exists_async(path, self._on_event)):
            raise _NoAnswerError

    def _answer(self, request: Any) -> Any:
        """The answer; without a connection kazoo holds requests indefinitely, so check from time to time."""
        while True:
            try:
                return request.get(timeout=PAUSE)
            except KazooTimeoutError as exc:
                if self._is_stopped():
                    raise StoppedError from exc
                if not self._client.connected:
                    raise _NoAnswerError from exc
            except (
                kazoo_errors.ConnectionLoss,
                kazoo_errors.SessionExpiredError,
                kazoo_errors.ConnectionClosedError,
                kazoo_errors.OperationTimeoutError,
                kazoo_errors.AuthFailedError,
            ) as exc:
                raise _NoAnswerError from exc
