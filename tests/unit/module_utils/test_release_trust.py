"""What a publisher who signs trusts in the ensemble, with the real ssh-keygen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils import release_signing
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.module_utils.release_signature import (
    ARMOUR,
    LEAP,
    UntrustedRecord,
    numbered,
)
from ansible_collections.zoo.deploy.plugins.module_utils.release_signing import (
    SigningError,
    check_signing,
    lacks_signature,
    sign,
    signature_of,
    trust_of,
)
from ansible_collections.zoo.deploy.plugins.module_utils.release_trust import ReleaseTrust, without_from
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry
from support.signer import Signer

PATHS = AppPaths("/app/business")
URL = "https://git.example.com/site.git"
GOOD, BAD = "1" * 40, "2" * 40
JUNK = f"{ARMOUR}\njunk\n-----END SSH SIGNATURE-----\n"

Record = Callable[..., Release]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The publisher."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def other(tmp_path: Path) -> Signer:
    """Another publisher."""
    return Signer(tmp_path, "other")


@pytest.fixture
def file(tmp_path: Path, signer: Signer, other: Signer) -> Path:
    """The file of both signers."""
    path = tmp_path / "signers"
    path.write_text(signer.line + other.line)
    return path


@pytest.fixture
def trust(signer: Signer, file: Path) -> ReleaseTrust:
    """The trust of a publisher who knows all who may publish."""
    return ReleaseTrust(PATHS, str(signer.key), str(file))


@pytest.fixture
def record(signer: Signer) -> Record:
    """A function that makes a signed record of a commit; `by` is the signer, `app` the application."""

    def make(commit_id: str, serial: int, by: Signer = signer, app: str = PATHS.root, **keys: Any) -> Release:
        content = {"url": URL, "commitId": commit_id, "relativePath": "site", **keys}
        not_after = {"not_after": content.pop("notAfter")} if "notAfter" in content else {}
        return Release.from_object(by.sign_record(app, content, serial, **not_after))

    return make


def in_days(number: float) -> str:
    """The time that is this number of days from now."""
    return (datetime.now(timezone.utc) + timedelta(days=number)).isoformat(timespec="seconds")


def forged(release: Release, **keys: Any) -> Release:
    """The same release with a forged signature."""
    return replace(release, extra={**release.extra, "signature": JUNK, **keys})


@pytest.mark.parametrize("half", ["", ".pub"])
def test_a_publisher_who_knows_only_their_own_key_trusts_nobody_else(
    signer: Signer, other: Signer, record: Record, half: str
) -> None:
    alone = ReleaseTrust(PATHS, f"{signer.key}{half}", None)
    assert alone.find_problem(record(GOOD, 1)) is None
    assert str(alone.find_problem(record(GOOD, 1, other))).startswith("it is signed by nobody in the public half of")


def test_the_public_half_is_taken_from_the_key_where_it_has_no_file(signer: Signer, record: Record) -> None:
    Path(f"{signer.key}.pub").unlink()
    assert ReleaseTrust(PATHS, str(signer.key), None).find_problem(record(GOOD, 1)) is None


def test_a_key_whose_public_half_is_not_known_needs_the_file_of_signers(tmp_path: Path, file: Path) -> None:
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    ReleaseTrust(PATHS, str(locked), None)
    Path(f"{locked}.pub").unlink()
    with pytest.raises(ZooKeeperError, match=f"sign_with: {locked}: its public half is not known.*; give signers"):
        ReleaseTrust(PATHS, str(locked), None)
    ReleaseTrust(PATHS, str(locked), str(file))


def test_nothing_is_taken_from_a_record_that_no_trusted_signer_has_signed_as_it_is(
    trust: ReleaseTrust, record: Record, tmp_path: Path
) -> None:
    good = record(GOOD, 3)
    stranger = Signer(tmp_path, "stranger")
    assert trust.why_untrusted(good) is None
    for release in (
        Release(URL, GOOD, "site"),
        forged(good),
        replace(good, url="https://elsewhere/site.git"),
        replace(good, relative_path="elsewhere"),
        replace(good, extra={**good.extra, "rollout": {"from": BAD}}),
        record(GOOD, 3, stranger),
        record(GOOD, 3, app="/app/other"),
    ):
        assert trust.why_untrusted(release)


def history_of(*releases: Release | None) -> list[HistoryEntry]:
    """A history of these releases, the newest first."""
    return [HistoryEntry(f"release-{number}", number, one, None) for number, one in enumerate(releases)]


def test_what_counts_of_a_history_is_ordered_by_serials(
    signer: Signer, file: Path, other: Signer, record: Record
) -> None:
    releases = [record(BAD, 2), forged(record(BAD, 9)), record(GOOD, 4, other), None, Release(URL, BAD, "site")]
    trust = ReleaseTrust(PATHS, str(signer.key), str(file), history_of(*releases))
    found = [entry.release for entry in trust.trusted_history()]
    assert [one and one.extra["serial"] for one in found] == [4, 2]


def test_serials_follow_what_is_signed_and_must_be_given_if_that_is_not_known(
    signer: Signer, file: Path, other: Signer, record: Record
) -> None:
    mine, others, made_up = record(GOOD, 3), record(GOOD, 4, other), forged(record(BAD, 2**53 - 2))

    def next_of(current: Release | None, *history: Release, signers: str | None = str(file)) -> int:
        return ReleaseTrust(PATHS, str(signer.key), signers, history_of(*history)).next_serial(current)

    assert next_of(mine, others, made_up) == 5
    assert next_of(None, mine, Release(URL, BAD, "site"), signers=None) == 4
    for current, history, signers in ((others, [mine], None), (made_up, [], None), (made_up, [], str(file))):
        with pytest.raises(UntrustedRecord, match=r"serial: the record with the highest one, .* is not signed by"):
            next_of(current, *history, signers=signers)


def test_a_given_serial_must_be_one_that_hosts_follow(signer: Signer, file: Path, record: Record) -> None:
    trust = ReleaseTrust(PATHS, str(signer.key), str(file), history_of(record(GOOD, 3), forged(record(BAD, 5_000_000))))
    trust.check_given(record(BAD, 2), 4)
    trust.check_given(record(BAD, 2), 3 + LEAP)
    for serial in (1, 3):
        with pytest.raises(InvalidRecord, match=rf"^serial: {serial} is not above 3, the last one, so hosts"):
            trust.check_given(record(BAD, 2), serial)
    with pytest.raises(InvalidRecord, match=r"^serial: 1000004 is more than 1000000 above 3, the last one, so hosts"):
        trust.check_given(record(BAD, 2), 4 + LEAP)
    ReleaseTrust(PATHS, str(signer.key), str(file), history_of(forged(record(BAD, 5)))).check_given(None, 10**15)


def test_a_signed_record_that_is_published_again_after_a_later_one_does_not_count(
    signer: Signer, file: Path, other: Signer, record: Record
) -> None:
    old, later, made_up = record(GOOD, 3), record(BAD, 4, other), forged(record(BAD, 9))
    trust = ReleaseTrust(PATHS, str(signer.key), str(file), history_of(made_up, old, later))
    assert trust.why_untrusted(old) == "its record is replayed: its serial is 3, and 4 was published since"
    assert trust.needs_signature(old, None)
    assert trust.why_untrusted(later) is None
    assert not trust.needs_signature(later, None)


def test_what_is_published_is_renewed_if_its_signature_does_not_count_or_not_for_long(
    trust: ReleaseTrust, file: Path, signer: Signer, other: Signer, record: Record
) -> None:
    month = timedelta(days=30)
    assert not trust.needs_signature(record(GOOD, 1), month)
    assert not trust.needs_signature(record(GOOD, 1, other), None)
    assert trust.needs_signature(forged(record(GOOD, 1)), None)
    assert not trust.needs_signature(record(GOOD, 1, notAfter=in_days(14)), None)
    assert trust.needs_signature(record(GOOD, 1, notAfter=in_days(14)), month)
    assert not trust.needs_signature(record(GOOD, 1, notAfter=in_days(16)), month)
    assert trust.needs_signature(record(GOOD, 1, notAfter=in_days(-1)), None)
    # An expired key is replaced at the next publication, whose serial follows what it has signed.
    name, key = other.line.split(" ", 1)
    file.write_text(f'{signer.line}{name} valid-before="{yesterday()}" {key}')
    replaced = ReleaseTrust(PATHS, str(signer.key), str(file))
    before = record(GOOD, 7, other, publishedAt=in_days(-30))
    assert replaced.needs_signature(before, None)
    assert replaced.why_untrusted(before) is None
    assert replaced.next_serial(before) == 8
    for moment in (in_days(0), in_days(30), "nonsense", None):
        late = replace(before, published_at=moment)
        assert "signed by nobody" in str(replaced.why_untrusted(late))


def yesterday() -> str:
    """Yesterday's date in the format of a file of signers."""
    return in_days(-1)[:10].replace("-", "")


