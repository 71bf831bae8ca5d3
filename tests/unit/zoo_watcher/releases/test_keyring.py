"""Which OpenPGP signatures of commits count, by the keys in a file, with the real git and gpg."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.immutable import immutable
from support.openpgp_signer import OpenPgpSigner, openpgp_home
from support.repository import GitRepository
from support.signer import Signer
from zoo_watcher.config.config import Config
from zoo_watcher.errors import ConfigError, DeployError, KilledError, PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import keyring
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job, verify_job
from zoo_watcher.releases.release_directory import allowed_signers, is_deployable
from zoo_watcher.wire.records import Release

OLD, THEN = "20240101T000000", "20240102T000000"


@pytest.fixture
def home() -> Iterator[Path]:
    """The directory in which signers have their keys."""
    with openpgp_home() as place:
        yield place


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The file of OpenPGP keys, with a name that needs quoting."""
    return tmp_path / "-keys of 'ours'"


@pytest.fixture
def config(tmp_path: Path, keys: Path) -> Config:
    """A host on which an author may sign by SSH, and the keys in the file by OpenPGP."""
    signers = tmp_path / "signers"
    signers.write_text(Signer(tmp_path, "author").line)
    keys.write_bytes(b"")
    files = {"require_signature": str(signers), "openpgp_signers": str(keys)}
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"], **files})
    Layout(config.base).make()
    return config


Stage = Callable[[str], None]


@pytest.fixture
def stage(config: Config, repository: GitRepository) -> Stage:
    """Stages a commit."""

    def run(commit_id: str) -> None:
        ApplyProcess(config).run(stage_job(config, Release(repository.url, commit_id, "site"), []))

    return run


@pytest.mark.parametrize("armored", [True, False])
def test_a_commit_by_a_key_in_the_file_is_staged_and_one_by_another_is_not(
    stage: Stage, config: Config, home: Path, keys: Path, repository: GitRepository, armored: bool
) -> None:
    friend, stranger = OpenPgpSigner(home, "friend"), OpenPgpSigner(home, "stranger")
    keys.write_bytes(friend.public(armored=armored))
    good = friend.commit(repository, "good")
    stage(good)
    assert (Layout(config.base).release(good) / "index.html").read_text() == "good"
    strange = stranger.commit(repository, "strange")
    with pytest.raises(DeployError, match=rf"^{strange} is not signed by anybody in .*: gpg: Can't check signature"):
        stage(strange)
    assert not Layout(config.base).release(strange).exists()
    assert list(Layout(config.base).staging.glob("gnupg*")) == []


def test_the_path_of_the_keyring_may_be_longer_than_that_of_a_socket(
    config: Config, home: Path, keys: Path, repository: GitRepository, tmp_path: Path
) -> None:
    friend = OpenPgpSigner(home, "friend")
    keys.write_bytes(friend.public())
    deep = replace(config, base=tmp_path / ("a" * 120))
    Layout(deep.base).make()
    ApplyProcess(deep).run(stage_job(deep, Release(repository.url, friend.commit(repository, "good"), "site"), []))


def test_a_leftover_keyring_that_cannot_be_removed_does_not_block_the_next(
    stage: Stage, config: Config, home: Path, keys: Path, repository: GitRepository
) -> None:
    friend = OpenPgpSigner(home, "friend")
    keys.write_bytes(friend.public())
    left = Layout(config.base).staging / "gnupg"
    left.mkdir()
    with immutable(left):
        stage(friend.commit(repository, "good"))


def test_without_the_file_no_openpgp_signature_counts(home: Path, config: Config, repository: GitRepository) -> None:
    commit_id = OpenPgpSigner(home, "friend").commit(repository, "good")
    without = Config.from_object(
        {
            "hosts": "zk1",
            "base": str(config.base),
            "allowed_schemes": ["file"],
            "require_signature": config.require_signature,
        }
    )
    with pytest.raises(DeployError, match=f"{commit_id} is not signed by anybody in"):
        ApplyProcess(without).run(stage_job(without, Release(repository.url, commit_id, "site"), []))


def test_a_commit_that_is_signed_by_ssh_counts_too(
    stage: Stage, config: Config, tmp_path: Path, home: Path, keys: Path, repository: GitRepository
) -> None:
    keys.write_bytes(OpenPgpSigner(home, "friend").public())
    author = Signer(tmp_path, "another")
    Path(str(config.require_signature)).write_text(author.line)
    commit_id = author.commit(repository, "by SSH")
    stage(commit_id)
    assert Layout(config.base).release(commit_id).exists()


def test_a_key_that_has_expired_or_is_revoked_does_not_count(
    stage: Stage, home: Path, keys: Path, repository: GitRepository
) -> None:
    late_one, stolen = OpenPgpSigner(home, "friend", "2d", OLD), OpenPgpSigner(home, "another")
    late, undone = late_one.commit(repository, "late", THEN), stolen.commit(repository, "undone")
    keys.write_bytes(late_one.public() + stolen.public())
    with pytest.raises(DeployError, match=rf"{late} is not signed by anybody in .*: its key has expired, by"):
        stage(late)
    stage(undone)
    stolen.revoke()
    keys.write_bytes(stolen.public())
    with pytest.raises(DeployError, match=rf"{undone} is not signed by anybody in .*: its key is revoked, by"):
        stage(undone)


