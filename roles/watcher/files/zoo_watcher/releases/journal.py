# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers across restarts: healthy commits, their places, what failed, what is being tried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from zoo_watcher.frozen import dataclass
from zoo_watcher.host.filesystem import load_json, read_json, write_durably_though_full
from zoo_watcher.wire.records import COMMIT_ID, GAVE_UP, InvalidRelease, check_relative_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_PLACES = 100
"""How many places are remembered, the ones used last."""


@dataclass(frozen=True)
class Failure:
    """A generation that is not tried again: how it ended (`failed` or `rolled_back`) and why.

    A rebuilt ensemble may give the generation to another commit; journals of older versions have no commit.
    """

    generation: int
    state: str
    message: str
    commit_id: str | None = None


@dataclass(frozen=True)
class Attempt:
    """A release whose activation at `path` has begun and has no outcome yet.

    `times` is how often an agent died meanwhile, plus one while an agent is working on it. Journals of older versions
    have no path. `is_used` tells that hook and units were done since it went live. If the host rolls back to it, `left`
    is the commit that it leaves at `left_path`, whose generation this is, and `why` says what has happened; older
    versions note no `left_path`. `broken_off` is how often an agent that had run hooks or units meanwhile was stopped
    on purpose.
    """

    generation: int
    commit_id: str
    times: int
    path: str | None = None
    is_used: bool = False
    left: str | None = None
    why: str = ""
    broken_off: int = 0
    left_path: str | None = None

    def leaves(self, commit_id: str, path: str | None) -> bool:
        """Whether it is the rollback from this commit at this place."""
        return self.left == commit_id and (self.left_path is None or self.left_path == path)


@dataclass(frozen=True)
class Place:
    """Where releases were activated, and the commits that were healthy there, the latest first.

    `before` is the target of the symlink there before the first of them; None if there was no symlink. `is_used` is
    False from when the host rolls back to a release there until hook and units have succeeded for one.
    """

    path: str
    healthy: tuple[str, ...] = ()
    before: str | None = None
    is_used: bool = True