def test_a_plan_of_the_policy_names_no_release_in_a_signed_record(trust: ReleaseTrust) -> None:
    plan = {"steps": [{"hosts": 1}], "from": GOOD}
    release = Release(URL, BAD, "site", extra={"rollout": plan, "subject": "A fix"})
    with pytest.raises(InvalidRecord, match=r"/app/business/policy: rollout.from: the policy is not signed"):
        trust.check_plan(release)
    left = without_from(release)
    assert left.extra == {"rollout": {"steps": [{"hosts": 1}]}, "subject": "A fix"}
    for without in (left, Release(URL, BAD, "site"), Release(URL, BAD, "site", extra={"rollout": True})):
        trust.check_plan(without)
        assert without_from(without) == without


def test_what_hosts_would_refuse_is_not_published(
    trust: ReleaseTrust, signer: Signer, file: Path, other: Signer
) -> None:
    release = numbered(PATHS.root, Release(URL, GOOD, "site"), 1, None)
    assert trust.find_problem(sign(PATHS, trust, str(signer.key), release)) is None
    file.write_text(other.line)
    late = ReleaseTrust(PATHS, str(signer.key), str(file))
    with pytest.raises(SigningError, match=f"sign_with: {signer.key}: it is signed by nobody in {file}: .*; nothing"):
        sign(PATHS, late, str(signer.key), release)


