"""What a host accepts by the signature of a record, and what it remembers of that, with the real ssh-keygen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.signer import Signer
from zoo_watcher.config.config import Config
from zoo_watcher.errors import PassingError, SessionTroubleError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import accepted_releases, record_verifier
from zoo_watcher.releases.accepted_releases import KEPT, AcceptedRelease, AcceptedReleases, accepted_places
from zoo_watcher.releases.record_trust import RecordTrust
from zoo_watcher.wire.records import Release
from zoo_watcher.wire.release_signature import LEAP, UntrustedRecord
from zoo_watcher.wire.ssh_signature import Signers

APP = "/app/business"
URL = "https://git.example.com/site.git"
GOOD, BAD = "1" * 40, "2" * 40


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The signer who may sign."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def config(tmp_path: Path, signer: Signer) -> Config:
    """A host that demands signatures."""
    signers, revoked, base = tmp_path / "signers", tmp_path / "revoked", tmp_path / "base"
    signers.write_text(signer.line)
    revoked.write_text("")
    Layout(base).make()
    keys = {"require_signature": str(signers), "revoked_signers": str(revoked)}
    return Config.from_object({"hosts": "zk1", "base": str(base), **keys})


@pytest.fixture
def layout(config: Config) -> Layout:
    """The directories of the host."""
    return Layout(config.base)


@pytest.fixture
def trust(config: Config, layout: Layout) -> RecordTrust:
    """What the host trusts."""
    return RecordTrust(config, layout)


@pytest.fixture
def signed(signer: Signer) -> Callable[..., Release]:
    """Makes a signed record of a commit."""

    def make(commit_id: str, serial: int, **keys: Any) -> Release:
        record = {"url": URL, "commitId": commit_id, "relativePath": "site", **keys}
        return Release.from_object(signer.sign_record(APP, record, serial))

    return make


Signed = Callable[..., Release]


def none() -> list[Release]:
    """A history without entries."""
    return []


def plain(commit_id: str) -> Release:
    """A release as a rollout names it."""
    return Release(URL, commit_id, "site")


def test_an_accepted_release_is_on_disk_before_it_counts(
    trust: RecordTrust, layout: Layout, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: Any) -> None:
        raise OSError(28, "No space left on device", str(layout.accepted))

    with monkeypatch.context() as patched:
        patched.setattr(accepted_releases, "write_durably", fail)
        with pytest.raises(SessionTroubleError, match=r"can't be verified now: noting which .* No space"):
            trust.find_refusal(signed(GOOD, 1))
    assert not layout.accepted.exists()
    assert trust.find_refusal(signed(GOOD, 1)) is None
    (known,) = json.loads(layout.accepted.read_text())[APP]
    assert (known["serial"], known["commitId"]) == (1, GOOD)


def test_without_ssh_keygen_nothing_is_accepted_and_it_is_tried_again(
    trust: RecordTrust, layout: Layout, signed: Signed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = signed(GOOD, 1)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(SessionTroubleError, match="ssh-keygen can't be started"):
            trust.find_refusal(release)
        killed = tmp_path / "ssh-keygen"
        killed.write_text("#!/bin/sh\nkill -9 $$\n")
        killed.chmod(0o755)
        with pytest.raises(SessionTroubleError, match="ssh-keygen was killed by signal 9"):
            trust.find_refusal(release)
    assert not layout.accepted.exists()
    assert trust.find_refusal(release) is None


def test_a_record_is_verified_again_if_the_signers_change_meanwhile(
    trust: RecordTrust, config: Config, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Signers.find_problem

    def change(signers: Signers, *words: Any) -> str | None:
        found = verify(signers, *words)
        Path(str(config.require_signature)).write_text("")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Signers, "find_problem", change)
        with pytest.raises(SessionTroubleError, match="the signers were changed meanwhile"):
            trust.find_refusal(signed(GOOD, 1))
    assert "signed by nobody" in str(trust.find_refusal(signed(GOOD, 1)))


def test_after_a_change_of_signers_an_accepted_record_is_verified_again_as_of_its_acceptance(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed, signer: Signer, tmp_path: Path
) -> None:
    release, signers = signed(GOOD, 1), Path(str(config.require_signature))
    assert trust.find_refusal(release) is None
    (known,) = AcceptedReleases(layout.accepted, APP).read()
    AcceptedReleases(layout.accepted, APP).add(replace(known, since=known.since - 7 * 86400))
    assert AcceptedReleases(layout.accepted, APP).read()[0].since < known.since
    name, key = signer.line.split(" ", 1)
    signers.write_text(f'{name} valid-before="{_days_ago(3)}" {key}')
    assert trust.find_refusal(release) is None
    assert "key has expired" in str(trust.find_refusal(signed(BAD, 2)))
    signers.write_text(Signer(tmp_path, "other").line)
    assert "signed by nobody" in str(trust.find_refusal(release))
    signers.write_text(signer.line)
    Path(str(config.revoked_signers)).write_text(Path(f"{signer.key}.pub").read_text())
    assert "is revoked" in str(trust.find_refusal(release))


def _days_ago(number: int) -> str:
    return time.strftime("%Y%m%d", time.localtime(time.time() - number * 86400))


def test_a_host_goes_back_to_a_release_that_it_has_accepted_or_that_the_signed_plan_names(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed
) -> None:
    assert trust.find_refusal(signed(GOOD, 1)) is None
    desired = signed("3" * 40, 2, rollout={"from": BAD.upper()})
    assert trust.find_refusal(desired) is None
    trust.check_stable(plain(GOOD), desired, none)
    trust.check_stable(plain(BAD), desired, none)
    places = [(commit_id, "site") for commit_id in (GOOD, BAD, "3" * 40)]
    assert accepted_places(config, layout, [*places, ("4" * 40, "site")]) == frozenset(places)
    for other in (replace(plain(BAD), url="https://elsewhere/site.git"), replace(plain(GOOD), relative_path="other")):
        with pytest.raises(UntrustedRecord, match="was not accepted here by its signature: its record is not in the"):
            trust.check_stable(other, desired, none)


def test_a_host_goes_back_to_a_release_it_has_missed_by_the_history_but_to_no_forged_one(
    trust: RecordTrust, signed: Signed, tmp_path: Path
) -> None:
    old, missed, desired = signed(GOOD, 3), signed("4" * 40, 8), signed("3" * 40, 9)
    assert trust.find_refusal(signed("5" * 40, 5)) is None
    assert trust.find_refusal(desired) is None
    stranger = Signer(tmp_path, "stranger")
    record = {"url": URL, "commitId": BAD, "relativePath": "site"}
    forged = Release.from_object(stranger.sign_record(APP, record, 7))
    history = [old, missed, forged, plain(GOOD), Release.from_object(record)]
    for commit_id, reason in (
        (GOOD, "its record is not signed"),
        (BAD, "its record is not signed"),
        ("6" * 40, "its record is not in the history"),
    ):
        with pytest.raises(UntrustedRecord, match=reason):
            trust.check_stable(plain(commit_id), desired, lambda: history)
    with pytest.raises(UntrustedRecord, match="serial 3 is lower than 5, and was never accepted here"):
        trust.check_stable(plain(GOOD), desired, lambda: [old])
    with pytest.raises(UntrustedRecord, match="signed by nobody"):
        trust.check_stable(plain(BAD), desired, lambda: [forged])
    trust.check_stable(plain("4" * 40), desired, lambda: history)
    trust.check_stable(plain("4" * 40), desired, none)


def test_a_host_does_not_go_back_to_a_release_that_a_revoked_key_has_signed(
    trust: RecordTrust, config: Config, layout: Layout, signer: Signer, tmp_path: Path
) -> None:
    other = Signer(tmp_path, "other")
    signers = Path(str(config.require_signature))
    signers.write_text(signer.line + other.line)
    record = {"url": URL, "commitId": GOOD, "relativePath": "site"}
    stolen = Release.from_object(signer.sign_record(APP, record, 1))
    assert trust.find_refusal(stolen) is None
    Path(str(config.revoked_signers)).write_text(Path(f"{signer.key}.pub").read_text())
    desired = Release.from_object(other.sign_record(APP, {**record, "commitId": BAD}, 2))
    assert trust.find_refusal(desired) is None
    with pytest.raises(UntrustedRecord, match="is revoked in"):
        trust.check_stable(plain(GOOD), desired, lambda: [stolen])
    assert accepted_places(config, layout, [(GOOD, "site"), (BAD, "site")]) == frozenset({(BAD, "site")})


def test_neither_the_highest_serial_nor_another_application_is_ever_forgotten(layout: Layout) -> None:
    memory = AcceptedReleases(layout.accepted, APP)
    AcceptedReleases(layout.accepted, "/app/other").add(AcceptedRelease(7, "d", URL, GOOD, "site"))
    memory.add(AcceptedRelease(1000, "d", URL, GOOD, "site"))
    for number in range(KEPT + 5):
        memory.add(AcceptedRelease(0, "", URL, f"{number:040}", "site"))
    known = memory.read()
    assert (len(known), known[0].serial) == (KEPT, 1000)
    assert f"{KEPT + 4:040}" in {one.commit_id for one in known}
    assert [one.serial for one in AcceptedReleases(layout.accepted, "/app/other").read()] == [7]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"/app/business": 5}', '{"/app/business": [{}]}', '{"a": [[]]}'])
def test_a_malformed_memory_is_reported_and_not_mistaken_for_an_empty_one(layout: Layout, text: str) -> None:
    layout.accepted.write_text(text)
    with pytest.raises(PassingError, match=r"accepted.json: not as an agent has written it; remove it"):
        AcceptedReleases(layout.accepted, APP).read()


@pytest.mark.parametrize("since", [1e300, -1, float("nan")])
def test_a_memory_with_an_impossible_time_is_malformed(layout: Layout, since: float) -> None:
    memory = AcceptedReleases(layout.accepted, APP)
    memory.add(AcceptedRelease(1, "d", URL, GOOD, "site", since))
    with pytest.raises(PassingError, match=r"accepted.json: not as an agent has written it"):
        memory.read()


def test_a_release_that_was_accepted_by_a_wrong_clock_is_verified_as_of_now(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed, signer: Signer
) -> None:
    assert trust.find_refusal(signed(GOOD, 1)) is None
    memory = AcceptedReleases(layout.accepted, APP)
    memory.add(replace(memory.read()[0], since=1000.0))
    name, key = signer.line.split(" ", 1)
    Path(str(config.require_signature)).write_text(f'{name} valid-after="20200101" {key}')
    assert trust.find_refusal(signed(GOOD, 1)) is None


def test_a_host_does_not_go_back_to_an_expired_record_that_it_has_never_accepted(
    trust: RecordTrust, signed: Signed, signer: Signer
) -> None:
    record = {"url": URL, "commitId": GOOD, "relativePath": "site"}
    over = Release.from_object(signer.sign_record(APP, record, 3, not_after="2020-01-01T00:00:00+00:00"))
    desired = signed(BAD, 100)
    assert trust.find_refusal(desired) is None
    with pytest.raises(UntrustedRecord, match="its record has expired: it was valid until 2020"):
        trust.check_stable(plain(GOOD), desired, lambda: [over])
    trust.check_stable(plain(GOOD), desired, lambda: [over, signed(GOOD, 4)])


def test_a_record_that_nobody_has_signed_is_verified_once_while_the_signers_stay_the_same(
    trust: RecordTrust, config: Config, signed: Signed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bytes] = []
    verify = Signers.find_problem

    def count(signers: Signers, text: bytes, *words: Any) -> str | None:
        asked.append(text)
        return verify(signers, text, *words)

    monkeypatch.setattr(Signers, "find_problem", count)
    desired = signed(BAD, 100)
    assert trust.find_refusal(desired) is None
    record = {"url": URL, "commitId": GOOD, "relativePath": "site"}
    forged = Release.from_object(Signer(tmp_path, "stranger").sign_record(APP, record, 7))
    for _time in range(3):
        with pytest.raises(UntrustedRecord, match="signed by nobody"):
            trust.check_stable(plain(GOOD), desired, lambda: [forged] * 50)
    assert len(asked) == 2
    signers = Path(str(config.require_signature))
    signers.write_text(signers.read_text() + Signer(tmp_path, "another").line)
    with pytest.raises(UntrustedRecord, match="signed by nobody"):
        trust.check_stable(plain(GOOD), desired, lambda: [forged])
    assert len(asked) == 3


def test_a_record_that_was_refused_because_of_a_wrong_clock_is_accepted_later(
    trust: RecordTrust, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    desired = signed(GOOD, 1)
    with monkeypatch.context() as patched:
        patched.setattr(Signers, "find_problem", lambda *_given: "key is not yet valid")
        assert "not yet valid" in str(trust.find_refusal(desired))
    assert "not yet valid" in str(trust.find_refusal(desired)), "nobody is asked again at once"
    monkeypatch.setattr(record_verifier, "ANEW", 0.0)
    assert trust.find_refusal(desired) is None


def test_a_host_goes_back_to_a_release_that_it_has_accepted_even_after_a_change_of_signers(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed, tmp_path: Path
) -> None:
    assert trust.find_refusal(signed(GOOD, 1)) is None
    named = signed("3" * 40, 2, rollout={"from": "4" * 40})
    assert trust.find_refusal(named) is None
    trust.check_stable(plain("4" * 40), named, none)
    signers = Path(str(config.require_signature))
    signers.write_text(signers.read_text() + Signer(tmp_path, "another").line)
    desired = signed(BAD, 5)
    assert trust.find_refusal(desired) is None
    places = [(GOOD, "site"), ("4" * 40, "site")]
    assert accepted_places(config, layout, places) == frozenset(places)
    trust.check_stable(plain(GOOD), desired, none)
    trust.check_stable(plain("4" * 40), desired, none)
    signers.write_text(Signer(tmp_path, "other").line)
    assert accepted_places(config, layout, places) == frozenset()


def test_the_serials_of_a_stolen_key_no_longer_count_once_it_is_revoked(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed, signer: Signer, tmp_path: Path
) -> None:
    stolen = Signer(tmp_path, "stolen")
    signers, revoked = Path(str(config.require_signature)), Path(str(config.revoked_signers))
    signers.write_text(signer.line + stolen.line)
    assert trust.find_refusal(signed(GOOD, 5)) is None
    record = {"url": URL, "commitId": BAD, "relativePath": "site"}
    highest = 5 + 2 * LEAP
    thefts = [Release.from_object(stolen.sign_record(APP, record, serial)) for serial in (5 + LEAP, highest)]
    assert [trust.find_refusal(theft) for theft in thefts] == [None, None]
    signers.write_text(signer.line)
    assert f"serial 6 is lower than {highest}" in str(trust.find_refusal(signed("3" * 40, 6)))
    revoked.write_text(Path(f"{stolen.key}.pub").read_text())
    assert "signed by nobody" in str(trust.find_refusal(thefts[0]))
    assert "serial 4 is lower than 5" in str(trust.find_refusal(signed("3" * 40, 4)))
    assert trust.find_refusal(signed("3" * 40, 6)) is None
    assert [one.serial for one in AcceptedReleases(layout.accepted, APP).read()] == [6, 5]


def test_a_broken_file_of_revoked_keys_is_reported_as_such(
    trust: RecordTrust, config: Config, layout: Layout, signed: Signed
) -> None:
    Path(str(config.revoked_signers)).write_bytes(b"SSHKRL\n\0broken")
    with pytest.raises(SessionTroubleError, match=r"can't be verified now: revoked keys: .*: invalid format"):
        trust.find_refusal(signed(GOOD, 1))
    assert not layout.accepted.exists()
