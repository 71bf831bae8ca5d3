"""What systemd does with the agent's unit while something is wrong with a host, and once that is repaired."""

from __future__ import annotations

import contextlib

from kazoo.exceptions import NodeExistsError

from hosts.watcher.server import Server, on
from support.waiting import wait_for

UNIT = "zoo-watcher@business.service"
CONFIG = "/etc/zoo-watcher/business.json"
DIRECTORY = "/srv/motd"
MANY = 8
"""More starts than the 5 (or one more) after which systemd gives up on a unit by default."""


def restarts(server: Server) -> int:
    """How many times systemd has restarted the agent by itself."""
    return int(on(server, "systemctl", "show", "--property=NRestarts", "--value", UNIT))


def test_an_agent_that_ends_at_each_start_is_restarted_until_its_host_is_repaired(servers: dict[str, Server]) -> None:
    unconfigured, locked = servers["bookworm-38"], servers["trixie-39"]
    on(unconfigured, "mv", CONFIG, f"{CONFIG}.away")
    on(locked, "systemctl", "stop", UNIT)
    on(locked, "systemd-run", "--unit=holder", "flock", "/srv/app/.zoo/agent.lock", "sleep", "infinity")
    try:
        on(locked, "systemctl", "start", "--no-block", UNIT)
        on(unconfigured, "systemctl", "kill", "--signal=KILL", UNIT)
        # They exit with different statuses, the second only after it has waited for the lock.
        for server, number in {unconfigured: restarts(unconfigured) + MANY, locked: restarts(locked) + 2}.items():
            wait_for(lambda: restarts(server) >= number, f"{server.name} goes on", 90)
            assert not server.status()
    finally:
        on(unconfigured, "mv", f"{CONFIG}.away", CONFIG)
        on(locked, "systemctl", "stop", "holder.service")
    for server in (unconfigured, locked):
        server.settle()


def test_an_agent_starts_even_if_the_directory_of_a_file_is_missing(servers: dict[str, Server]) -> None:
    server = servers["bookworm-39"]
    with contextlib.suppress(NodeExistsError):
        server.zk.create("/motd", b"welcome")
    wait_for(lambda: state_of_file(server) == ("current", None), "the file is there")
    on(server, "rm", "-r", DIRECTORY)
    on(server, "systemctl", "restart", UNIT)
    server.settle()
    missing = f"no directory {DIRECTORY} on this host; make it, then restart the agent"
    wait_for(lambda: state_of_file(server) == ("failed", missing), "what is missing is named")
    on(server, "mkdir", "--mode=1777", DIRECTORY)
    on(server, "systemctl", "restart", UNIT)
    wait_for(lambda: state_of_file(server) == ("current", None), "the file is there again")
    assert on(server, "cat", f"{DIRECTORY}/motd") == "welcome"


def state_of_file(server: Server) -> tuple[str | None, str | None]:
    """The state that the agent reports for the file, and its message."""
    status = server.status().get("files", {}).get(f"{DIRECTORY}/motd", {})
    return status.get("state"), status.get("message")