def test_a_host_whose_clock_is_behind_a_keys_creation_accepts_it(
    stage: Stage,
    config: Config,
    home: Path,
    keys: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: GitRepository,
) -> None:
    friend = OpenPgpSigner(home, "friend")
    keys.write_bytes(friend.public())
    commit_id = friend.commit(repository, "good")
    program = tmp_path / "bin" / "gpg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("gpg")} --faked-system-time {OLD} "$@"\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    stage(commit_id)
    assert Layout(config.base).release(commit_id).exists()


def test_a_gpg_that_is_killed_says_nothing_about_the_signature(
    stage: Stage, home: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: GitRepository
) -> None:
    friend = OpenPgpSigner(home, "friend")
    keys.write_bytes(friend.public())
    commit_id = friend.commit(repository, "good")
    program = tmp_path / "bin" / "gpg"
    program.parent.mkdir()
    text = f'case "$*" in *--verify*) kill -9 $$;; esac\nexec {shutil.which("gpg")} "$@"\n'
    program.write_text(f"#!/bin/sh\n{text}")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(KilledError, match="gpg died of signal 9"):
        stage(commit_id)


def test_keys_that_can_not_all_be_read_are_refused_with_the_reason(
    stage: Stage, home: Path, keys: Path, repository: GitRepository
) -> None:
    friend, stolen = OpenPgpSigner(home, "friend"), OpenPgpSigner(home, "stolen")
    keys.write_bytes(stolen.revocation + stolen.public())
    with pytest.raises(PassingError, match=r"^openpgp_signers: .*: no public key - can't apply revocation"):
        stage(repository.head)
    keys.write_bytes(friend.public() + stolen.public()[:-120] + b"\n")
    with pytest.raises(PassingError, match=r"^openpgp_signers: .*: gpg: .*error"):
        stage(repository.head)


def test_with_another_file_of_keys_a_release_is_verified_again(
    stage: Stage, config: Config, home: Path, keys: Path, repository: GitRepository
) -> None:
    friend, other = OpenPgpSigner(home, "friend"), OpenPgpSigner(home, "other")
    keys.write_bytes(friend.public())
    commit_id, layout = friend.commit(repository, "good"), Layout(config.base)
    stage(commit_id)
    keys.write_bytes(friend.public() + other.public())
    assert not is_deployable(layout, commit_id, (), allowed_signers(*config.signers))
    ApplyProcess(config).run(verify_job(config, commit_id))
    assert is_deployable(layout, commit_id, (), allowed_signers(*config.signers))
    keys.write_bytes(other.public())
    with pytest.raises(DeployError, match="is not signed by anybody in"):
        ApplyProcess(config).run(verify_job(config, commit_id))


def test_the_files_of_signers_are_read_even_where_they_are_beside_secrets(
    config: Config, tmp_path: Path, home: Path, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    author, friend = Signer(secrets, "author"), OpenPgpSigner(home, "friend")
    texts = {"require_signature": author.line, "revoked_signers": "", "openpgp_signers": friend.public().decode()}
    for name, text in texts.items():
        (secrets / name).write_text(text)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    require, revoked, openpgp = (str(secrets / name) for name in texts)
    hidden = replace(config, require_signature=require, revoked_signers=revoked, openpgp_signers=openpgp)
    for commit_id in (author.commit(repository, "by SSH"), friend.commit(repository, "by OpenPGP")):
        ApplyProcess(hidden).run(stage_job(hidden, Release(repository.url, commit_id, "site"), []))


@pytest.mark.parametrize("content", [b"", b"no key\n", None])
def test_a_file_without_keys_is_reported_and_waited_out(
    stage: Stage, keys: Path, repository: GitRepository, content: bytes | None
) -> None:
    if content is None:
        keys.unlink()
    else:
        keys.write_bytes(content)
    with pytest.raises(PassingError, match=r"^openpgp_signers: .*(no valid OpenPGP data|No such file)"):
        stage(repository.head)


def test_a_missing_gpg_is_reported_and_waited_out(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "PROGRAM", str(tmp_path / "nowhere"))
    with (
        pytest.raises(PassingError, match=r"^openpgp_signers: gpg can't be started: No such file.*; install GnuPG"),
        keyring.keyring(str(keys), tmp_path / "home"),
    ):
        pass
    assert not (tmp_path / "home").exists()


def test_openpgp_signers_are_refused_without_require_signature(keys: Path, tmp_path: Path) -> None:
    keys.write_bytes(b"")
    with pytest.raises(ConfigError, match="openpgp_signers: only with require_signature, the file of those who may"):
        Config.from_object({"hosts": "zk1", "base": str(tmp_path), "openpgp_signers": str(keys)})