def test_nobody_is_asked_for_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked, asked, ask = tmp_path / "locked", tmp_path / "asked", tmp_path / "ask"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    ask.write_text(f"#!/bin/sh\ntouch {asked}\necho secret\n")
    ask.chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":9")
    monkeypatch.setenv("SSH_ASKPASS", str(ask))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(SigningError, match="ssh-keygen does not sign with it"):
        signature_of(b"text", str(locked))
    assert not asked.exists()


def test_without_ssh_keygen_nothing_can_be_verified(
    trust: ReleaseTrust, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = record(GOOD, 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZooKeeperError, match="sign_with: what is published can't be verified: ssh-keygen can't be"):
        trust.find_problem(release)


def given(signer: Signer, **options: Any) -> dict[str, Any]:
    """The options of a publisher who signs."""
    return {"sign_with": str(signer.key), "signers": None, "sign_days": None, "serial": None, **options}


def test_only_a_publisher_who_signs_trusts_anybody_and_renews(
    signer: Signer, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**given(signer), "sign_with": None}
    assert trust_of(None, PATHS, options) is None
    assert not lacks_signature(None, options, Release(URL, GOOD, "site"))
    monkeypatch.setattr(release_signing, "read_history", lambda *_given: history_of(record(GOOD, 3)))
    trust = trust_of(None, PATHS, given(signer))
    assert lacks_signature(trust, given(signer), Release(URL, GOOD, "site"))
    assert lacks_signature(trust, given(signer), record(GOOD, 2))
    assert not lacks_signature(trust, given(signer), record(GOOD, 3))
    assert not lacks_signature(trust, given(signer), None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sign_with": None, "signers": "/etc/signers"}, "signers: only with sign_with, the key that signs"),
        ({"signers": "/no/such/file"}, 'signers: no file at "/no/such/file"'),
        ({"serial": 0}, "serial: expected a whole number from 1 to 1000000000000000, got 0"),
        ({"serial": 10**15 + 1}, "serial: expected a whole number from 1 to 1000000000000000, got"),
        ({"sign_days": 0.0}, "sign_days: expected more than 0"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(signer: Signer, options: dict[str, Any], reason: str) -> None:
    check_signing(given(signer, signers=str(signer.key), serial=10**15))
    with pytest.raises(InvalidRecord, match=f"^{reason}"):
        check_signing(given(signer, **options))
