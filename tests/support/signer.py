"""Somebody who signs commits."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.repository import GitRepository


class Signer:
    """Somebody with an SSH key."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.key = directory / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    @property
    def line(self) -> str:
        """The line by which a file of allowed signers knows them."""
        return f"{self.name}@example.org {self.key.with_suffix('.pub').read_text()}"

    def commit(self, repository: GitRepository, text: str) -> str:
        """A commit with their signature."""
        settings = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.key}"]
        (repository.path / "index.html").write_text(text)
        repository.git("add", "-A")
        repository.git(*settings, "commit", "-q", "-S", "-m", text)
        return repository.head
