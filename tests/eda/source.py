"""The event source as ansible-rulebook runs it: its file run by `runpy`, with a queue that holds one event."""

from __future__ import annotations

import asyncio
import runpy
import threading
from pathlib import Path
from typing import Any

from support.waiting import wait_for

FILE = Path(__file__).resolve().parents[2] / "extensions" / "eda" / "plugins" / "event_source" / "zk_watch.py"


class Source:
    """A running source. `events` holds what it has sent, without the outermost `zk`; `error` is what ended it."""

    def __init__(self, **args: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.error: BaseException | None = None
        self._args = args
        self._loop = asyncio.new_event_loop()
        self._takes = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Source:
        """Start it, and take its events."""
        self._takes.set()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop it as a rulebook that is stopped does."""
        if self._task is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def hold(self) -> None:
        """Take no more events, like a busy rulebook."""
        self._loop.call_soon_threadsafe(self._takes.clear)

    def go_on(self) -> None:
        """Take events again."""
        self._loop.call_soon_threadsafe(self._takes.set)

    def all(self, **wanted: Any) -> list[dict[str, Any]]:
        """The events that have these keys with these values."""
        return [event for event in list(self.events) if wanted.items() <= event.items()]

    def one(self, **wanted: Any) -> dict[str, Any]:
        """Wait for an event that has these keys with these values, and return the first."""

        def found() -> list[dict[str, Any]]:
            if self.error is not None:
                raise AssertionError(f"the source has ended: {self.error!r}")
            return self.all(**wanted)

        return wait_for(found, f"an event with {wanted}; there are {self.events}")[0]

    def changes(self, **wanted: Any) -> list[tuple[str, str]]:
        """The change and the path of each event that has these keys with these values."""
        return [(event["change"], event.get("path", "")) for event in self.all(**wanted)]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except asyncio.CancelledError:
            pass
        except Exception as exc:  # noqa: BLE001 - whatever ends the source is for the test to see
            self.error = exc

    async def _main(self) -> None:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)
        self._task = asyncio.current_task()
        taker = asyncio.create_task(self._take(queue))
        try:
            await runpy.run_path(str(FILE))["main"](queue, self._args)
        finally:
            taker.cancel()

    async def _take(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        while True:
            await self._takes.wait()
            self.events.append((await queue.get())["zk"])
