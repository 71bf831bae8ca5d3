# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that reads what is watched, and sends an event for what has changed.

One thing happens at a time: read a few znodes, with a watch on each; send what is new; read on. As long as an event is
not taken, nothing is read, so no watch is set again, and only the set of paths to be read again can grow.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    ENDED,
    ConnectError,
    ZooKeeperError,
    explain,
    forget_transactions,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import READ_AGAIN, connect, missing_chroot
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import session_event
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import Options
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.reader import PAUSE, StoppedError, ZnodeReader
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watch import Watch

with contextlib.suppress(ImportError):  # `connect` reports it
    from kazoo.protocol.states import EventType, KazooState, KeeperState

BATCH = 32
"""How many znodes are read at once; their values, at most 1 MB each, are in memory together."""
REFUSED_AGAIN = 30.0
"""Seconds after which a znode that may not be read is requested again."""
TRANSITIONS = 16
"""How many changes of the session's state are kept for a rulebook that takes none."""


class Transition(NamedTuple):
    """A change of the session's state, in kazoo's words, with the session's id."""

    state: str
    session: int
    refused: bool


class WatchLoop:
    """Watches as `options` ask. `send` sends an event; its future is done when the event is taken."""

    def __init__(
        self,
        options: Options,
        send: Callable[[dict[str, Any]], concurrent.futures.Future[None]],
        warn: Callable[[str], None],
    ) -> None:
        self._options = options
        self._send = send
        self._warn = warn
        self._wake = threading.Condition()
        self._stopped = False
        self._noticed: set[str] = set()
        self._transitions: collections.deque[Transition] = collections.deque(maxlen=TRANSITIONS)
        self._session = 0
        self._sends_session = options.session and options.initial
        self._refused: dict[tuple[Watch, str], float] = {}
        self._refused_before: set[tuple[Watch, str]] = set()
        self._read_again_at = math.inf

    def run(self) -> None:
        """Watch until `stop`. Raises a `ZooKeeperError` if there is no session within `connect_timeout`.

        An ensemble that becomes unreachable later is waited for without limit; credentials that are refused then are an
        error.
        """
        try:
            with connect(self._options.connection, outage=math.inf) as client:
                missing = missing_chroot(client)
                if missing:
                    self._warn(missing)
                reader = ZnodeReader(client, self._note_event, lambda: self._stopped)
                client.add_listener(lambda state: self._note_state(client, state))
                self._note_state(client, client.state)
                while not self._stopped:
                    self._follow_session(reader)
                    if not client.connected:
                        self._await_transition(client)
                    elif not self._advance(reader):
                        self._settle()
        except StoppedError:
            pass

    def stop(self) -> None:
        """Make `run` return soon."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    # Called by kazoo's threads: they only note what happened.

    def _note_state(self, client: Any, state: str) -> None:
        refused = client.client_state == KeeperState.AUTH_FAILED
        self._session = (client.client_id or [self._session])[0]  # none while there is no connection
        with self._wake:
            self._transitions.append(Transition(state, self._session, refused))
            self._wake.notify_all()

    def _note_event(self, event: Any) -> None:
        if event.type == EventType.NONE:
            return  # about the connection, whose state the listener gets
        with self._wake:
            self._noticed.add(event.path)
            self._wake.notify_all()

    # Called by the loop.

    def _deliver(self, event: dict[str, Any]) -> None:
        """Send an event and wait, without limit, until it is taken."""
        taken = self._send(event)
        while True:
            try:
                return taken.result(PAUSE)
            except concurrent.futures.TimeoutError as exc:
                if self._stopped:
                    taken.cancel()
                    raise StoppedError from exc

    def _follow_session(self, reader: ZnodeReader) -> None:
        """Send the changes of the session's state; after each connection everything is read again."""
        while self._transitions:
            state, session, refused = self._transitions.popleft()
            if refused:
                raise ConnectError("ZooKeeper refused the credentials; nothing can be watched any more")
            if state == KazooState.CONNECTED:
                self._read_anew(reader)
            if self._sends_session:
                self._deliver(session_event(state.lower(), session))
            self._sends_session = self._options.session

    def _read_anew(self, reader: ZnodeReader) -> None:
        self._refused.clear()
        self._refused_before.clear()
        reader.start_anew()
        self._read_all()

    def _read_all(self) -> None:
        self._read_again_at = time.monotonic() + READ_AGAIN
        for watch in self._options.watches:
            watch.reread()

    def _advance(self, reader: ZnodeReader) -> bool:
        """Read the next few znodes and send what has changed; False if there is nothing to read."""
        batch = self._next_batch()
        if not batch:
            return False
        answers = reader.read([(path, watch.interest(path)) for watch, path in batch])
        if answers is None:
            for watch, path in batch:
                watch.notice(path)
            self._rest(PAUSE)
            return True
        for (watch, path), answer in zip(batch, answers):
            if isinstance(answer, Exception):
                self._note_refusal(watch, path, answer)
                continue
            for event in watch.update(path, answer):
                self._deliver(event)
        return True

    def _next_batch(self) -> list[tuple[Watch, str]]:
        """The next znodes to be read, those of one watch in the order of its `unread`."""
        if not any(watch.unread for watch in self._options.watches):
            self._take_notices()
        batch: list[tuple[Watch, str]] = []
        for watch in self._options.watches:
            for path in list(itertools.islice(watch.unread, BATCH - len(batch))):
                del watch.unread[path]
                batch.append((watch, path))
        return batch

    def _take_notices(self) -> None:
        """Everything has been read, so what was noticed since then is news."""
        with self._wake:
            noticed, self._noticed = self._noticed, set()
        again = [refused for refused, due in self._refused.items() if due <= time.monotonic()]
        for refused in again:
            del self._refused[refused]
        for watch in self._options.watches:
            watch.synced = True
        for watch, path in [*((watch, path) for path in sorted(noticed) for watch in self._options.watches), *again]:
            watch.notice(path)
        if time.monotonic() >= self._read_again_at:
            self._read_all()

    def _note_refusal(self, watch: Watch, path: str, error: Exception) -> None:
        """Note that permission was denied: an error at the beginning; later it may be granted again."""
        text = f"{path}: {explain(error)}"
        if path == watch.root and not watch.synced:
            raise ZooKeeperError(text, path=path)
        if (watch, path) not in self._refused_before:
            self._refused_before.add((watch, path))
            self._warn(f"{text}; asked for again every {REFUSED_AGAIN:g} s")
        self._refused[watch, path] = time.monotonic() + REFUSED_AGAIN

    def _settle(self) -> None:
        """Everything is read: send what was held back until now, then wait for the next thing to happen."""
        for watch in self._options.watches:
            for event in watch.overdue():
                self._deliver(event)
        deadlines = [watch.next_deadline() for watch in self._options.watches]
        due = [moment for moment in (*deadlines, *self._refused.values(), self._read_again_at) if moment is not None]
        self._rest(max(0.0, min(due) - time.monotonic()))

    def _await_transition(self, client: Any) -> None:
        """Wait until there is a connection; after the end of the session, even to an ensemble that was rebuilt."""
        with self._wake:
            seconds = ENDED * self._options.connection["connect_timeout"]
            if not self._wake.wait_for(lambda: self._transitions or self._stopped, seconds):
                forget_transactions(client)

    def _rest(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._noticed or self._transitions or self._stopped, seconds)
