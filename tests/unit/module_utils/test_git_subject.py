"""The subject of a commit: returned where that is cheap, and nowhere else."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils import git_subject
from ansible_collections.zoo.deploy.plugins.module_utils.git_subject import subject_of
from support.git_server import git_daemon
from support.repository import GitRepository

ABSENT = "0123456789" * 4


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget after each test what it has asked."""
    yield
    subject_of.cache_clear()


def test_the_subject_of_a_commit_is_printable_and_short(repository: GitRepository) -> None:
    repository.git("commit", "--allow-empty", "-qm", "breaks \x1b[31mhealth\u202e caf\u00e9\n\nand more of it")
    assert subject_of(repository.url, repository.head) == "breaks ?[31mhealth? caf\u00e9"
    assert subject_of(str(repository.path), repository.head) == "breaks ?[31mhealth? caf\u00e9"
    repository.git("commit", "--allow-empty", "-qm", "x" * 200)
    assert subject_of(repository.url, repository.head) == "x" * 100


def test_a_server_is_asked_for_a_commit_if_it_leaves_out_the_files_and_for_nothing_otherwise(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    log = repository.path.with_name("daemon.log")
    with git_daemon(repository) as url:
        assert subject_of(url, repository.head) is None
        assert log.read_text().count("Request upload-pack") == 1
        repository.git("config", "uploadpack.allowFilter", "true")
        subject_of.cache_clear()
        assert subject_of(url, repository.head) == "change"
    assert not list((tmp_path / "temporary").iterdir())


def test_a_server_is_not_asked_for_more_if_its_answer_cannot_be_read(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    repository.git("config", "uploadpack.allowFilter", "true")
    monkeypatch.setattr(git_subject, "open", fail, raising=False)
    with git_daemon(repository) as url:
        assert subject_of(url, repository.head) is None
    assert repository.path.with_name("daemon.log").read_text().count("Request upload-pack") == 1


def test_a_ref_that_replaces_a_commit_gives_it_no_other_subject(repository: GitRepository) -> None:
    before = repository.head
    repository.git("commit", "--allow-empty", "-qm", "what it is not")
    repository.git("replace", before, repository.head)
    assert subject_of(repository.url, before) == "change"


def test_an_ssh_server_is_not_asked(repository: GitRepository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    note = tmp_path / "called"
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {note}; false")
    for url in (f"ssh://localhost{repository.path}", f"localhost:{repository.path}"):
        assert subject_of(url, repository.head) is None
    assert not note.exists()


def test_a_silent_server_gives_no_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_subject, "PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert subject_of(f"git://127.0.0.1:{server.getsockname()[1]}/site.git", ABSENT) is None


def test_a_subject_that_git_does_not_give_is_none_and_not_an_error(repository: GitRepository, tmp_path: Path) -> None:
    assert subject_of(repository.url, ABSENT) is None
    assert subject_of(f"file://{tmp_path}/nowhere", repository.head) is None
    bundle = tmp_path / "site.bundle"
    repository.git("bundle", "create", "-q", str(bundle), "HEAD")
    bundle.chmod(0o755)
    assert subject_of(str(bundle), repository.head) is None
    repository.git("commit", "--allow-empty", "--allow-empty-message", "-qm", "")
    assert subject_of(repository.url, repository.head) is None
