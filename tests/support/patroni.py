"""Real members of Patroni clusters, each with its own PostgreSQL, from the distribution's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import Self

from support.other_user import NOBODY
from support.ports import free_ports
from support.waiting import wait_for

CLIENT = Path("/usr/lib/python3/dist-packages/kazoo")
"""The library with which the distribution's Patroni speaks to ZooKeeper."""


def lacking() -> str:
    """Why no member can run here, in one line; empty if one can."""
    there = shutil.which("patroni") and CLIENT.exists() and any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return "" if there else "needs Debian's patroni, python3-kazoo and postgresql"


class PatroniMember:
    """One member, with its data below `root`, which every user must be able to enter: PostgreSQL does not run as root.

    With `standby_of`, its cluster is a standby cluster that follows the PostgreSQL at that port.
    """

    def __init__(self, root: Path, hosts: str, namespace: str, scope: str, name: str, standby_of: int = 0) -> None:
        self.name = name
        self.port, self.api_port = free_ports(2)
        self._directory = root / name
        self._config = {
            "scope": scope,
            "name": name,
            "namespace": namespace,
            "zookeeper": {"hosts": hosts.split(",")},
            "restapi": {"listen": f"127.0.0.1:{self.api_port}", "connect_address": f"127.0.0.1:{self.api_port}"},
            "bootstrap": {
                "dcs": self._cluster(standby_of),
                "initdb": ["no-sync", {"auth": "trust"}, {"encoding": "UTF8"}, {"locale": "C"}, {"wal-segsize": "1"}],
            },
            "postgresql": self._postgresql(),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def _cluster(standby_of: int) -> dict[str, Any]:
        parameters = {"fsync": "off", "shared_buffers": "16MB", "max_connections": 20, "min_wal_size": "2MB"}
        standby = {"standby_cluster": {"host": "127.0.0.1", "port": standby_of}} if standby_of else {}
        return {"ttl": 20, "loop_wait": 1, "retry_timeout": 5, "postgresql": {"parameters": parameters}, **standby}

    def _postgresql(self) -> dict[str, Any]:
        return {
            "listen": f"127.0.0.1:{self.port}",
            "connect_address": f"127.0.0.1:{self.port}",
            "data_dir": str(self._directory / "data"),
            "bin_dir": str(max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent),
            "pgpass": str(self._directory / "pgpass"),
            "parameters": {"unix_socket_directories": str(self._directory)},
            "basebackup": ["no-sync", {"checkpoint": "fast"}],
            "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
            "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "postgres"}},
        }

    def start(self) -> Self:
        """Start it, without waiting until it is registered."""
        self._directory.mkdir(mode=0o700)
        file = self._directory / "patroni.yml"
        file.write_text(yaml.safe_dump(self._config))
        # Patroni runs with the distribution's Python and packages, not with this environment's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            for path in (self._directory, file):
                os.chown(path, NOBODY, NOBODY)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [shutil.which("patroni") or "/usr/bin/patroni", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env=environment,
                **user,
            )
        return self

    def end(self) -> None:
        """End it, and then its PostgreSQL, which is not its child and may be about to start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            wait_for(lambda: not self._quit(), f"nothing of {self.name} runs")

    def _quit(self) -> list[int]:
        """The processes that work in its directory; each is sent SIGQUIT."""
        named = os.fsencode(f"{self._directory}/")
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if named in _content(path)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
