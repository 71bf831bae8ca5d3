"""A member of one of the scenario's ensembles, as seen from outside."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosts.lab.host import Host
from hosts.lab.places import ROOT
from support.module import run_module

FILES = Path(os.environ.get("MOLECULE_EPHEMERAL_DIRECTORY", "."))
"""Where prepare.yml puts the certificates, and molecule the inventory."""
MODULE = ROOT / "plugins/modules/zk_ensemble_info.py"
SECRET = "a word of the tests"
"""The password of the SASL user `publisher`."""
MEMBERS_SECRET = "the members' word of the tests"
"""The password of the members."""


@dataclass(frozen=True)
class Member:
    """A host with ZooKeeper."""

    host: Host
    secured: bool = False

    @property
    def tls(self) -> bool:
        """Whether the tests reach it at its TLS port for clients."""
        return self.secured or self.host.name.startswith("new")

    @property
    def port(self) -> int:
        """The port at which the tests reach it."""
        return 2281 if self.tls else 2181

    @property
    def address(self) -> str:
        """The host and port at which the tests reach it."""
        return f"{self.host.address}:{self.port}"

    def run(self, *words: str) -> str:
        """Return what a command on the host prints, whatever its exit status: systemctl also reports states by it."""
        done = subprocess.run([*self.host.inside(), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    @property
    def started(self) -> float:
        """When its service was started, in seconds of the clock that all hosts share."""
        return int(self.run("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "zookeeper")) / 1e6


@dataclass(frozen=True)
class Ensemble:
    """A set of members."""

    members: list[Member]

    @property
    def hosts(self) -> str:
        """The connection string."""
        return ",".join(member.address for member in self.members)

    @property
    def client_options(self) -> dict[str, Any]:
        """The options of kazoo's client in addition to the hosts."""
        if not self.members[0].tls:
            return {}
        sasl = {"mechanism": "DIGEST-MD5", "username": "publisher", "password": SECRET}
        return {**self.certificates(), "sasl_options": sasl}

    @staticmethod
    def certificates(name: str = "client") -> dict[str, Any]:
        """The TLS options among those, with the certificate of this name."""
        names = {"ca": "ca.pem", "certfile": f"{name}.crt", "keyfile": f"{name}.key"}
        return {"use_ssl": True, **{option: str(FILES / name) for option, name in names.items()}}

    def status(self) -> dict[str, Any]:
        """What the members report now, with `modes` by name of the host, and the set of `versions`."""
        files = {"tls_ca": "ca.pem", "tls_cert": "client.crt", "tls_key": "client.key"}
        tls = {"tls": True, "tls_check_hostname": False, **{name: str(FILES / file) for name, file in files.items()}}
        options: dict[str, Any] = {"hosts": self.hosts, "admin_port": 0, **(tls if self.members[0].tls else {})}
        told = run_module(MODULE, **options)
        names = {member.address: member.host.name for member in self.members}
        return {
            **told,
            "modes": {names[one["member"]]: one.get("mode", "") for one in told["members"]},
            "versions": {one.get("version", "") for one in told["members"]},
        }
