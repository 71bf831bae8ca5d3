"""How a host reaches git servers: with its own key and known hosts, with a credentials file, and with nothing else."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.git_server import git_daemon
from support.repository import GitRepository
from support.ssh_server import SshServer
from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.errors import PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job
from zoo_watcher.releases.repository import Access, CorruptError, Repository
from zoo_watcher.wire.records import Release

PASSWORD = "correct-horse"


def fetch(directory: Path, access: Access, url: str, repository: GitRepository) -> bool:
    """Fetch the head of the repository into a new store, and return whether it is there. Raises `PassingError`."""
    layout = Layout(directory)
    layout.make()
    store = Repository(layout, access)
    store.open()
    store.fetch(Release(url=url, commit_id=repository.head, relative_path="site"))
    return store.has(repository.head)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    """A running sshd."""
    if os.geteuid() != 0:
        pytest.skip("sshd for another port needs root here")
    with SshServer(tmp_path / "ssh") as server:
        yield server


def test_a_key_and_a_known_host_are_what_ssh_needs(tmp_path: Path, sshd: SshServer, repository: GitRepository) -> None:
    access = Access(("ssh",), ssh_key=str(sshd.directory / "key"), ssh_known_hosts=str(sshd.directory / "known_hosts"))
    assert fetch(tmp_path / "base", access, sshd.url(repository.path), repository)


@pytest.mark.parametrize("name", ["my keys", "100%host", 'the "new" one', "back\\slash"])
def test_a_key_is_found_wherever_it_is(tmp_path: Path, sshd: SshServer, repository: GitRepository, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    for file in ("key", "known_hosts"):
        shutil.copy(sshd.directory / file, place)
    access = Access(("ssh",), ssh_key=str(place / "key"), ssh_known_hosts=str(place / "known_hosts"))
    assert fetch(tmp_path / "base", access, sshd.url(repository.path), repository)


def test_an_unknown_host_is_not_trusted(tmp_path: Path, sshd: SshServer, repository: GitRepository) -> None:
    (sshd.directory / "nobody").write_text("")
    access = Access(("ssh",), ssh_key=str(sshd.directory / "key"), ssh_known_hosts=str(sshd.directory / "nobody"))
    with pytest.raises(PassingError, match="Host key verification failed"):
        fetch(tmp_path / "base", access, sshd.url(repository.path), repository)


def test_a_key_that_is_not_accepted_is_a_clear_error_and_no_prompt(
    tmp_path: Path, sshd: SshServer, repository: GitRepository
) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    access = Access(("ssh",), ssh_key=str(other), ssh_known_hosts=str(sshd.directory / "known_hosts"))
    with pytest.raises(PassingError, match="Permission denied"):
        fetch(tmp_path / "base", access, sshd.url(repository.path), repository)


def test_a_key_that_ssh_cannot_read_is_named_before_the_answer_of_the_server(
    tmp_path: Path, sshd: SshServer, repository: GitRepository
) -> None:
    stripped = tmp_path / "stripped"
    stripped.touch(mode=0o600)
    stripped.write_text((sshd.directory / "key").read_text().rstrip("\n"))
    access = Access(("ssh",), ssh_key=str(stripped), ssh_known_hosts=str(sshd.directory / "known_hosts"))
    why = rf'credentials refused: Load key "{stripped}": .+; .+: Permission denied \('
    with pytest.raises(PassingError, match=why):
        fetch(tmp_path / "base", access, sshd.url(repository.path), repository)


def children(process: int) -> list[int]:
    """All descendants of a process, from the top."""
    below = [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return [*below, *(further for child in below for further in children(child))]


def test_an_ssh_server_that_dies_during_a_fetch_is_noticed(
    tmp_path: Path, repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("sshd for another port needs root here")
    monkeypatch.setattr("zoo_watcher.releases.repository.SSH_ALIVE", 1)
    monkeypatch.setattr("zoo_watcher.releases.repository.SSH_SILENT", 1)
    begun, hook = tmp_path / "begun", tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 60\n")
    hook.chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[uploadpack]\npackObjectsHook = {hook}\n[safe]\ndirectory = *\n")
    with SshServer(tmp_path / "ssh", GIT_CONFIG_GLOBAL=str(settings)) as sshd:
        stopped: list[int] = []

        def die() -> None:
            wait_for(begun.exists, "the server is about to send a pack", 20)
            stopped.extend(children(sshd.process.pid))
            for process in stopped:
                os.kill(process, signal.SIGSTOP)

        dying = threading.Thread(target=die)
        dying.start()
        access = Access(
            ("ssh",), ssh_key=str(sshd.directory / "key"), ssh_known_hosts=str(sshd.directory / "known_hosts")
        )
        try:
            with pytest.raises(PassingError, match=r"Timeout, server 127\.0\.0\.1 not responding") as lost:
                fetch(tmp_path / "base", access, sshd.url(repository.path), repository)
        finally:
            dying.join()
            for process in stopped:
                # The end of one may end others too.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
    assert not isinstance(lost.value, CorruptError)


class Handler(BaseHTTPRequestHandler):
    """Git over HTTP by git's own CGI program, for one user with one password."""

    root: Path

    def do_GET(self) -> None:
        """Answer the first request of a fetch."""
        self.answer(b"")

    def do_POST(self) -> None:
        """Answer the request for objects."""
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body: bytes) -> None:
        """Run `git http-backend` for a client that has the password."""
        basic = base64.b64encode(f"deploy:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {basic}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _mark, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, check=True, capture_output=True)
        head, _gap, content = done.stdout.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().split("\r\n"):
            self.send_header(*line.split(": ", 1))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_words: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def web(repository: GitRepository) -> Iterator[int]:
    """The port of a web server that serves the repository."""
    handler = type("Handler", (Handler,), {"root": repository.path.parent})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_a_credentials_file_opens_a_web_server_and_its_password_is_nowhere_else(
    tmp_path: Path, web: int, repository: GitRepository
) -> None:
    credentials = tmp_path / "it's a file"
    credentials.write_text(f"http://deploy:{PASSWORD}@127.0.0.1:{web}\n")
    credentials.chmod(0o600)
    url = f"http://127.0.0.1:{web}/{repository.path.name}"
    assert fetch(tmp_path / "base", Access(("http",), credentials=str(credentials)), url, repository)
    for file in (tmp_path / "base").rglob("*"):
        assert not file.is_file() or PASSWORD.encode() not in file.read_bytes(), file


def test_credentials_that_a_server_refuses_once_stay_in_their_file(
    tmp_path: Path, web: int, repository: GitRepository
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"http://deploy:expired@127.0.0.1:{web}\n")
    credentials.chmod(0o600)
    url = f"http://127.0.0.1:{web}/{repository.path.name}"
    with pytest.raises(PassingError, match="credentials refused"):
        fetch(tmp_path / "base", Access(("http",), credentials=str(credentials)), url, repository)
    assert credentials.read_text() == f"http://deploy:expired@127.0.0.1:{web}\n"


def test_without_credentials_there_is_no_prompt_and_the_reason_is_reported(
    tmp_path: Path, web: int, repository: GitRepository
) -> None:
    url = f"http://127.0.0.1:{web}/{repository.path.name}"
    with pytest.raises(PassingError, match=rf"^{url}: credentials refused: ") as refused:
        fetch(tmp_path / "base", Access(("http",)), url, repository)
    assert not isinstance(refused.value, CorruptError), "a token that has expired is no reason to fetch everything anew"
    assert refused.value.reason == "credentials"


def test_a_mirror_that_uses_up_all_the_time_is_skipped_at_the_next_attempt(
    agents: Callable[..., Agent], release: Callable[..., int], repository: GitRepository
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, git_daemon(repository) as url:
        mirrors = {url.rpartition("/")[0]: f"git://127.0.0.1:{silent.getsockname()[1]}"}
        agent = agents(allowed_schemes=["git"], git_mirrors=mirrors, fetch_timeout=2).start()
        assert agent.wait_outcome(release(url=url))["state"] == "active"
    assert "the next try skips the mirror" in agent.log


def deploy(base: Path, url: str, repository: GitRepository, **keys: Any) -> dict[str, Any]:
    """Make an apply process fetch and stage the head of the repository. Returns its last message, or `DeployError`."""
    config = Config.from_object({"hosts": "zk1", "base": str(base), **keys})
    release = Release(url=url, commit_id=repository.head, relative_path="site")
    return ApplyProcess(config).run(stage_job(config, release, []))


def test_an_apply_process_that_connects_to_git_servers_only_reaches_them_at_any_port(
    tmp_path: Path, sshd: SshServer, web: int, repository: GitRepository
) -> None:
    key = {"ssh_key": str(sshd.directory / "key"), "ssh_known_hosts": str(sshd.directory / "known_hosts")}
    assert "done" in deploy(tmp_path / "ssh-base", sshd.url(repository.path), repository, **key)
    credentials = tmp_path / "credentials"
    credentials.write_text(f"http://deploy:{PASSWORD}@127.0.0.1:{web}\n")
    credentials.chmod(0o600)
    url = f"http://127.0.0.1:{web}/{repository.path.name}"
    opened = {"allowed_schemes": ["http"], "git_credentials": str(credentials)}
    assert "done" in deploy(tmp_path / "web-base", url, repository, **opened)
    with git_daemon(repository) as url:
        assert "done" in deploy(tmp_path / "git-base", url, repository, allowed_schemes=["git"])
