"""A real Kerberos realm on loopback: an MIT KDC with its database in a directory, and the keys of its principals.

Nothing of it is in /etc, and a program finds it only by its environment.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from typing_extensions import Self

from support.ports import free_ports
from support.waiting import wait_for

REALM = "TESTS.EXAMPLE.ORG"
TOOLS = ("krb5kdc", "kdb5_util", "kadmin.local")
LIBRARY = Path("/usr/lib/python3/dist-packages")
"""The location of Debian's python3-kerberos: PyPI has the library only as source code."""
CLIENT = """\
[libdefaults]
  default_realm = {realm}
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  {realm} = {{
    kdc = 127.0.0.1:{port}
  }}
"""
SERVER = """\
[kdcdefaults]
  kdc_listen = ""
  kdc_tcp_listen = "127.0.0.1:{port}"
[realms]
  {realm} = {{
    database_name = {directory}/principal
    key_stash_file = {directory}/stash
    supported_enctypes = aes256-cts-hmac-sha1-96:normal
    max_life = 1h
  }}
[logging]
  kdc = FILE:{directory}/kdc.log
"""


def find_tool(name: str) -> str | None:
    """The path of one of the KDC's programs, which are among the system administrator's."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def lacking() -> list[str]:
    """The requirements of a realm that this machine lacks."""
    names = [f"kerberos{suffix}" for suffix in EXTENSION_SUFFIXES]
    library = [] if any((LIBRARY / name).exists() for name in names) else ["python3-kerberos for this Python"]
    return [name for name in TOOLS if not find_tool(name)] + library


@dataclass
class Realm:
    """The KDC, running inside a `with` block."""

    directory: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Kerberos's programs and libraries use this realm."""
        return {"KRB5_CONFIG": str(self.directory / "krb5.conf"), "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf")}

    def client(self, principal: str) -> dict[str, str]:
        """The environment of a client that gets its tickets with the principal's keys and keeps them in a file."""
        return {
            **self.environment,
            "KRB5_CLIENT_KTNAME": f"FILE:{self.keytab(principal)}",
            "KRB5CCNAME": f"FILE:{self.tickets(principal)}",
        }

    def tickets(self, principal: str) -> Path:
        """The file with the tickets of such a client."""
        return self.directory / f"{principal}.tickets"

    def keytab(self, principal: str) -> Path:
        """The file with a principal's keys."""
        return self.directory / f"{principal.replace('/', '-')}.keytab"

    def add(self, principal: str) -> Path:
        """Create a principal with random keys, and return the file with them."""
        self._run("kadmin.local", "-r", REALM, "addprinc", "-randkey", principal)
        self._run("kadmin.local", "-r", REALM, "ktadd", "-k", str(self.keytab(principal)), principal)
        return self.keytab(principal)

    def library(self) -> Path:
        """A directory for PYTHONPATH with the distribution's library, and nothing else of its Python."""
        place = self.directory / "python"
        place.mkdir()
        for file in LIBRARY.glob("kerberos.*.so"):
            (place / file.name).symlink_to(file)
        return place

    def _run(self, name: str, *words: str) -> None:
        tool = find_tool(name)
        assert tool
        subprocess.run([tool, *words], env=self.environment, check=True, capture_output=True)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True)
        values = {"realm": REALM, "port": self.port, "directory": self.directory}
        (self.directory / "krb5.conf").write_text(CLIENT.format(**values))
        (self.directory / "kdc.conf").write_text(SERVER.format(**values))
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "of no use without the files")
        self.start()
        return self

    def start(self) -> None:
        """Start the KDC if it does not run, and wait until it serves."""
        if self.process is not None:
            return
        tool = find_tool("krb5kdc")
        assert tool
        log = self.directory / "kdc.log"
        log.unlink(missing_ok=True)
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [tool, "-n", "-r", REALM], env=self.environment, stdout=output, stderr=output
            )
        wait_for(
            lambda: log.exists() and "commencing operation" in log.read_text(), f"the KDC serves, its log is {log}"
        )

    def stop(self) -> None:
        """End the KDC if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __exit__(self, *_exception: object) -> None:
        self.stop()
