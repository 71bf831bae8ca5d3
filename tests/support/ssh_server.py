"""A real sshd on a loopback port of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.ports import free_ports
from support.waiting import wait_for


class SshServer:
    """The sshd, with a client's `key` and `known_hosts` file. `environment` is added to that of each session."""

    def __init__(self, directory: Path, **environment: str) -> None:
        directory.mkdir(mode=0o700)
        self.directory = directory
        (self.port,) = free_ports(1)
        for name in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
        given = ",".join(f'environment="{name}={value}"' for name, value in environment.items())
        (directory / "authorized_keys").write_text(f"{given} {(directory / 'key.pub').read_text()}".lstrip())
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {(directory / 'host_key.pub').read_text()}")
        (directory / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nPasswordAuthentication no\nStrictModes no\n"
            f"PermitUserEnvironment {'yes' if environment else 'no'}\n"
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def __enter__(self) -> SshServer:  # noqa: PYI034  # typing.Self is new in 3.11
        """Start it."""
        self.log = (self.directory / "log").open("w")
        command = [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.directory / "sshd_config")]
        self.process = subprocess.Popen(command, stderr=self.log)
        wait_for(lambda: "listening" in (self.directory / "log").read_text(), "sshd listens")
        return self

    def __exit__(self, *_exc: object) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        self.log.close()

    def url(self, path: Path) -> str:
        """The address of a repository on it."""
        return f"ssh://127.0.0.1:{self.port}{path}"

    @property
    def command(self) -> str:
        """The ssh client for git, for `GIT_SSH_COMMAND`."""
        return (
            f"ssh -F none -i {self.directory}/key -o IdentitiesOnly=yes -o "
            f"UserKnownHostsFile={self.directory}/known_hosts "
            "-o BatchMode=yes"
        )
