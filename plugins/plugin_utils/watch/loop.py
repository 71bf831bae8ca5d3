# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that reads what is watched, and tells what has changed.

One thing happens after the other: read a few znodes, with a watch on each; tell what is new; read on. While an event is
not taken nothing is read, so no watch is set anew, and all that can pile up is the set of the paths to be read again.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ConnectError, ZooKeeperError, explain
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.events import session_event
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import Options
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.watches import Found, Want, Watch

try:
    from kazoo import exceptions as kazoo_errors
    from kazoo.handlers.threading import KazooTimeoutError
    from kazoo.protocol.states import EventType, KazooState, KeeperState
except ImportError:
    pass  # `connect` says so

BATCH = 32
"""How many znodes are read at once; their values, 1 MB each at the most, are in memory together."""
GRACE = 2.0
"""For so many seconds after a connection a refusal may be kazoo's haste: it says that it is connected before it has
authenticated."""
REFUSED_AGAIN = 30.0
"""Seconds after which a znode that may not be read is asked for again."""
PAUSE = 0.2
"""Seconds between two tries while there is no answer."""
TRANSITIONS = 16
"""How many changes of the session's state are kept for a rulebook that takes none."""


class Transition(NamedTuple):
    """A change of the session's state, in kazoo's words, with the session's id."""

    state: str
    session: int
    refused: bool


