"""What a record's signature covers, which serials may follow, and what is refused."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.release_signature import (
    ARMOUR,
    HIGHEST_SERIAL,
    LEAP,
    LONGEST,
    Accepted,
    UntrustedRecord,
    check_age,
    check_date,
    check_form,
    check_serial,
    digest_of,
    ends_soon,
    next_serial,
    numbered,
    signed_text,
    unsigned,
    with_signature,
)

APP = "/app/business"
COMMIT = "81d4066248f2c54237c352a2ece3bc070a5a91d9"
NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
LATER, EARLIER = "2026-11-30T12:00:01+00:00", "2026-11-30T11:59:59+00:00"


def release(**extra: Any) -> Release:
    """A release with further keys."""
    return Release("https://git.example.com/business.git", COMMIT, "site", ref="main", extra=extra)


def signed(serial: Any = 1, **extra: Any) -> Release:
    """A release with all that a signed record has."""
    return with_signature(numbered(APP, release(**extra), serial, extra.get("notAfter")), f"{ARMOUR}\n")


def accepted(serial: int, digest: str = "d", commit_id: str = COMMIT) -> Accepted:
    """What a host remembers of a record that it has accepted."""
    return Accepted(serial, digest, "https://git.example.com/business.git", commit_id, "site")


def test_the_signed_text_is_canonical_json_of_what_is_signed_and_of_nothing_else() -> None:
    text = signed_text(APP, signed(7, rollout={"b": 1, "a": [0.5]}, subject="Ünsigned", rolledBackFrom=COMMIT))
    assert text.decode() == (
        f'{{"app":"/app/business","commitId":"{COMMIT}","notAfter":null,"ref":"main","relativePath":"site",'
        '"rollout":{"a":[0.5],"b":1},"serial":7,"url":"https://git.example.com/business.git"}'
    )


@pytest.mark.parametrize(
    "rollout",
    [
        None,
        True,
        {"steps": [{"hosts": 1, "soak": 60.0}, {"percent": 100}], "maxInFlight": "10%"},
        {"labels": {"zone": "é\ud800", "b": 1e-7, "c": 10**30}},
        {10: "ten", 9: "nine"},
        {"deep": [[[[{"x": [None, False, -0.0]}]]]]},
    ],
)
def test_a_host_reads_the_same_text_from_the_znode_as_the_publisher_has_signed(rollout: Any) -> None:
    published = signed(3, **({} if rollout is None else {"rollout": rollout}))
    assert signed_text(APP, Release.from_node(published.to_node())) == signed_text(APP, published)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://git.example.com/other.git"},
        {"commitId": "9" * 40},
        {"relativePath": "other"},
        {"ref": "other"},
        {"ref": None},
        {"rollout": True},
        {"serial": 8},
        {"notAfter": LATER},
    ],
)
def test_whatever_is_signed_changes_the_text(change: dict[str, Any]) -> None:
    before = signed(7, rollout={"hosts": 1})
    after = Release.from_object({**before.to_object(), **change})
    assert signed_text(APP, after) != signed_text(APP, before)
    assert signed_text("/app/other", before) != signed_text(APP, before)


def test_what_has_no_canonical_json_is_refused() -> None:
    deep: Any = []
    for _level in range(100_000):
        deep = [deep]
    for rollout in (deep, {"x": float("nan")}, {"x": {1}}):
        with pytest.raises(UntrustedRecord, match="there is no signature of what it says"):
            signed_text(APP, signed(1, rollout=rollout))


def test_a_record_with_a_number_and_a_signature_has_the_form() -> None:
    check_form(APP, signed())
    check_form(APP, signed(HIGHEST_SERIAL, notAfter="2026-11-30T12:00:00Z"))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"signature": None}, "its record is not signed"),
        ({"signature": 5}, f"signature: expected what begins with {ARMOUR}, got 5"),
        ({"signature": "junk"}, f"signature: expected what begins with {ARMOUR}"),
        ({"signature": ARMOUR + "x" * LONGEST}, f"signature: expected what begins with {ARMOUR}"),
        ({"app": "/app/other"}, 'its record was signed for the application "/app/other", not for /app/business'),
        ({"app": None}, "its record was signed for the application null, not for /app/business"),
        ({"serial": None}, "serial: expected a whole number from 1"),
        ({"serial": True}, "serial: expected a whole number from 1"),
        ({"serial": 0}, "serial: expected a whole number from 1"),
        ({"serial": -1}, "serial: expected a whole number from 1"),
        ({"serial": 1.0}, "serial: expected a whole number from 1"),
        ({"serial": "2"}, "serial: expected a whole number from 1"),
        ({"serial": HIGHEST_SERIAL + 1}, "serial: expected a whole number from 1"),
        ({"notAfter": 5}, "notAfter: expected a time such as"),
        ({"notAfter": "tomorrow"}, "notAfter: expected a time such as"),
        ({"notAfter": "2026-11-30T12:00:00"}, "notAfter: expected a time such as"),
        ({"notAfter": ""}, "notAfter: expected a time such as"),
    ],
)
def test_a_record_without_the_form_is_refused_with_the_reason(keys: dict[str, Any], reason: str) -> None:
    content = {key: value for key, value in {**signed().to_object(), **keys}.items() if value is not None}
    with pytest.raises(UntrustedRecord) as caught:
        check_form(APP, Release.from_object(content))
    assert str(caught.value).startswith(reason)


@pytest.mark.parametrize(
    ("serial", "digest", "known", "is_last"),
    [
        (1, "d", [], False),
        (HIGHEST_SERIAL, "d", [], False),
        (5, "d", [accepted(5)], True),
        (6, "e", [accepted(5)], False),
        (5 + LEAP, "e", [accepted(5)], False),
        (5, "d", [accepted(3, "c"), accepted(5), accepted(4, "x")], True),
        (1, "d", [accepted(0, "")], False),
        (HIGHEST_SERIAL, "d", [accepted(0, "")], False),
    ],
)
def test_a_serial_may_follow(serial: int, digest: str, known: list[Accepted], is_last: bool) -> None:
    assert check_serial(signed(serial), digest, known) is is_last


@pytest.mark.parametrize(
    ("serial", "digest", "known", "reason"),
    [
        (5, "e", [accepted(5)], f"serial 5 was accepted here with another content, {COMMIT}"),
        (4, "c", [accepted(5), accepted(4, "c")], "its record is replayed: serial 4 was accepted here, and 5 since"),
        (4, "x", [accepted(5), accepted(4, "c")], "serial 4 is lower than 5, which was accepted here"),
        (4, "d", [accepted(5)], "serial 4 is lower than 5, which was accepted here"),
        (1_000_006, "d", [accepted(5)], "serial 1000006 is more than 1000000 above 5, which was accepted here"),
        (HIGHEST_SERIAL, "d", [accepted(5), accepted(0, "")], f"serial {HIGHEST_SERIAL} is more than 1000000 above 5"),
    ],
)
def test_a_serial_may_not_follow(serial: int, digest: str, known: list[Accepted], reason: str) -> None:
    with pytest.raises(UntrustedRecord) as caught:
        check_serial(signed(serial), digest, known)
    assert str(caught.value).startswith(reason)


def test_a_record_counts_until_its_end() -> None:
    check_date(signed(notAfter=LATER), NOW)
    check_date(signed(), NOW)
    for over in (EARLIER, "2026-11-30T11:59:59Z", "2026-11-30T12:30:00+01:00"):
        with pytest.raises(UntrustedRecord, match="its record has expired: it was valid until"):
            check_date(signed(notAfter=over), NOW)


@pytest.mark.parametrize(
    ("serial", "known", "refused"),
    [
        (8, [accepted(9), accepted(5)], None),
        (8, [accepted(9)], None),
        (1, [accepted(9)], None),
        (1, [accepted(9), accepted(0, "")], None),
        (5, [accepted(9), accepted(5)], None),
        (4, [accepted(9), accepted(5)], "serial 4 is lower than 5, and was never accepted here"),
        (9, [accepted(9)], "serial 9 is not lower than 9, that of the published release"),
        (10, [accepted(9)], "serial 10 is not lower than 9, that of the published release"),
    ],
)
def test_a_host_goes_back_to_what_it_has_missed_and_to_nothing_older(
    serial: int, known: list[Accepted], refused: str | None
) -> None:
    if refused is None:
        check_age(serial, 9, known)
        return
    with pytest.raises(UntrustedRecord) as caught:
        check_age(serial, 9, known)
    assert str(caught.value) == refused


def next_of(mine: list[Any], others: list[Any], *, is_sure: bool) -> int:
    """The serial that follows records that count and others that are signed too but do not count."""
    counting = [*map(signed, mine)]
    published = [release(), *map(signed, others), *counting]
    return next_serial(published, "the key K", lambda one: one in counting, is_sure=is_sure)


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        ([], [], 1),
        ([1], [], 2),
        ([3, 1, 2], [], 4),
        ([3], [1, 2], 4),
        ([2, 1, 20261131], [], 20261132),
        ([5_000_000], [], 5_000_001),
        ([True, "9", None, 2.0, -4, 0], [], 1),
        ([4, "9", HIGHEST_SERIAL + 1], [], 5),
        ([4], ["9", HIGHEST_SERIAL + 1], 5),
        ([4], [4, 3], 5),
    ],
)
@pytest.mark.parametrize("is_sure", [True, False])
def test_the_next_serial_is_one_above_the_highest_that_counts(
    mine: list[Any], others: list[Any], expected: int, is_sure: bool
) -> None:
    assert next_of(mine, others, is_sure=is_sure) == expected


def test_a_publisher_who_knows_all_signers_ignores_the_records_of_others() -> None:
    assert next_of([5], [6, 1_000_005, HIGHEST_SERIAL], is_sure=True) == 6


@pytest.mark.parametrize(
    ("mine", "others", "is_sure", "remedy"),
    [
        ([5], [6], False, "give signers, the file of all who may publish, or serial, one that is above"),
        ([], [6], False, "give signers, the file of all who may publish, or serial, one that is above"),
        ([], [6], True, "give serial, one that is above what hosts have accepted"),
    ],
)
def test_a_person_must_give_the_serial_if_it_is_not_known_what_hosts_have_accepted(
    mine: list[Any], others: list[Any], is_sure: bool, remedy: str
) -> None:
    reason = rf"^serial: the record with the highest one, 6, is not signed by the key K; {remedy}"
    with pytest.raises(UntrustedRecord, match=reason):
        next_of(mine, others, is_sure=is_sure)


def test_above_the_highest_serial_there_is_none() -> None:
    with pytest.raises(UntrustedRecord, match=f"serial: {HIGHEST_SERIAL} is the last that there is; revoke the key"):
        next_of([HIGHEST_SERIAL], [], is_sure=True)
    assert next_of([HIGHEST_SERIAL - 1], [], is_sure=True) == HIGHEST_SERIAL


def test_a_serial_without_a_signature_does_not_count() -> None:
    published = [release(serial=50), signed(3)]
    assert next_serial(published, "anybody", lambda _one: True, is_sure=True) == 4


@pytest.mark.parametrize(
    ("not_after", "lasts", "expected"),
    [
        (None, None, False),
        (None, 10, False),
        (LATER, None, False),
        (EARLIER, None, True),
        ("2026-12-05T12:00:01+00:00", 10, False),
        ("2026-12-05T11:59:59+00:00", 10, True),
    ],
)
def test_a_record_is_renewed_once_half_of_its_time_is_over(
    not_after: str | None, lasts: int | None, expected: bool
) -> None:
    published = signed(notAfter=not_after) if not_after else signed()
    assert ends_soon(published, NOW, timedelta(days=lasts) if lasts else None) is expected


def test_a_release_that_is_numbered_again_keeps_nothing_of_its_earlier_signature() -> None:
    earlier = signed(3, notAfter=LATER, subject="A fix")
    assert unsigned(earlier) == release(subject="A fix")
    again = numbered(APP, earlier, 9, None)
    assert json.loads(again.to_node()) == {**release(subject="A fix").to_object(), "app": APP, "serial": 9}
    assert digest_of(signed_text(APP, again)) != digest_of(signed_text(APP, earlier))
