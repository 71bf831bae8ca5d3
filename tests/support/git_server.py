"""Git servers that a local path cannot replace: a real git daemon, and one that serves no single commits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ports import free_ports
from support.repository import GitRepository
from support.waiting import wait_for

OLD_SSH = """\
#!/bin/sh
unset GIT_PROTOCOL
for command; do :; done
exec sh -c "$command"
"""
"""A stand-in for ssh to a server that ignores GIT_PROTOCOL, as sshd does by default: git uses protocol version 0."""


@contextmanager
def git_daemon(repository: GitRepository, port: int | None = None, *options: str) -> Iterator[str]:
    """Run a git daemon inside the block, on `port` if given; yields the repository's address there."""
    port = port or free_ports(1)[0]
    programs = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    words = [
        "--export-all",
        "--reuseaddr",
        f"--base-path={repository.path.parent}",
        "--listen=127.0.0.1",
        f"--port={port}",
        *options,
    ]
    log = repository.path.with_name("daemon.log")
    with log.open("wb") as output:
        daemon = subprocess.Popen([Path(programs) / "git-daemon", "--verbose", *words], stderr=output)
    try:
        wait_for(lambda: "Ready to rumble" in log.read_text(), f"the git daemon listens, its log is {log}")
        yield f"git://127.0.0.1:{port}/{repository.path.name}"
    finally:
        daemon.kill()
        daemon.wait()


def install_old_ssh(directory: Path) -> None:
    """Put a command `ssh` into a directory, for PATH, that reaches this machine like an old server."""
    directory.mkdir()
    command = directory / "ssh"
    command.write_text(OLD_SSH)
    command.chmod(0o755)
