# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kazoo's threads, which report when one of them has ended: kazoo itself restarts none."""

from __future__ import annotations

import contextlib
import queue
import sys
from collections.abc import Callable

from kazoo.handlers.threading import SequentialThreadingHandler

from zoo_watcher.host.thread import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class KazooThreads(SequentialThreadingHandler):
    """Runs the connection, the callbacks of watches and those of answers, each in a thread of its own.

    The first ends by any error that kazoo does not expect, such as too many open files while a name is resolved; the
    others by anything that is not an `Exception`, or by running out of memory while an error is logged. `ended` is then
    called.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__()
        self.broken = False
        """Whether one of the threads has ended, or could not be started."""
        self.reason = ""
        """What ended it, for a person."""
        self._ended = ended

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Start a thread for kazoo. Raises `RuntimeError` if it can't be started."""
        thread = Thread(target=self._run, args=(func, *args), kwargs=kwargs, daemon=True)
        thread.start()
        return thread

    def _run(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            func(*args, **kwargs)
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it has ended the thread
            self.note_end(exc)
        else:
            self.note_end(None)
        self._ended()

    def note_end(self, error: BaseException | None) -> None:
        """Note that a thread is missing, and the first error that was the cause."""
        if error is not None and not self.reason:
            self.reason = f"{type(error).__name__}: {error}"
        self.broken = True

    def end(self) -> None:
        """End the threads for callbacks; this thread delivers the events that watches have not received yet."""
        callbacks, completions = self.callback_queue, self.completion_queue
        self.stop()
        _run_rest(callbacks)
        for left in (callbacks, completions):
            # If only one of the two threads could be started, `stop` does nothing: this ends that one.
            left.put(sys.exit)


def _run_rest(callbacks: queue.Queue[Any]) -> None:
    while True:
        try:
            callback = callbacks.get_nowait()
        except queue.Empty:
            return
        # After a first `end`, there is a call that ends a thread: it must not end this one.
        if callable(callback) and callback is not sys.exit:
            with contextlib.suppress(Exception):
                callback()
