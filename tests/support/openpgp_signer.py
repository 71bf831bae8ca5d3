"""A person who signs commits with OpenPGP."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.repository import GitRepository


class OpenPgpSigner:
    """A person with an OpenPGP key; it is valid for `lasts`, in gpg's notation, from `since` or else from now."""

    def __init__(self, home: Path, name: str, lasts: str = "0", since: str | None = None) -> None:
        self._home = home
        self.address = f"{name}@example.org"
        faked = ["--faked-system-time", since] if since else []
        generate = ["--passphrase", "", "--quick-generate-key", f"{name} <{self.address}>", "ed25519", "sign", lasts]
        self._gpg(*faked, *generate)

    def commit(self, repository: GitRepository, text: str, when: str | None = None) -> str:
        """Make a commit with their signature, at the time `when` by gpg's clock."""
        program = self._home / "sign"
        faked = f"--faked-system-time {when}" if when else ""
        program.write_text(f'#!/bin/sh\nGNUPGHOME="{self._home}" exec gpg {faked} "$@"\n')
        program.chmod(0o700)
        (repository.path / "index.html").write_text(text)
        repository.git("add", "-A")
        settings = ["-c", "gpg.format=openpgp", "-c", f"gpg.program={program}", "-c", f"user.signingKey={self.address}"]
        repository.git(*settings, "commit", "-q", "-S", "-m", text)
        return repository.head

    def revoke(self) -> None:
        """Revoke the key."""
        self._gpg("--import", text=self.revocation.decode())

    @property
    def revocation(self) -> bytes:
        """The key's revocation certificate."""
        fingerprint = next(
            line.split(":")[9]
            for line in self._gpg("--with-colons", "--list-keys", self.address).decode().splitlines()
            if line.startswith("fpr:")
        )
        text = (self._home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes()
        # gpg stores it with a colon in front, so that nobody imports it by mistake.
        return text.replace(b":-----BEGIN", b"-----BEGIN")

    def public(self, *, armored: bool = True) -> bytes:
        """The public key, as exported by `gpg --export`."""
        return self._gpg(*(["--armor"] if armored else []), "--export", self.address)

    def _gpg(self, *words: str, text: str = "") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--no-tty", *words]
        environment = {**os.environ, "GNUPGHOME": str(self._home), "LC_ALL": "C"}
        return subprocess.run(command, input=text.encode(), env=environment, capture_output=True, check=True).stdout


@contextmanager
def openpgp_home() -> Iterator[Path]:
    """A directory for the keys of signers. It contains sockets, so its path has to be short."""
    home = Path(tempfile.mkdtemp(prefix="gpg"))
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)
