"""A run of several parts that know secrets, with all their output and the files that they leave."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.certificates import Certificates
from support.ensemble import Ensemble
from support.playbook import run_playbook


@dataclass
class Flow:
    """Parts that each know a secret, and all their output."""

    directory: Path
    servers: Ensemble
    certificates: Certificates
    secrets: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str) -> str:
        """The secret of this name; a new one is unique."""
        return self.secrets.setdefault(name, f"s3cret-{name}-{uuid.uuid4().hex}")

    def tls(self, name: str) -> dict[str, Any]:
        """TLS options with a key that has a password of its own."""
        password, key = self.secret(f"{name}-key-password"), self.directory / f"{name}.key"
        locked = ["openssl", "pkey", "-in", str(self.certificates.key), "-aes256", "-out", str(key)]
        subprocess.run([*locked, "-passout", "stdin"], input=password, check=True, capture_output=True, text=True)
        options = {"tls": True, "tls_ca": str(self.certificates.ca), "tls_cert": str(self.certificates.client)}
        return {"hosts": self.servers.secure_hosts, **options, "tls_key": str(key), "tls_key_password": password}

    def sasl(self, name: str) -> dict[str, Any]:
        """The options of a part that logs in by SASL."""
        login = {"sasl_mechanism": "DIGEST-MD5", "sasl_username": name, "sasl_password": self.secret(name)}
        return {**self.tls(name), **login}

    def digest(self, name: str) -> dict[str, Any]:
        """The options of a part that logs in by digest."""
        return {**self.tls(name), "digest_username": name, "digest_password": self.secret(name)}

    def environment(self, options: dict[str, Any]) -> dict[str, str]:
        """The same options as environment variables."""
        return {f"ZK_{name.upper()}": str(value) for name, value in options.items()}

    def playbook(self, name: str, *words: str, fails: bool = False, env: dict[str, str] | None = None) -> None:
        """Run one as verbosely as possible, with its log and all files that it leaves below the directory."""
        done = run_playbook(Path(name), *words, "-vvvvv", "--diff", env={**self.places(), **(env or {})})
        self.said[name] = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, self.said[name]

    def places(self) -> dict[str, str]:
        """The directories of the files that Ansible keeps, and of those that it sends to a host."""
        return {
            "ANSIBLE_LOG_PATH": str(self.directory / "ansible.log"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
            "HOME": str(self.directory / "home"),
        }
