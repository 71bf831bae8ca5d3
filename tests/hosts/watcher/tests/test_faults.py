"""Servers that are cut off, crash or reboot: how long they stay registered, and that they recover by themselves."""

from __future__ import annotations

import json
import subprocess
import time
from typing import get_args

import pytest

from hosts.lab import network
from hosts.lab.lab import Lab
from hosts.watcher.server import APP, Server
from support.waiting import wait_for

SESSION_TIMEOUT = 4.0
TICK = 2.0
"""Seconds. An ensemble checks for expired sessions once per tick."""
MARGIN = 1.5
"""Seconds by which a loaded machine may be late."""


def gone_after(server: Server, began: float) -> float:
    """Wait until a server is no longer registered, and return the seconds since `began`."""
    wait_for(lambda: not server.registered(), f"{server.name} is no longer found")
    return time.monotonic() - began


@pytest.mark.parametrize("way", get_args(network.Way))
def test_servers_that_are_cut_off_leave_discovery_within_the_session_timeout_and_come_back(
    lab: Lab, servers: dict[str, Server], way: network.Way
) -> None:
    releases = {server.name: server.status()["commitId"] for server in servers.values()}
    cut = {}
    for server in servers.values():
        network.cut(lab.holder, server.host.number, way)
        cut[server.name] = time.monotonic()
    try:
        for server in servers.values():
            assert gone_after(server, cut[server.name]) < SESSION_TIMEOUT + TICK + MARGIN
    finally:
        for server in servers.values():
            network.mend(lab.holder, server.host.number)
    for server in servers.values():
        server.settle()
        assert server.status()["commitId"] == releases[server.name]


def test_a_release_that_was_missed_is_live_after_the_cut(lab: Lab, servers: dict[str, Server]) -> None:
    server = servers["trixie-38"]
    network.cut(lab.holder, server.host.number, "link")
    try:
        gone_after(server, time.monotonic())
        (origin,) = lab.named(["origin"])
        commit = subprocess.run(
            [*origin.inside(), "commit-version", "three"], check=True, capture_output=True, text=True
        )
        release = {**server.published(), "commitId": commit.stdout.strip()}
        server.zk.set(f"{APP}/config", json.dumps(release).encode())
    finally:
        network.mend(lab.holder, server.host.number)
    server.settle()


def test_a_crashed_server_leaves_discovery_within_the_session_timeout_and_boots_into_its_release(
    lab: Lab, servers: dict[str, Server]
) -> None:
    crashed = [servers["bookworm-39"], servers["trixie-38"]]
    for server in crashed:
        server.host.crash()
    began = time.monotonic()
    for server in crashed:
        assert gone_after(server, began) < SESSION_TIMEOUT + TICK + MARGIN
    lab.start([server.name for server in crashed])
    for server in crashed:
        server.settle()


@pytest.mark.parametrize("name", ["bookworm-38", "trixie-39"])
def test_a_server_that_is_rebooted_leaves_discovery_at_once_and_comes_back(
    lab: Lab, servers: dict[str, Server], name: str
) -> None:
    server = servers[name]
    began = time.monotonic()
    subprocess.run([*server.host.inside(), "systemctl", "reboot"], check=True)
    # An unclosed session would have outlived it longer: its last heartbeat is at most a third of the timeout old.
    assert gone_after(server, began) < SESSION_TIMEOUT * 2 / 3
    lab.start([name])
    server.settle()