@dataclass(frozen=True)
class ReleaseJournal:
    """`healthy` has the commits that were active and healthy, the latest first, each once.

    `places` has all places at which a release was activated, the one used last first. `begun` has the attempts without
    an outcome: the current one first, then those at releases that may still be live, at whatever place.
    """

    healthy: tuple[str, ...] = ()
    failure: Failure | None = None
    places: tuple[Place, ...] = ()
    begun: tuple[Attempt, ...] = ()

    @classmethod
    def load(cls, path: Path) -> ReleaseJournal:
        """The journal in a file; an empty one if none can be read, since it is only a memory."""
        return load_json(path, cls._from_object, cls())

    @classmethod
    def read(cls, path: Path) -> ReleaseJournal:
        """As `load`, for callers that may overwrite it. Raises `OSError` if there is one that can't be read now."""
        return read_json(path, cls._from_object, cls())

    @classmethod
    def _from_object(cls, record: Mapping[str, Any]) -> ReleaseJournal:
        return cls(
            _commits(record),
            _failure(record.get("failure")),
            _places(record.get("places")),
            _begun(record),
        )

    def save(self, path: Path) -> None:
        """Write the journal, durably. Raises `OSError`."""
        write_durably_though_full(path, json.dumps(asdict(self)))

    def place(self, path: str) -> Place:
        """What is remembered about a place; nothing about one that has never been used."""
        return next((place for place in self.places if place.path == path), Place(path))

    def is_proved(self, commit_id: str, path: str) -> bool:
        """Whether `commit_id` was the last to be healthy, at this place, is used, and was not begun again since."""
        last, place = (commit_id,), self.place(path)
        was_healthy_last = self.healthy[:1] == last and place.healthy[:1] == last
        return was_healthy_last and place.is_used and self.unproved(commit_id, path) is None

    def lacks_proof(self, commit_id: str, path: str) -> bool:
        """Whether `commit_id` was never healthy at a place where it is live, or has been begun again since."""
        return commit_id not in self.place(path).healthy or self.unproved(commit_id, path) is not None

    def with_place(self, path: str, live: str | None, link: str | None) -> ReleaseJournal:
        """The journal before a release is activated at a place where the commit `live` is, and the symlink `link`."""
        known = self.place(path)
        if known in self.places and (known.healthy or live):
            return self._with(known)
        return self._with(Place(path, self._healthy_where(live), link))

    def _healthy_where(self, live: str | None) -> tuple[str, ...]:
        """The commits that were healthy at a place that is not remembered, from the commit that is live there."""
        if live is None:
            return ()
        # Earlier versions of the agent remembered no places: then all were healthy at the one in use.
        return (live,) if self.places else self.healthy

    def with_healthy(self, commit_id: str, path: str, keep: int) -> ReleaseJournal:
        """The journal after `commit_id`, and the host, was seen healthy; the newest `keep` are remembered.

        What is live at another place is no longer owed a check, but its hook and units, if these were not done.
        """
        place = self.place(path)
        healthy = replace(place, healthy=_with_first(commit_id, place.healthy, keep), is_used=True)
        latest = _with_first(commit_id, self.healthy, keep)
        others = (one for one in self.begun if one.path not in {None, path} and not one.leaves(commit_id, path))
        owed = (one for one in others if not one.is_used)
        return replace(self._with(healthy), healthy=latest, begun=tuple(owed))

    def _with(self, place: Place) -> ReleaseJournal:
        others = [other for other in self.places if other.path != place.path]
        return replace(self, places=(place, *others)[:MOST_PLACES])

    def with_used(self, path: str, *, is_used: bool) -> ReleaseJournal:
        """The journal after hook and units have succeeded, or not, for what the host has rolled back to at a place."""
        marked = (replace(place, is_used=is_used) if place.path == path else place for place in self.places)
        return replace(self, places=tuple(marked))

    def without_places(self, is_unused: Callable[[str], bool]) -> ReleaseJournal:
        """The journal without the places whose path is unused."""
        return replace(self, places=tuple(place for place in self.places if not is_unused(place.path)))

    def with_failure(self, failure: Failure) -> ReleaseJournal:
        """The journal after a generation failed."""
        return replace(self, failure=failure)

    def with_doubt(self, reason: str) -> ReleaseJournal:
        """The journal after what is live has failed as well: then rolling back to it has failed, whatever it seemed."""
        failure = self.failure
        if failure is None or failure.state != "rolled_back":
            return self
        return self.with_failure(replace(failure, state="failed", message=f"{failure.message}; {reason}"))

    def without_release(self, commit_id: str, path: str) -> ReleaseJournal:
        """The journal after a commit at a place has got its outcome: nothing is owed to it, or for leaving it."""
        back = self.unproved(commit_id, path)

        def is_over(one: Attempt) -> bool:
            is_left = one.leaves(commit_id, path) or (back is not None and back.leaves(one.commit_id, one.path))
            return one.path is None or (one.commit_id, one.path) == (commit_id, path) or is_left

        return replace(self, begun=tuple(one for one in self.begun if not is_over(one)))

    def attempts(self, generation: int, commit_id: str) -> int:
        """How often the activation of this release was begun without coming to an end."""
        return max((one.times for one in self._begun_before(generation, commit_id)), default=0)

    def broken_off(self, generation: int, commit_id: str) -> int:
        """How often the activation of this release was broken off on purpose after hooks or units were run."""
        return max((one.broken_off for one in self._begun_before(generation, commit_id)), default=0)

    def _begun_before(self, generation: int, commit_id: str) -> list[Attempt]:
        return [one for one in self.begun if (one.generation, one.commit_id, one.left) == (generation, commit_id, None)]

    def unproved(self, commit_id: str | None, path: str) -> Attempt | None:
        """The attempt at a commit that is live at a place, if it has no outcome yet."""
        return next((one for one in self.begun if (one.commit_id, one.path) == (commit_id, path)), None)

    def with_attempt(self, generation: int, commit_id: str, path: str, live: str | None) -> ReleaseJournal:
        """The journal before a release is activated at a place where the commit `live` is."""
        times, broken_off = self.attempts(generation, commit_id) + 1, self.broken_off(generation, commit_id)
        return self._begin(Attempt(generation, commit_id, times, path, broken_off=broken_off), live)

    def with_return(self, generation: int, left: tuple[str, str], target: tuple[str, str], why: str) -> ReleaseJournal:
        """The journal before the host rolls back, from a commit that is live at a place to one at the same or another.

        `generation` is that of the commit being left, if there is no attempt at it.
        """
        known = self.unproved(*target)
        if known and known.left is None:
            # It was never proved itself: all is owed to it again.
            again = (replace(one, is_used=False) if one is known else one for one in self.begun)
            return replace(self, begun=tuple(again))
        failed = self.unproved(*left)
        back = Attempt(
            failed.generation if failed else generation,
            target[0],
            (known.times if known else 0) + 1,
            target[1],
            left=left[0],
            left_path=left[1],
            why=why,
            # A release that restarts the agent does so during the rollback as well.
            broken_off=max((one.broken_off for one in (failed, known) if one), default=0),
        )
        return self.with_used(target[1], is_used=False)._begin(back, left[0])

    def with_check(self, commit_id: str, path: str, generation: int) -> ReleaseJournal:
        """The journal before what is live and unproved is checked; `generation` is its own, if that is not known."""
        known = self.unproved(commit_id, path) or Attempt(generation, commit_id, 0, path)
        return self._begin(replace(known, times=known.times + 1), None)

    def _begin(self, attempt: Attempt, live: str | None) -> ReleaseJournal:
        """The journal with this attempt; others at its place are no longer live, except one at the commit `live`."""

        def lasts(other: Attempt) -> bool:
            if other.path == attempt.path:
                return other.commit_id == live and live != attempt.commit_id
            return other.path is not None

        return replace(self, begun=(attempt, *filter(lasts, self.begun))[:MOST_PLACES])

    def with_use(self, commit_id: str, path: str) -> ReleaseJournal:
        """The journal after hook and units were done for a commit that is live at a place."""
        used = tuple(
            replace(one, is_used=True) if (one.commit_id, one.path) == (commit_id, path) else one for one in self.begun
        )
        return replace(self, begun=used)

    def without_attempt(self) -> ReleaseJournal:
        """The journal after the activation, or the rollback, was broken off on purpose: this time does not count."""
        if not self.begun:
            return self
        present, *others = self.begun
        return replace(
            self,
            begun=(
                _once_less(present),
                *(_once_less(one) if present.leaves(one.commit_id, one.path) else one for one in others),
            ),
        )

    def with_broken_off(self) -> ReleaseJournal:
        """The journal after an agent that had run hooks or units for the last attempt was stopped on purpose."""
        present, others = self.begun[:1], self.begun[1:]
        return replace(self, begun=(*(replace(one, broken_off=one.broken_off + 1) for one in present), *others))

    def without_failure(self) -> ReleaseJournal:
        """The journal before a generation is tried again at a person's request."""
        return replace(self, failure=None)

    def failed(self, generation: int, commit_id: str) -> Failure | None:
        """How `generation`, of this commit, failed here, or None."""
        failure = self.failure
        if failure is None or failure.generation != generation or failure.commit_id not in {None, commit_id}:
            return None
        return failure


