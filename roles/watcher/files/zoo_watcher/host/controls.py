# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person on this host tells the agent to do: stay at its release, register nothing, try again what failed.

Each is a marker, a small JSON file below `.zoo/controls`, so that it outlasts the agent and a reboot of the host. The
commands of `zoo-watcher` write them; the agent reads them in each turn of its loop.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

from zoo_watcher.frozen import dataclass

from .filesystem import FULL, NotRegularError, make_directory, read_regular, sync_directory, write_durably
from .layout import READABLE, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HELD = "held"
DRAINED = "drained"
RETRY = "retry"
"""The names of the markers; the last is a request, which is deleted once it is answered."""
HOLDING = "holding"
"""The key of the status file for what a hold does to the deployment in progress."""
LONGEST_REASON = 200
"""The most characters of a reason."""


@dataclass(frozen=True)
class Mark:
    """Since when (RFC 3339) a control is set, why, and by whom. `damage` is what is wrong with its file.

    `request` tells one request from another made at the same instant.
    """

    since: str
    reason: str
    by: str
    damage: str | None = None
    request: str = ""

    def to_object(self) -> dict[str, str]:
        """Its form in the agent's status."""
        return {"since": self.since, "reason": self.reason, "by": self.by}


class Controls:
    """What the markers say: `held`, `drained`, and `retry`, a request that is not answered yet.

    A damaged marker counts, to be on the safe side. One that can't be read now says what it said before.
    """

    def __init__(self, layout: Layout) -> None:
        self.held: Mark | None = None
        self.drained: Mark | None = None
        self.retry: Mark | None = None
        self.troubles: list[str] = []
        """A line for each marker that can't be read."""
        self.answer: Mapping[str, Any] | None = None
        """The answer to the last request."""
        self._layout = layout
        self._known: dict[str, Mark | None] = {RETRY: None}

    def refresh(self) -> None:
        """Read the markers."""
        self.troubles = []
        self.held = self._read(HELD)
        self.drained = self._read(DRAINED)
        request = self._read(RETRY)
        is_answered = request is None or request.damage or answers(self.answer, request)
        self.retry = None if is_answered else request

    def _read(self, name: str) -> Mark | None:
        path = self._layout.control(name)
        try:
            mark = read_mark(path)
        except NotADirectoryError:
            # There can be no marker.
            trouble = f"{self._layout.controls}: not a directory; move it away"
            self.troubles += [trouble] if trouble not in self.troubles else []
            return self._known.setdefault(name, None)
        except OSError as exc:
            self.troubles.append(f"{path}: {exc.strerror}")
            if name not in self._known:
                self._known[name] = _damaged(now(), f"{path}: {exc.strerror}")
            return self._known[name]
        self._known[name] = mark
        if mark and mark.damage:
            self.troubles.append(mark.damage)
        return mark

    def answer_retry(self, request: Mark, message: str, *, done: bool) -> None:
        """Report the result of a request, which is thereby answered."""
        self.answer = {"since": request.since, "request": request.request, "done": done, "message": message}
        self.retry = None
        # A request that can't be deleted is not answered again, except by a restarted agent.
        with contextlib.suppress(OSError):
            _remove_answered(self._layout, request)


def name_of(generation: int) -> str:
    """What a retry is about, in words: a negative generation is that of the release that a rollout rolls back to."""
    return f"generation {generation}" if generation > 0 else "the previous release"


def refuse_retry(held: Mark | None, generation: int | None, state: str | None, *, has_failed: bool) -> str | None:
    """Why the published `generation` is not tried again; None if it is. `state` is the agent's state in it, if any."""
    if generation is None:
        return "nothing to retry: nothing is published"
    what = name_of(generation)
    if state and not has_failed:
        return f"nothing to retry: {what} is {state} here"
    if held:
        return f"{what} is not tried: held since {held.since}; release it first"
    return None if has_failed else f"nothing to retry: {what} has not been tried here yet"


def answers(answer: Mapping[str, Any] | None, request: Mark) -> bool:
    """Whether an answer is to this request."""
    if not answer:
        return False
    return (answer.get("since"), answer.get("request")) == (request.since, request.request)


