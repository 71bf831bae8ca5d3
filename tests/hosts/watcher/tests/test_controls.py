"""What was set with `zoo-watcher` on a host outlasts its reboot."""

from __future__ import annotations

import subprocess

from hosts.lab.lab import Lab
from hosts.watcher.server import Server
from support.waiting import wait_for


def typed(server: Server, *words: str) -> str:
    """Return the line that `zoo-watcher` prints on a host."""
    command = [*server.host.inside(), "/usr/local/bin/zoo-watcher", *words]
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True).stdout


def test_a_drained_server_is_not_found_after_its_reboot_until_it_is_undrained(
    lab: Lab, servers: dict[str, Server]
) -> None:
    server = servers["bookworm-38"]
    assert typed(server, "drain", "--reason", "disk swap").endswith(": disk swap; nothing is registered\n")
    try:
        assert not server.registered()
        subprocess.run([*server.host.inside(), "systemctl", "reboot"], check=True)
        wait_for(lambda: not server.status(), "its agent has left")
        lab.start([server.name])
        wait_for(lambda: server.status().get("state") == "active", "it has proved its release", 60)
        assert server.status()["drained"]["reason"] == "disk swap"
        assert not server.registered()
    finally:
        typed(server, "undrain")
    server.settle()
