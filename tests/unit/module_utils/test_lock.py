"""Who holds the lock of an application, and until when: without an ensemble."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError

from ansible_collections.zoo.deploy.plugins.module_utils.lock import (
    Lock,
    Locked,
    LockRecord,
    check_may_unlock,
    end_of_lock,
    parse_duration,
    parse_moment,
    plan_lock,
    read_lock,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord

PATH = "/app/lock"
NOW = datetime(2026, 11, 29, 8, tzinfo=timezone.utc)
SINCE = "2026-11-29T07:00:00+00:00"


def record(by: str = "ann", **keys: Any) -> LockRecord:
    """The record of somebody's lock."""
    return LockRecord(**{"reason": "database migration", "since": SINCE, **keys, "by": by})


def lock(by: str = "ann", **keys: Any) -> Lock:
    """The same, as it was read."""
    return Lock(PATH, 3, record(by, **keys))


def read(content: object) -> Lock:
    """The lock in a znode of this value."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Lock.from_node(PATH, data, 3)


def test_a_znode_without_a_value_locks_nobody_out() -> None:
    for free in (read(b""), Lock(PATH)):
        assert not free.holds(NOW)
        assert free.to_object(NOW) is None
        assert free.describe(NOW) == "not locked"


def test_a_lock_of_which_not_even_the_version_may_be_seen_counts_as_one() -> None:
    # From ZooKeeper 3.9 on `exists` is refused too.
    def refuse(_path: str) -> None:
        raise NoAuthError

    client = SimpleNamespace(sync=lambda path: path, get=refuse, exists=refuse)
    hidden = read_lock(client, AppPaths("/app"))
    assert (hidden.version, hidden.readable, hidden.holds(NOW)) == (-1, False, True)
    assert hidden.problem is not None
    assert "permission denied" in hidden.problem


def test_a_lock_is_read_as_it_was_written_with_unknown_keys() -> None:
    written = record(until="2026-11-29T09:00:00Z", extra={"ticket": 7})
    assert read(written.to_node()).record == written


@pytest.mark.parametrize(
    ("until", "holds"),
    [
        (None, True),
        ("2026-11-29T08:00:01Z", True),
        ("2026-11-29T08:00:00Z", False),
        ("2026-11-29T08:00:00.9Z", False),
        ("2026-11-29t09:30:00+01:00", True),
        ("2026-11-29 08:30:00+01:00", False),
        ("2026-11-28T23:00:01-09:00", True),
    ],
)
def test_a_lock_counts_until_its_end_in_any_zone(until: str | None, holds: bool) -> None:
    assert lock(until=until).holds(NOW) == holds
    found = lock(until=until).to_object(NOW)
    assert found
    assert (found["expired"], found["until"]) == (not holds, until)


def test_a_lock_says_in_one_line_who_when_and_why() -> None:
    assert lock().describe(NOW) == f"locked by ann since {SINCE} without an end: database migration"
    held = lock("Zoë", until="2026-11-29T09:00:00+00:00", reason="two\nlines \x1b[31mred")
    assert held.describe(NOW) == f"locked by Zoë since {SINCE} until 2026-11-29T09:00:00+00:00: two lines ?[31mred"
    over = lock(until="2026-11-29T07:30:00+00:00").describe(NOW)
    assert over == f"the lock of ann since {SINCE} expired at 2026-11-29T07:30:00+00:00: database migration"
    assert len(lock(reason="x" * 900_000).describe(NOW)) < 700


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff", "not UTF-8"),
        (b"freeze", "not JSON"),
        (b"[]", "expected a JSON object"),
        (b" ", "not JSON"),
        ({}, "reason: expected a string"),
        ({"reason": "x", "by": "ann"}, "since: expected a string"),
        ({"reason": "x", "by": 7, "since": SINCE}, "by: expected a string, got 7"),
        ({"reason": "x", "by": "ann", "since": SINCE, "until": "tomorrow"}, "until: expected a time such as"),
        ({"reason": "x", "by": "ann", "since": SINCE, "until": 5}, "until: expected a time such as"),
        ({"reason": "x", "by": "ann", "since": SINCE, "until": "2026-02-30T00:00:00Z"}, "until: expected a time"),
        ({"reason": "x", "by": "ann", "since": SINCE, "until": "2026-11-29T08:00:00"}, "until: expected a time"),
    ],
)
def test_what_cannot_be_read_counts_as_a_lock_and_says_why(content: object, why: str) -> None:
    found = read(content)
    assert found.holds(NOW)
    assert found.describe(NOW).startswith(f"locked, but who holds the lock and why can't be read: {why}")
    assert "\n" not in found.describe(NOW)
    told = found.to_object(NOW)
    assert told
    assert (told["by"], told["expired"], told["problem"][: len(why)]) == (None, False, why)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200), (" 1d ", 86400), ("3650d", 315360000)]
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, seconds: int) -> None:
    assert parse_duration("expires_after", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "-5", "1.5h", "2 h", "h", "2w", "3651d", "999999999d", "nan", "٣m"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^expires_after: expected seconds, or a number with s, m, h or d"):
        parse_duration("expires_after", text)


def test_the_end_of_a_lock_is_given_by_a_time_or_a_duration() -> None:
    assert end_of_lock(None, None, NOW) is None
    assert end_of_lock("2h", None, NOW) == "2026-11-29T10:00:00+00:00"
    assert end_of_lock(None, "2026-11-29T18:00:00+01:00", NOW) == "2026-11-29T18:00:00+01:00"
    assert end_of_lock(None, "2026-11-29 18:00:00Z", NOW) == "2026-11-29T18:00:00+00:00"
    with pytest.raises(InvalidRecord, match=r"^expires_at: 2026-11-29T08:00:00Z has passed; it is 2026-11-29T08:00:00"):
        end_of_lock(None, "2026-11-29T08:00:00Z", NOW)
    with pytest.raises(InvalidRecord, match=r"^expires_at: expected a time such as"):
        end_of_lock(None, "18:00", NOW)
    # A variable without a value: a lock without an end would be the opposite of what is meant.
    with pytest.raises(InvalidRecord, match=r'^expires_after: expected seconds, .*, got ""'):
        end_of_lock("", None, NOW)
    with pytest.raises(InvalidRecord, match=r'^expires_at: expected a time such as .*, got ""'):
        end_of_lock(None, "", NOW)
    assert parse_moment("until", "2026-11-29T08:00:00-00:00") == NOW


FREE_LOCKS = [Lock(PATH), Lock(PATH, 2), lock("bob", until="2026-11-29T07:30:00Z")]
BROKEN = Lock(PATH, 3, problem="not JSON")


@pytest.mark.parametrize("before", FREE_LOCKS)
def test_a_free_lock_or_one_that_has_expired_is_anybodys(before: Lock) -> None:
    assert plan_lock(before, record(), NOW) == record()
    check_may_unlock(before, "ann", NOW)


def test_a_holder_who_locks_again_keeps_the_time_of_the_first_lock() -> None:
    later = "2026-11-29T08:00:00+00:00"
    assert plan_lock(lock(), record(since=later), NOW) == record()
    for changed in ({"reason": "more"}, {"until": "2026-11-29T09:00:00Z"}):
        assert plan_lock(lock(), record(since=later, **changed), NOW) == record(**changed)
    check_may_unlock(lock(), "ann", NOW)


@pytest.mark.parametrize("before", [lock("bob"), BROKEN], ids=["bob's", "unreadable"])
def test_somebody_elses_lock_is_broken_only_by_force(before: Lock) -> None:
    with pytest.raises(Locked) as caught:
        plan_lock(before, record(), NOW)
    assert str(caught.value) == f"{PATH}: {before.describe(NOW)}; nothing is changed; force takes it over"
    assert caught.value.details["lock"] == before.to_object(NOW)
    assert plan_lock(before, record(), NOW, force=True) == record()
    with pytest.raises(Locked, match="nothing is changed; force unlocks it all the same"):
        check_may_unlock(before, "ann", NOW)
    check_may_unlock(before, "ann", NOW, force=True)