class WatchLoop:
    """Watches as `options` say. `send` sends an event on its way; its future is done when the event is taken."""

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
        self._told_before = options.initial
        self._connected_at = -math.inf
        self._refused: dict[tuple[Watch, str], float] = {}
        self._refused_before: set[tuple[Watch, str]] = set()

    def run(self) -> None:
        """Watch until `stop`. Raises a `ZooKeeperError` where there is no session within `connect_timeout`.

        Later on an ensemble that is away is waited for, however long; credentials that are refused then are an error.
        """
        try:
            with connect(self._options.connection, outage=math.inf) as client:
                client.add_listener(lambda state: self._note_state(client, state))
                self._note_state(client, client.state)
                while not self._stopped:
                    self._tell_session(client)
                    if not client.connected:
                        self._await_transition()
                    elif not self._advance(client):
                        self._settle()
        except _StoppedError:
            pass

    def stop(self) -> None:
        """End `run`, soon."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()

    # What kazoo's threads call: they note what happened, and no more.

    def _note_state(self, client: Any, state: str) -> None:
        refused = client.client_state == KeeperState.AUTH_FAILED
        self._session = (client.client_id or [self._session])[0]  # none while there is no connection
        with self._wake:
            self._transitions.append(Transition(state, self._session, refused))
            self._wake.notify_all()

    def _note_event(self, event: Any) -> None:
        if event.type == EventType.NONE:
            return  # of the connection, which tells its state itself
        with self._wake:
            self._noticed.add(event.path)
            self._wake.notify_all()

    # What the loop does.

    def _deliver(self, event: dict[str, Any]) -> None:
        """Send an event and wait until it is taken, however long."""
        taken = self._send(event)
        while True:
            try:
                return taken.result(PAUSE)
            except concurrent.futures.TimeoutError as exc:
                if self._stopped:
                    taken.cancel()
                    raise _StoppedError from exc

    def _tell_session(self, client: Any) -> None:
        """Tell how the session's state has changed; after each connection everything is read again."""
        while self._transitions:
            state, session, refused = self._transitions.popleft()
            if refused:
                raise ConnectError("ZooKeeper refused the credentials; nothing can be watched any more")
            if state == KazooState.CONNECTED:
                self._read_anew(client)
            if self._options.session and self._told_before:
                self._deliver(session_event(state.lower(), session))
            self._told_before = True

    def _read_anew(self, client: Any) -> None:
        self._connected_at = time.monotonic()
        self._refused.clear()
        self._refused_before.clear()
        client.sync_async("/")  # answered before what is asked next: this member may be behind the last one
        for watch in self._options.watches:
            watch.reread()

    def _advance(self, client: Any) -> bool:
        """Read the next few znodes and tell what has changed; False where there is nothing to read."""
        batch = self._next_batch()
        if not batch:
            return False
        answers = self._read(client, batch)
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
        """The next znodes to be read, those of one watch in the order in which it wants them."""
        if not any(watch.unread for watch in self._options.watches):
            self._take_notices()
        batch: list[tuple[Watch, str]] = []
        for watch in self._options.watches:
            for path in list(itertools.islice(watch.unread, BATCH - len(batch))):
                del watch.unread[path]
                batch.append((watch, path))
        return batch

    def _take_notices(self) -> None:
        """All has been read, so what was noticed since then is news."""
        with self._wake:
            noticed, self._noticed = self._noticed, set()
        again = [one for one, when in self._refused.items() if when <= time.monotonic()]
        for one in again:
            del self._refused[one]
        for watch in self._options.watches:
            watch.synced = True
        for watch, path in [*((watch, path) for path in sorted(noticed) for watch in self._options.watches), *again]:
            watch.notice(path)

    def _read(self, client: Any, batch: Sequence[tuple[Watch, str]]) -> list[Found | Exception | None] | None:
        """What is at each path, in order, each with a watch; None where there is no answer, or not yet."""
        wanted = [(path, watch.want(path)) for watch, path in batch]
        try:
            asked = [(path, want, self._ask(client, path, want)) for path, want in wanted if want]
            answers = iter([self._found(client, path, want, one) for path, want, one in asked])
            return [next(answers) if want else None for _path, want in wanted]
        except _NoAnswerError:
            return None

    def _ask(self, client: Any, path: str, want: Want) -> tuple[Any, Any]:
        value = client.get_async(path, self._note_event) if want.value else None
        names = client.get_children_async(path, self._note_event, include_data=True) if want.names else None
        return value, names

    def _found(self, client: Any, path: str, want: Want, asked: tuple[Any, Any]) -> Found | Exception | None:
        try:
            data, stat = self._answer(client, asked[0]) if asked[0] else (b"", None)
            names, directory = self._answer(client, asked[1]) if asked[1] else ((), None)
            return Found(stat or directory, data or b"", set(names))
        except kazoo_errors.NoNodeError:
            if want.awaited:
                self._await(client, path)
            return None
        except kazoo_errors.NoAuthError as exc:
            if time.monotonic() < self._connected_at + GRACE:
                raise _NoAnswerError from exc
            return exc

    def _await(self, client: Any, path: str) -> None:
        """Set a watch for a znode that isn't there. One that has come by now is read once more."""
        if self._answer(client, client.exists_async(path, self._note_event)):
            raise _NoAnswerError

    def _answer(self, client: Any, asked: Any) -> Any:
        """The answer; requests wait in kazoo for as long as there is no connection, so look up from time to time."""
        while True:
            try:
                return asked.get(timeout=PAUSE)
            except KazooTimeoutError as exc:
                if self._stopped:
                    raise _StoppedError from exc
                if not client.connected:
                    raise _NoAnswerError from exc
            except (
                kazoo_errors.ConnectionLoss,
                kazoo_errors.SessionExpiredError,
                kazoo_errors.ConnectionClosedError,
                kazoo_errors.OperationTimeoutError,
                kazoo_errors.AuthFailedError,
            ) as exc:
                raise _NoAnswerError from exc

    def _note_refusal(self, watch: Watch, path: str, error: Exception) -> None:
        """Permission was denied. At the beginning that is an error; later on it may be granted again."""
        text = f"{path}: {explain(error)}"
        if path == watch.root and not watch.synced:
            raise ZooKeeperError(text, path=path)
        if (watch, path) not in self._refused_before:
            self._refused_before.add((watch, path))
            self._warn(f"{text}; asked for again every {REFUSED_AGAIN:g} s")
        self._refused[watch, path] = time.monotonic() + REFUSED_AGAIN

    def _settle(self) -> None:
        """All is read: tell what was held back until now, then wait for the next thing to happen."""
        for watch in self._options.watches:
            for event in watch.overdue():
                self._deliver(event)
        deadlines = [watch.next_deadline() for watch in self._options.watches]
        known = [one for one in (*deadlines, *self._refused.values()) if one is not None]
        self._rest(max(0.0, min(known) - time.monotonic()) if known else None)

    def _await_transition(self) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._transitions or self._stopped)

    def _rest(self, seconds: float | None) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._noticed or self._transitions or self._stopped, seconds)


class _NoAnswerError(Exception):
    """There is no connection now, or what was read is old by now: read again."""


class _StoppedError(Exception):
    """Nobody wants the events any more."""
