"""Which commit a ref of a repository resolves to, and what is reported if it resolves to none."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils import git_refs
from ansible_collections.zoo.deploy.plugins.module_utils.connection import MissingLibraryError
from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import CommitError, resolve
from ansible_collections.zoo.deploy.plugins.module_utils.records import InvalidRelease
from support.git_server import git_daemon, install_old_ssh
from support.ports import free_ports
from support.repository import GitRepository
from support.waiting import wait_for

ABSENT = "0123456789" * 4


def refusal(url: str, ref: str) -> str:
    """Return why a ref does not resolve to a commit: one line."""
    with pytest.raises(CommitError) as refused:
        resolve(url, ref)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def two_that_begin_alike(tree: str) -> tuple[str, str]:
    """Two commits of a tree, as git stores them, whose ids have the same first seven digits."""
    seen: dict[str, str] = {}
    for number in itertools.count():
        person = f"tests <tests@example.org> {number} +0000"
        text = f"tree {tree}\nauthor {person}\ncommitter {person}\n\ntwin\n"
        beginning = hashlib.sha1(f"commit {len(text)}\0{text}".encode()).hexdigest()[:7]
        if beginning in seen:
            return seen[beginning], text
        seen[beginning] = text
    raise AssertionError


def test_head_is_the_repositorys_own_branch(repository: GitRepository) -> None:
    assert resolve(repository.url, "HEAD") == repository.head


def test_a_branch_is_its_newest_commit(repository: GitRepository) -> None:
    repository.git("checkout", "-q", "-b", "feature/x")
    feature = repository.commit({"index.html": "x\n"})
    repository.git("checkout", "-q", "main")
    for ref in ("feature/x", "refs/heads/feature/x"):
        assert resolve(repository.url, ref) == feature
    assert resolve(repository.url, "main") == repository.head != feature


def test_a_branch_is_not_mistaken_for_one_that_ends_alike(repository: GitRepository) -> None:
    repository.git("branch", "other/main")
    head = repository.commit({"index.html": "two\n"})
    assert resolve(repository.url, "main") == head
    assert "no branch, tag or commit x" in refusal(repository.url, "x")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_a_branch_with_a_character_that_ends_a_line_for_python_does_no_harm(
    repository: GitRepository, character: str
) -> None:
    repository.git("branch", f"x{character}y/main")
    assert resolve(repository.url, "main") == repository.head


def test_a_tag_is_its_commit_whether_annotated_or_not(repository: GitRepository) -> None:
    tagged = repository.head
    repository.git("tag", "light")
    repository.git("tag", "-a", "-m", "release", "v1.0")
    repository.git("tag", "-a", "-m", "of a tag", "v1.0-again", "v1.0")
    repository.commit({"index.html": "two\n"})
    for ref in ("light", "v1.0", "v1.0-again", "refs/tags/v1.0"):
        assert resolve(repository.url, ref) == tagged


def test_a_name_that_is_a_branch_and_a_tag_of_different_commits_is_refused(repository: GitRepository) -> None:
    first = repository.head
    repository.git("tag", "stable")
    repository.git("branch", "stable")
    assert resolve(repository.url, "stable") == first
    second = repository.commit({"index.html": "two\n"})
    repository.git("branch", "-f", "stable")
    assert "say refs/heads/stable or refs/tags/stable" in refusal(repository.url, "stable")
    assert resolve(repository.url, "refs/heads/stable") == second
    assert resolve(repository.url, "refs/tags/stable") == first


def test_a_full_id_is_a_commit_only_where_the_repository_has_it(repository: GitRepository) -> None:
    first = repository.head
    repository.commit({"index.html": "two\n"})
    assert resolve(repository.url, first) == first
    assert resolve(repository.url, first.upper()) == first
    assert f"has no commit {ABSENT}" in refusal(repository.url, ABSENT)


@pytest.mark.parametrize("kind", ["HEAD^{tree}", "HEAD:index.html"])
def test_an_id_of_something_else_is_not_a_commit(repository: GitRepository, kind: str) -> None:
    object_id = repository.git("rev-parse", kind)
    assert f"has no commit {object_id}" in refusal(repository.url, object_id)


def test_an_id_of_an_annotated_tag_is_its_commit(repository: GitRepository) -> None:
    repository.git("tag", "-a", "-m", "release", "v1.0")
    assert resolve(repository.url, repository.git("rev-parse", "v1.0")) == repository.head


def test_the_first_digits_of_an_id_are_enough(repository: GitRepository) -> None:
    first = repository.head
    repository.commit({"index.html": "two\n"})
    assert resolve(repository.url, first[:7]) == first
    assert resolve(repository.url, first[:12].upper()) == first
    assert "no branch, tag or commit" in refusal(repository.url, first[:6])
    assert "has no commit 0000000" in refusal(repository.url, "0000000")


def test_digits_that_two_commits_begin_with_are_refused(repository: GitRepository) -> None:
    tree = repository.git("rev-parse", "HEAD^{tree}")
    for number, text in enumerate(two_that_begin_alike(tree)):
        (repository.path / "commit").write_text(text)
        commit_id = repository.git("hash-object", "-t", "commit", "-w", "commit")
        repository.git("branch", f"twin{number}", commit_id)
    assert resolve(repository.url, commit_id) == commit_id
    assert "or more than one that begins so" in refusal(repository.url, commit_id[:7])


def test_a_server_that_serves_no_single_commit_is_asked_for_its_history(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_old_ssh(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    repository.git("config", "uploadpack.allowAnySHA1InWant", "false")
    first = repository.head
    repository.commit({"index.html": "two\n"})
    url = f"ssh://old.example.org{repository.path}"
    assert resolve(url, first) == first
    assert resolve(url, first[:8]) == first
    assert f"has no commit {ABSENT}" in refusal(url, ABSENT)


def test_a_git_daemon_answers_and_one_that_is_down_is_named(repository: GitRepository) -> None:
    (port,) = free_ports(1)
    url = f"git://127.0.0.1:{port}/origin"
    assert refusal(url, "main").startswith(f"url: can't read {url}: ")
    with git_daemon(repository, port):
        assert resolve(url, "main") == repository.head
        assert resolve(url, repository.head) == repository.head


@pytest.mark.parametrize("ref", ["main", ABSENT])
def test_a_silent_server_is_waited_for_no_longer_than_it_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ref: str
) -> None:
    # Without the tools that list processes, as in a small image.
    (tmp_path / "bin").mkdir()
    for tool in ("git", "sh"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(git_refs, "PATIENCE", 0.5)
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/site.git"
        threading.Thread(target=lambda: said.append(refusal(url, ref)), daemon=True).start()
        wait_for(lambda: said, "the question has ended", 20)
    assert said == [f"url: can't read {url}: no answer within 0.5 s"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_the_module_ends_git_although_the_server_is_silent(number: signal.Signals) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import resolve\n"
        "resolve(sys.argv[1], 'main')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/site.git"
        # Also under nohup(1), which has the tests ignore a signal.
        words = ["env", "--default-signal", sys.executable, "-c", program, url, *sys.path]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as module:
            server.settimeout(20)
            connection, _address = server.accept()
            with connection:
                connection.settimeout(20)
                assert b"/site.git" in connection.recv(1000)
                module.send_signal(number)
                assert module.wait(20) == -number
                assert connection.recv(1000) == b"", "git is there no more"


@pytest.mark.parametrize("ref", ["", "--upload-pack=touch /tmp/owned", "-x", "main\nno line"])
def test_a_ref_that_git_could_take_for_an_option_is_refused(repository: GitRepository, ref: str) -> None:
    assert refusal(repository.url, ref).startswith("ref: expected a branch, a tag or a commit")


@pytest.mark.parametrize("ref", ["no-such", "main~1", "*", "refs/heads/*", "ma*", "a b", "main:index.html", "..", "ä"])
def test_a_ref_that_the_repository_does_not_have_is_named(repository: GitRepository, ref: str) -> None:
    repository.commit({"index.html": "two\n"})
    assert ref in refusal(repository.url, ref)


@pytest.mark.parametrize("url", ["--upload-pack=x", "ext::sh -c touch% /tmp/owned", "ssh://-oProxyCommand=x/y"])
def test_a_url_that_could_run_a_command_is_refused(url: str) -> None:
    with pytest.raises(InvalidRelease, match=r"^url: "):
        resolve(url, "main")


def test_a_missing_repository_is_named(tmp_path: Path) -> None:
    said = refusal(f"file://{tmp_path}/none", "main")
    assert said.startswith(f"url: can't read file://{tmp_path}/none: ")
    assert "does not appear to be a git repository" in said or "does not exist" in said


def test_an_empty_repository_has_no_commit(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    GitRepository(tmp_path / "empty").git("init", "-q", "--bare")
    assert "no branch, tag or commit HEAD" in refusal(f"file://{tmp_path}/empty", "HEAD")


def test_a_machine_without_git_is_reported(repository: GitRepository, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import CommitError, resolve\n"
        "try: resolve(*sys.argv[1:3])\n"
        "except CommitError as exc: print(exc)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, repository.url, "main", *sys.path],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "git is not installed where the module runs\n"
    assert done.stderr == ""


def test_gitpython_is_imported_only_when_a_repository_is_read(repository: GitRepository) -> None:
    program = (
        "import sys\n"
        "from ansible_collections.zoo.deploy.plugins.modules import zk_release\n"
        "print('git' in sys.modules)\n"
        "zk_release.resolve(sys.argv[1], 'main')\n"
        "print('git' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, repository.url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "True"]


def test_a_python_without_gitpython_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "git", None)
    with pytest.raises(MissingLibraryError, match=r"^the Python library GitPython is missing; install it") as caught:
        resolve("https://git.example.org/site.git", "main")
    assert "git" in caught.value.details["exception"]


@pytest.mark.parametrize("own", [None, "GIT_SSH_COMMAND", "core.sshCommand"])
def test_ssh_asks_no_terminal_and_a_users_own_command_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    note = tmp_path / "note"
    tool = tmp_path / "bin" / "ssh"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$0 $*" >> {note}\nexit 255\n')
    tool.chmod(0o755)
    (tmp_path / "own").symlink_to(tool)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name in ("GIT_SSH_COMMAND", "GIT_SSH"):
        monkeypatch.delenv(name, raising=False)
    if own == "GIT_SSH_COMMAND":
        monkeypatch.setenv(own, str(tmp_path / "own"))
    elif own:
        subprocess.run(["git", "config", "--global", own, str(tmp_path / "own")], check=True)
    assert refusal("ssh://git.example.org/site.git", "main").startswith(
        "url: can't read ssh://git.example.org/site.git"
    )
    called = note.read_text()
    assert ("BatchMode=yes" in called, f"{tmp_path}/own" in called) == (own is None, own is not None)


def test_publishing_from_a_hook_of_a_repository_leaves_that_repository_as_it_is(
    repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = GitRepository.create(tmp_path / "own")
    # Read before: with these variables, their repository would answer.
    head, config = repository.head, (own.path / ".git" / "config").read_text()
    for name, value in {"GIT_DIR": own.path / ".git", "GIT_OBJECT_DIRECTORY": own.path / ".git" / "objects"}.items():
        monkeypatch.setenv(name, str(value))
    assert resolve(repository.url, head[:12]) == resolve(repository.url, head) == head
    assert (own.path / ".git" / "config").read_text() == config
    assert not (own.path / ".git" / "shallow").exists()
