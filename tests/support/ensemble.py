"""A real ZooKeeper ensemble of plain processes on loopback, from the distribution's jars."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import Self

from support.certificates import Certificates
from support.ports import free_ports
from support.waiting import wait_for

NETTY = ("buffer", "codec", "common", "handler", "resolver", "transport", "transport-native-epoll")
JARS = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in (
        "zookeeper",
        "slf4j-simple",
        "servlet-api",
        *(f"netty-{part}" for part in (*NETTY, "transport-native-unix-common")),
    )
)
JVM = ["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true"]


@dataclass
class Member:
    """One server: its directory, its client port, its process while it runs."""

    number: int
    directory: Path
    client_port: int
    jvm: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process; it serves once the ensemble has a quorum."""
        classpath = f"{self.directory}:{JARS}"
        command = ["java", *JVM, *self.jvm, "-cp", classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"]
        with (self.directory / "zookeeper.log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.directory / "zoo.cfg")], stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        """Send a signal to the process (SIGSTOP and SIGCONT included). After SIGSTOP it answers no more requests."""
        if self.process is not None:
            self.process.send_signal(number)
            if number == signal.SIGSTOP:  # its threads stop one by one
                os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def kill(self) -> None:
        """End the process as a crash would, and wait for it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, word: str) -> str:
        """The answer to a four-letter word; empty if there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.client_port), timeout=2) as conn:
                conn.sendall(word.encode())
                return b"".join(iter(lambda: conn.recv(65536), b"")).decode(errors="replace")
        except OSError:
            return ""

    def serves(self) -> bool:
        """Whether it serves. If it has ended by itself, it is started again, as a systemd unit would be."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        return bool(self.mode)

    @property
    def mode(self) -> str:
        """`leader`, `follower`, `observer`, `standalone`, or empty while it does not serve."""
        for line in self.ask("srvr").splitlines():
            if line.startswith("Mode: "):
                return line.removeprefix("Mode: ")
        return ""


class Ensemble:
    """`size` servers under `root`, running inside a `with` block; the last `observers` of them have no vote.

    `extra` holds lines for every zoo.cfg, `jvm` arguments for every JVM.
    """

    def __init__(
        self,
        root: Path,
        size: int = 3,
        tick: int = 500,
        extra: tuple[str, ...] = (),
        jvm: tuple[str, ...] = (),
        observers: int = 0,
    ) -> None:
        self.root = root
        self.secure_hosts = ""
        ports = free_ports(size * 3)
        self.members = [Member(i + 1, root / f"zk{i + 1}", ports[i], jvm) for i in range(size)]
        roles = [""] * (size - observers) + [":observer"] * observers
        peers = [
            f"server.{i + 1}=127.0.0.1:{ports[size + i]}:{ports[2 * size + i]}{role}" for i, role in enumerate(roles)
        ]
        for member, role in zip(self.members, roles):
            own = ["peerType=observer"] if role else []
            self._configure(member, tick, [*peers, *own] if size > 1 else [], extra)

    @classmethod
    def with_tls(
        cls, root: Path, certificates: Certificates, *extra: str, users: dict[str, str] | None = None
    ) -> Ensemble:
        """One server that also speaks TLS, at `secure_hosts`, with clients that have a certificate.

        `extra` holds lines of its configuration; `users` can log in as in `with_sasl`.
        """
        login = cls._login(root, _digest_login(users)) if users else {"extra": (), "jvm": ()}
        (port,) = free_ports(1)
        made = cls(
            root,
            size=1,
            extra=(
                "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
                f"secureClientPort={port}",
                f"ssl.keyStore.location={certificates.server}",
                f"ssl.trustStore.location={certificates.ca}",
                *extra,
                *login["extra"],
            ),
            jvm=login["jvm"],
        )
        made.secure_hosts = f"localhost:{port}"
        return made

    @classmethod
    def with_sasl(cls, root: Path, users: dict[str, str]) -> Ensemble:
        """One server where `users` (name to password) can log in by SASL, mechanism DIGEST-MD5."""
        return cls(root, size=1, **cls._login(root, _digest_login(users)))

    @classmethod
    def with_kerberos(cls, root: Path, principal: str, keytab: Path, krb5_conf: Path) -> Ensemble:
        """One server where principals of a realm can log in by SASL, mechanism GSSAPI; `principal` is its own."""
        module = (
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true useTicketCache=false"
        )
        login = f'{module}\n  keyTab="{keytab}"\n  principal="{principal}"'
        return cls(root, size=1, **cls._login(root, login, f"-Djava.security.krb5.conf={krb5_conf}"))

    @staticmethod
    def _login(root: Path, module: str, *jvm: str) -> dict[str, Any]:
        """The settings that make a server log clients in by a JAAS module."""
        root.mkdir(parents=True, exist_ok=True)
        jaas = root / "jaas.conf"
        jaas.write_text(f"Server {{\n  {module};\n}};\n")
        return {
            "extra": ("authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",),
            "jvm": (f"-Djava.security.auth.login.config={jaas}", *jvm),
        }

    @staticmethod
    def _configure(member: Member, tick: int, peers: list[str], extra: tuple[str, ...]) -> None:
        (member.directory / "data").mkdir(parents=True)
        (member.directory / "data" / "myid").write_text(f"{member.number}\n")
        lines = [
            f"tickTime={tick}",
            "initLimit=20",
            "syncLimit=10",
            f"dataDir={member.directory}/data",
            f"clientPort={member.client_port}",
            "clientPortAddress=127.0.0.1",
            "admin.enableServer=false",
            "4lw.commands.whitelist=*",
            "maxClientCnxns=0",
            *peers,
            *extra,
        ]
        (member.directory / "zoo.cfg").write_text("\n".join(lines) + "\n")

    @property
    def hosts(self) -> str:
        """The connection string of all members."""
        return ",".join(f"127.0.0.1:{member.client_port}" for member in self.members)

    @property
    def leader(self) -> Member:
        """The current leader."""
        return wait_for(self._leaders, "the ensemble has a leader")[0]

    def sessions(self) -> set[str]:
        """The ids of all sessions that have not ended, as `0x1c0ffee`.

        A dump lacks a session whose expiry is extended while the dump is made, so two are taken.
        """
        dumps = [wait_for(self._dump, "the leader's dump") for _time in range(2)]
        return set(re.findall(r"0x[0-9a-f]+", "".join(dumps)))

    def _dump(self) -> str:
        answer = self.leader.ask("dump")
        return answer if "SessionTracker" in answer else ""

    def _leaders(self) -> list[Member]:
        return [member for member in self.members if member.mode in {"leader", "standalone"}]

    def _lacking(self) -> list[Member]:
        return [member for member in self.members if not member.serves()]

    def start(self) -> Ensemble:
        """Start every member and wait until each serves."""
        for member in self.members:
            if member.process is None:
                member.start()
        wait_for(lambda: not self._lacking(), f"every member serves, logs in {self.root}", 60)
        return self

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every member and remove the data."""
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.kill()
        shutil.rmtree(self.root, ignore_errors=True)


def _digest_login(users: dict[str, str]) -> str:
    entries = "\n".join(f'  user_{name}="{password}"' for name, password in users.items())
    return f"org.apache.zookeeper.server.auth.DigestLoginModule required\n{entries}"