def read_mark(path: Path) -> Mark | None:
    """The marker in a file; None if there is none. Raises `OSError` if it can't be read."""
    try:
        text = read_regular(path)
    except FileNotFoundError:
        return None
    except NotRegularError as exc:
        return _damaged(_written(path), f"{path}: {exc.strerror}")
    try:
        record = json.loads(text.decode("utf-8"))
        values = [record[key] for key in ("since", "reason", "by")]
        request = record.get("request", "")
    except (ValueError, TypeError, KeyError, RecursionError):
        values, request = [], ""
    if not values or not all(isinstance(value, str) and len(value) <= LONGEST_REASON for value in [*values, request]):
        return _damaged(_written(path), f"{path}: expected a JSON object with since, reason and by")
    since, reason, by = values
    return Mark(since, reason, by, request=request)


def _damaged(since: str, damage: str) -> Mark:
    return Mark(since, f"its marker is damaged, {damage}", "unknown", damage)


def _written(path: Path) -> str:
    """When a file was written, as far as that is known."""
    try:
        return datetime.fromtimestamp(os.lstat(path).st_mtime, timezone.utc).isoformat(timespec="seconds")
    except (OSError, OverflowError, ValueError):
        return "unknown"


def write_mark(layout: Layout, name: str, reason: str, by: str) -> Mark:
    """Create a marker durably, replacing any; on a full disk an empty one, whose `damage` says so.

    Raises `OSError`; `NotRegularError` if a directory is there.
    """
    place = layout.control(name)
    with _marked_aside(layout, name, reason, by) as (mark, aside):
        try:
            os.replace(aside, place)
        except IsADirectoryError as exc:
            raise NotRegularError(place) from exc
    sync_directory(layout.controls)
    return mark


def make_mark(layout: Layout, name: str, reason: str, by: str) -> Mark:
    """The existing marker if it is not damaged, else a new one, as by `write_mark`. Raises `OSError`.

    If several people create one at once, one of them does, and the others get that.
    """
    place = layout.control(name)
    mark = read_mark(place)
    while mark is None:
        with _marked_aside(layout, name, reason, by) as (new, aside):
            try:
                os.link(aside, place)
            except FileExistsError:
                mark = read_mark(place)
            else:
                sync_directory(layout.controls)
                return new
    if mark.damage:
        return write_mark(layout, name, reason, by)
    sync_directory(layout.controls)
    return mark


@contextlib.contextmanager
def _marked_aside(layout: Layout, name: str, reason: str, by: str) -> Iterator[tuple[Mark, Path]]:
    """A new marker in a file of this process only, which is deleted after the block."""
    mark = Mark(now(), reason, by, request=os.urandom(8).hex() if name == RETRY else "")
    left_out = {key for key in ("damage", "request") if not getattr(mark, key)}
    for directory in (layout.own, layout.controls):
        make_directory(directory, READABLE)
    aside = layout.control(f".{name}.{os.getpid()}")
    try:
        try:
            write_durably(aside, json.dumps({key: value for key, value in asdict(mark).items() if key not in left_out}))
        except OSError as exc:
            if exc.errno not in FULL or name == RETRY:
                raise
            # An empty one takes no space, and counts like any damaged marker.
            write_durably(aside, "")
            mark = replace(mark, since=_written(aside), damage=f"its reason is not noted: {exc.strerror}")
        yield mark, aside
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()


def remove_mark(layout: Layout, name: str) -> bool:
    """Delete a marker durably; returns whether there was one. Raises as `write_mark`."""
    place = layout.control(name)
    try:
        place.unlink()
    except FileNotFoundError:
        return False
    except IsADirectoryError as exc:
        raise NotRegularError(place) from exc
    sync_directory(layout.controls)
    return True


def _remove_answered(layout: Layout, request: Mark) -> None:
    """Delete a request durably; a newer one, which may appear at any instant, stays. Raises `OSError`."""
    place, aside = layout.control(RETRY), layout.control(f".answered.{RETRY}")
    os.rename(place, aside)
    if read_mark(aside) != request:
        # Unless an even newer one has taken its place.
        with contextlib.suppress(FileExistsError):
            os.link(aside, place)
    aside.unlink()
    sync_directory(layout.controls)


def now() -> str:
    """The current time."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
