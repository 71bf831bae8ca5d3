"""Certificates for a TLS ensemble, made by openssl: an authority's, one for the servers, one for clients."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "a passphrase of the tests"
"""The passphrase of `Certificates.locked_key`."""


@dataclass(frozen=True)
class Certificates:
    """PEM files in `directory`. The servers' certificate is for the host name `localhost`, not for any address."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> Certificates:
        """Create an authority and the certificates that it signs."""
        directory.mkdir(parents=True)
        made = cls(directory)
        made._openssl("req", "-x509", "-subj", "/CN=authority", *_NEW_KEY, "-keyout", "authority.key", "-out", "ca.pem")
        made._sign("server", "subjectAltName=DNS:localhost")
        made._sign("client", "subjectAltName=DNS:client.example.org")
        made._openssl("pkey", "-in", "client.key", "-aes256", "-passout", f"pass:{PASSWORD}", "-out", "locked.key")
        made.server.write_text((directory / "server.key").read_text() + (directory / "server.crt").read_text())
        return made

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.pem"

    @property
    def server(self) -> Path:
        """The servers' key and certificate in one file, as ZooKeeper reads them."""
        return self.directory / "server.pem"

    @property
    def client(self) -> Path:
        """The clients' certificate."""
        return self.directory / "client.crt"

    @property
    def key(self) -> Path:
        """The clients' private key."""
        return self.directory / "client.key"

    @property
    def locked_key(self) -> Path:
        """The same key, encrypted with `PASSWORD`."""
        return self.directory / "locked.key"

    def _sign(self, name: str, extension: str) -> None:
        authority = ["-CA", "ca.pem", "-CAkey", "authority.key"]
        self._openssl(
            *("req", "-x509", "-subj", f"/CN={name}", "-addext", extension, *_NEW_KEY, *authority),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.directory, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
