"""A run of several parts that know secrets, and all that they have said and left."""

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
    """The parts that know a secret each, and all that they have said."""

    directory: Path
    servers: Ensemble
    certificates: Certificates
    secrets: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)

    def secret(self, name: str) -> str:
        """A new secret, which nothing else contains."""
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
        """Run one as verbosely as it can be, with its log and all that it leaves below the directory."""
        done = run_playbook(Path(name), *words, "-vvvvv", "--diff", env={**self.places(), **(env or {})})
        self.said[name] = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, self.said[name]

    def places(self) -> dict[str, str]:
        """Where Ansible puts what it keeps, and what it has sent to a host."""
        return {
            "ANSIBLE_LOG_PATH": str(self.directory / "ansible.log"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
            "HOME": str(self.directory / "home"),
        }
