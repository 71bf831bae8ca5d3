# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of an application: while somebody holds it, nothing is published and no rollout is promoted.

`<app>/lock` is created by the first to publish or lock, and stays; it has no value while nobody holds the lock. A
publisher checks in its own transaction that the znode still has the version that was read, so a lock that is taken in
between is not missed.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from .connection import KAZOO_IMPORT_ERROR, Overtaken, ZooKeeperError, explain, is_outage, translated
from .records import AppPaths, InvalidRecord, _key, _Record, quote
from .znode_names import printable
from .zookeeper import outlasting

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, NoNodeError

FREE = b""
"""The value of the znode while nobody holds the lock."""
ANY_VERSION = -1
"""The version that matches any in ZooKeeper."""
LONGEST_SHOWN = 500
"""Characters of a reason that are shown, from its beginning."""
LEAST_ANSWER = 2.0
"""Seconds that an answer may take in any case, even at the end of a wait."""
PAUSE = 0.2
"""Seconds before an ensemble that did not answer is asked again."""
MOST_DAYS = 3650
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd]?)")
_MOMENT = re.compile(
    r"([0-9]{4}(?:-[0-9]{2}){2})[Tt ]([0-9]{2}(?::[0-9]{2}){2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
Result = TypeVar("Result")


class Locked(ZooKeeperError):
    """Somebody holds the lock. `advice` is what can be done about it."""

    def __init__(self, lock: Lock, now: datetime, advice: str) -> None:
        remedy = "" if lock.readable else "give those of somebody whom it allows; "
        super().__init__(f"{lock.path}: {lock.describe(now)}; {remedy}{advice}", lock=lock.to_object(now))
        if not lock.readable:  # so that the error tells who was refused
            self.__cause__ = NoAuthError()
        self.lock = lock
        self.advice = advice


@dataclass(frozen=True)
class LockRecord(_Record):
    """Who holds the lock, since when and until when (RFC 3339), and why; without `until` it does not expire."""

    reason: str = _key("reason", default="")
    by: str = _key("by", default="")
    since: str = _key("since", default="")
    until: str | None = _key("until", default=None)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("reason", "by", "since"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InvalidRecord(f"{name}: expected a string, got {quote(value)}")
        if self.until is not None:
            parse_moment("until", self.until)


@dataclass(frozen=True)
class Lock:
    """`<app>/lock` as it was read: who holds it, or the `problem` with its value; both None if nobody does.

    `version` is None if the znode does not exist. One that is not `readable` can't be checked in a transaction either.
    """

    path: str
    version: int | None = None
    record: LockRecord | None = None
    problem: str | None = None
    readable: bool = True

    @classmethod
    def from_node(cls, path: str, data: bytes | None, version: int) -> Lock:
        """The lock in a node's bytes. An unreadable value may be a lock, so it counts as one."""
        if not data:
            return cls(path, version)
        try:
            return cls(path, version, LockRecord.from_node(data))
        except InvalidRecord as exc:
            return cls(path, version, problem=str(exc))

    def seconds_left(self, now: datetime) -> float:
        """Seconds until it expires; infinite if it does not expire, 0 or less if it has."""
        if self.record is None or self.record.until is None:
            return float("inf")
        return (parse_moment("until", self.record.until) - now).total_seconds()

    def holds(self, now: datetime) -> bool:
        """Whether it keeps publishers from publishing."""
        return self.problem is not None or (self.record is not None and self.seconds_left(now) > 0)

    def describe(self, now: datetime) -> str:
        """Who holds it, since when, until when and why, in one line."""
        if not self.readable:
            return f"whether somebody holds the lock can't be read: {self.problem}"
        if self.problem is not None:
            return f"locked, but who holds the lock and why can't be read: {self.problem}"
        if self.record is None:
            return "not locked"
        by, since, why = plain(self.record.by), plain(self.record.since), plain(self.record.reason)
        if not self.holds(now):
            return f"the lock of {by} since {since} expired at {self.record.until}: {why}"
        until = f"until {self.record.until}" if self.record.until else "without an end"
        return f"locked by {by} since {since} {until}: {why}"

    def to_object(self, now: datetime) -> dict[str, Any] | None:
        """The part of a module's result about it; None if nobody has locked, or it was unlocked since."""
        if self.record is None and self.problem is None:
            return None
        found = self.record.to_object() if self.record else {}
        return {
            **{key: found.get(key) for key in ("by", "since", "until", "reason")},
            "expired": not self.holds(now),
            "problem": self.problem,
            "says": self.describe(now),
        }


def plain(text: str) -> str:
    """Somebody else's text for a message: one line of printable characters, not too long."""
    return printable(" ".join(text.split()))[:LONGEST_SHOWN]


def parse_moment(name: str, text: object) -> datetime:
    """A time in RFC 3339, with its offset from UTC. Raises an `InvalidRecord` that begins with `name`."""
    match = _MOMENT.fullmatch(text) if isinstance(text, str) else None
    if match:
        offset = "+00:00" if match[3] in "Zz" else match[3]
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(f"{match[1]}T{match[2]}{offset}")
    raise InvalidRecord(f"{name}: expected a time such as 2026-11-29T18:00:00+01:00, got {quote(text)}")


def parse_duration(name: str, text: str) -> timedelta:
    """A time span such as `90` (seconds), `30m`, `2h` or `1d`. Raises an `InvalidRecord` that begins with `name`."""
    match = _DURATION.fullmatch(text.strip())
    span = timedelta(seconds=int(match[1]) * UNITS[match[2]]) if match else timedelta()
    if not timedelta() < span <= timedelta(days=MOST_DAYS):
        expected = f"seconds, or a number with s, m, h or d, such as 30m, up to {MOST_DAYS}d"
        raise InvalidRecord(f"{name}: expected {expected}, got {quote(text)}")
    return span


def end_of_lock(expires_after: str | None, expires_at: str | None, now: datetime) -> str | None:
    """When a lock taken `now` expires, RFC 3339, by one of the two options. Raises `InvalidRecord`."""
    if expires_after is not None:
        return (now + parse_duration("expires_after", expires_after)).isoformat(timespec="seconds")
    if expires_at is None:
        return None
    end = parse_moment("expires_at", expires_at)
    if end <= now:
        raise InvalidRecord(f"expires_at: {expires_at} has passed; it is {now.isoformat(timespec='seconds')}")
    return end.isoformat(timespec="seconds")


def right_now() -> datetime:
    """The time on this machine."""
    return datetime.now(timezone.utc)


def read_lock(client: KazooClient, paths: AppPaths) -> Lock:
    """The lock; asks the leader, to see the last write. Raises `ZooKeeperError`.

    A lock without read permission counts as one with an unreadable value.
    """
    with translated(paths.lock):
        client.sync(paths.lock)
        try:
            data, stat = client.get(paths.lock)
        except NoNodeError:
            return Lock(paths.lock)
        except NoAuthError as exc:
            return Lock(paths.lock, _hidden_version(client, paths), problem=explain(exc), readable=False)
    return Lock.from_node(paths.lock, data, stat.version)


def _hidden_version(client: KazooClient, paths: AppPaths) -> int | None:
    """The version of a lock that may not be read; `ANY_VERSION` if that is hidden too, None if it was deleted."""
    try:
        stat = client.exists(paths.lock)
    except NoAuthError:
        return ANY_VERSION
    return stat.version if stat else None


def unlocked(client: KazooClient, paths: AppPaths, advice: str, *, force: bool = False) -> Lock:
    """The free lock, for a guard in the publishing transaction. Raises `Locked` if it is held, unless forced."""
    lock = read_lock(client, paths)
    check_free(lock, advice, force=force)
    return lock


def check_free(lock: Lock, advice: str, *, force: bool = False) -> None:
    """Raise `Locked` if somebody holds the lock that was read, unless forced."""
    now = right_now()
    if lock.holds(now) and not force:
        raise Locked(lock, now, advice)


def guard_of(lock: Lock | None) -> Lock | None:
    """The lock, if a transaction can check it; publishing despite an unreadable one does without the guard."""
    return lock if lock is not None and lock.readable else None


def add_guard(transaction: Any, lock: Lock) -> None:
    """Make a transaction fail unless the lock is as it was read."""
    if lock.version is None:
        transaction.create(lock.path, FREE)
    else:
        transaction.check(lock.path, lock.version)


def is_overtaken(guard: Any) -> bool:
    """Whether the guard's result in a transaction means that somebody has locked or unlocked meanwhile."""
    return isinstance(guard, (BadVersionError, NodeExistsError, NoNodeError))


def when_unlocked(client: KazooClient, paths: AppPaths, seconds: float, attempt: Callable[[], Result]) -> Result:
    """The result of an attempt; while it is `Locked`, it is repeated whenever the lock is free, for `seconds`.

    Raises `Locked` after that.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except Locked as exc:
            if not seconds:
                raise
            lock, advice = exc.lock, exc.advice
        with outlasting(client, deadline - time.monotonic()):
            is_free = wait_until_free(client, paths, deadline)
        if not is_free:
            raise Locked(lock, right_now(), f"still so after {seconds:g} s; {advice}")


def wait_until_free(client: KazooClient, paths: AppPaths, deadline: float) -> bool:
    """Wait, by a watch, until nobody holds the lock or `deadline` of the monotonic clock; whether nobody does.

    An ensemble that does not answer is waited for too. Raises `ZooKeeperError`.
    """
    while True:
        woken = threading.Event()
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            lock = _watched(client, paths, woken, max(left, LEAST_ANSWER))
        except ZooKeeperError as exc:
            if not is_outage(exc):
                raise
            woken.wait(min(left, PAUSE))
            continue
        now = right_now()
        if not lock.holds(now):
            return True
        woken.wait(max(0.0, min(deadline - time.monotonic(), lock.seconds_left(now))))


def _watched(client: KazooClient, paths: AppPaths, woken: threading.Event, seconds: float) -> Lock:
    """The lock; `woken` is set when it changes. kazoo holds requests back while there is no connection."""
    with translated(paths.lock):
        try:
            request = client.get_async(paths.lock, watch=lambda _event: woken.set())
            data, stat = request.get(timeout=seconds)
        except NoNodeError:
            return Lock(paths.lock)
    return Lock.from_node(paths.lock, data, stat.version)


def write_lock(client: KazooClient, lock: Lock, record: LockRecord | None) -> None:
    """Have somebody hold the lock, or nobody, if it is still as it was read.

    Raises `Overtaken`, `ZooKeeperError`.
    """
    data = record.to_node() if record else FREE
    with translated(lock.path):
        try:
            if lock.version is None:
                client.create(lock.path, data, makepath=True)
            else:
                client.set(lock.path, data, lock.version)
        except (BadVersionError, NodeExistsError, NoNodeError) as exc:
            if isinstance(exc, NoNodeError) and lock.version is None:  # not even its parents could be created
                raise
            raise Overtaken(f"{lock.path}: changed meanwhile") from exc


def plan_lock(lock: Lock, wanted: LockRecord, now: datetime, *, force: bool = False) -> LockRecord:
    """The record to write so that `wanted` holds the lock. Raises `Locked` if somebody else does, unless forced.

    Its present holder keeps it, with another reason or end if these differ.
    """
    held = lock.record if lock.holds(now) else None
    if held and held.by == wanted.by:
        is_same = (held.reason, held.until) == (wanted.reason, wanted.until)
        return held if is_same else replace(wanted, since=held.since)
    if lock.holds(now) and not force:
        raise Locked(lock, now, "nothing is changed; force takes it over")
    return wanted


def check_may_unlock(lock: Lock, by: str, now: datetime, *, force: bool = False) -> None:
    """Raise `Locked` if somebody else holds it, unless forced."""
    is_own = lock.record is not None and lock.record.by == by
    if lock.holds(now) and not is_own and not force:
        raise Locked(lock, now, "nothing is changed; force unlocks it all the same")
