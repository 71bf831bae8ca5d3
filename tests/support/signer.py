"""A person who signs commits and records of releases."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.repository import GitRepository


class Signer:
    """A person with an SSH key."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.key = directory / name
        self.identity = self.key
        """The key that signs, or its certificate."""
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)

    @property
    def line(self) -> str:
        """Their line in a file of allowed signers."""
        return f"{self.name}@example.org {self.key.with_suffix('.pub').read_text()}"

    def commit(self, repository: GitRepository, text: str) -> str:
        """Make a commit with their signature."""
        settings = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.key}"]
        (repository.path / "index.html").write_text(text)
        repository.git("add", "-A")
        repository.git(*settings, "commit", "-q", "-S", "-m", text)
        return repository.head

    def sign_record(self, app: str, record: Mapping[str, Any], serial: int, **keys: Any) -> dict[str, Any]:
        """The signed record of a release; `not_after` is its expiry, `namespace` the purpose of the signature."""
        numbered = {**record, "app": app, "serial": serial}
        if "not_after" in keys:
            numbered["notAfter"] = keys["not_after"]
        signed = ("url", "ref", "commitId", "relativePath", "rollout", "serial", "notAfter")
        content = {"app": app, **{key: numbered.get(key) for key in signed}}
        text = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
        return {**numbered, "signature": self.sign(text, keys.get("namespace", "zoo.deploy"))}

    def sign(self, text: bytes, namespace: str) -> str:
        """Their signature of a text, for a namespace."""
        command = ["ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(self.identity)]
        return subprocess.run(command, input=text, capture_output=True, check=True).stdout.decode()
