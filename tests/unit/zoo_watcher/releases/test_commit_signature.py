"""Which SSH signatures of a commit count, by the time of a key or an authority, with the real git and ssh-keygen."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.repository import GitRepository
from support.signer import Signer
from zoo_watcher.config.config import Config
from zoo_watcher.errors import DeployError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job
from zoo_watcher.wire.records import Release

Stage = Callable[[str], None]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The file of allowed signers and the file of revoked keys, which is empty."""
    (tmp_path / "revoked").touch()
    return tmp_path / "signers", tmp_path / "revoked"


@pytest.fixture
def stage(tmp_path: Path, files: tuple[Path, Path], repository: GitRepository) -> Stage:
    """Stages a commit on a host that demands signatures."""

    def run(commit_id: str) -> None:
        named = dict(zip(("require_signature", "revoked_signers"), map(str, files)))
        keys = {"base": str(tmp_path / "base"), "allowed_schemes": ["file"], **named}
        config = Config.from_object({"hosts": "zk1", **keys})
        Layout(config.base).make()
        ApplyProcess(config).run(stage_job(config, Release(repository.url, commit_id, "site"), []))
        assert Layout(config.base).release(commit_id).exists()

    return run


def line(signer: Signer, options: str) -> str:
    """The line of a signer, with options added."""
    name, key = signer.line.split(" ", 1)
    return f"{name} {options} {key}"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ('valid-before="20200101"', "key has expired"),
        ('valid-after="20990101"', "key is not yet valid"),
        ('namespaces="zoo.deploy"', "not permitted for use in signature namespace"),
    ],
)
def test_a_key_signs_commits_only_at_the_times_and_for_the_purposes_that_are_allowed(
    stage: Stage, files: tuple[Path, Path], repository: GitRepository, tmp_path: Path, options: str, reason: str
) -> None:
    author = Signer(tmp_path, "author")
    commit_id = author.commit(repository, "signed")
    files[0].write_text(line(author, options))
    with pytest.raises(DeployError, match=rf"^{commit_id} is not signed by anybody in .*{reason}"):
        stage(commit_id)
    files[0].write_text(line(author, 'namespaces="git",valid-after="20200101",valid-before="20990101"'))
    stage(commit_id)


def test_a_certificate_of_an_authority_signs_commits_until_its_key_is_revoked(
    stage: Stage, files: tuple[Path, Path], repository: GitRepository, tmp_path: Path
) -> None:
    authority, author = Signer(tmp_path, "authority"), Signer(tmp_path, "author")
    words = ["ssh-keygen", "-q", "-s", str(authority.key), "-I", "id", "-n", "author@example.org", f"{author.key}.pub"]
    subprocess.run(words, check=True)
    _name, key = authority.line.split(" ", 1)
    files[0].write_text(f"*@example.org cert-authority {key}")
    author.key = Path(f"{author.key}-cert.pub")
    commit_id = author.commit(repository, "by a certificate")
    stage(commit_id)
    files[1].write_text((tmp_path / "author.pub").read_text())
    with pytest.raises(
        DeployError, match=rf"^{commit_id} is not signed by anybody in .*: its key is revoked in {files[1]}"
    ):
        stage(commit_id)