class KnownJournal:
    """The journal of a base, for the loop and what it has started. What can't be written now counts anyway.

    It is read once, until `forget`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: ReleaseJournal | None = None
        self._owed: ReleaseJournal | None = None
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Read it again the next time."""
        self._read = None

    def drop(self) -> None:
        """Forget also what is still to be written: another base is there now."""
        self._owed = None
        self.forget()

    def read(self) -> ReleaseJournal:
        """What is remembered. Raises `OSError` if that can't be read now."""
        known = self._owed or self._read
        if known is None:
            known = self._read = ReleaseJournal.read(self._path)
        return known

    def load(self) -> ReleaseJournal:
        """As `read`; an empty one if it can't be read."""
        try:
            return self.read()
        except OSError:
            return ReleaseJournal()

    def save(self, journal: ReleaseJournal) -> None:
        """Write another one durably. Raises `OSError`: then it is as before."""
        with self._lock:
            self.forget()
            journal.save(self._path)
            self._owed = None

    def remember(self, journal: ReleaseJournal) -> OSError | None:
        """Make another one count from now on; returns why it can't be written now, if so. Then `settle` writes it."""
        with self._lock:
            self._owed = journal
            return self._write_owed()

    def settle(self) -> OSError | None:
        """Write what is still to be written; returns why that fails, if so. Does not wait for another writer."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._write_owed()
        finally:
            self._lock.release()

    def _write_owed(self) -> OSError | None:
        owed = self._owed
        try:
            if owed:
                owed.save(self._path)
        except OSError as exc:
            return exc
        self.forget()
        self._owed = None
        return None


def _with_first(commit_id: str, others: tuple[str, ...], keep: int) -> tuple[str, ...]:
    return (commit_id, *(other for other in others if other != commit_id))[:keep]


def _commits(record: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(commit_id for commit_id in record["healthy"] if COMMIT_ID.fullmatch(commit_id))


def _places(records: object) -> tuple[Place, ...]:
    """The places in a journal; one that can't be read is left out, without affecting the others."""
    if not isinstance(records, list):
        return ()
    return tuple(place for place in map(_place, records[:MOST_PLACES]) if place is not None)


def _place(record: Mapping[str, Any]) -> Place | None:
    try:
        before = record.get("before")
        known = None if before is None else str(before)
        return Place(check_relative_path(record["path"]), _commits(record), known, bool(record.get("is_used", True)))
    except (AttributeError, KeyError, TypeError, InvalidRelease):
        return None


def _once_less(attempt: Attempt) -> Attempt:
    return replace(attempt, times=max(0, attempt.times - 1))


def _begun(record: Mapping[str, Any]) -> tuple[Attempt, ...]:
    """The attempts in a journal; older versions had two keys for them."""
    records = record.get("begun", [record.get("attempt"), record.get("interrupted")])
    if not isinstance(records, list):
        return ()
    return tuple(attempt for attempt in map(_attempt, records[:MOST_PLACES]) if attempt is not None)


def _attempt(record: Any) -> Attempt | None:
    """An attempt in a journal; None if it can't be read."""
    try:
        path, left, left_path = record.get("path"), record.get("left"), record.get("left_path")
        return Attempt(
            int(record["generation"]),
            str(record["commit_id"]),
            int(record["times"]),
            None if path is None else str(path),
            bool(record.get("is_used", False)),
            None if left is None else str(left),
            str(record.get("why", "")),
            int(record.get("broken_off", 0)),
            None if left_path is None else str(left_path),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _failure(record: Mapping[str, Any] | None) -> Failure | None:
    if not record or record["state"] not in GAVE_UP:
        return None
    commit_id = record.get("commit_id")
    known = None if commit_id is None else str(commit_id)
    return Failure(int(record["generation"]), str(record["state"]), str(record["message"]), known)
