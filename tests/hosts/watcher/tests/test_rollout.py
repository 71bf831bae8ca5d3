"""A release that takes down the host that activates it.

A rollout stops there, and all other hosts go on serving. Without one, each host gives it up after two tries.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hosts.lab.lab import Lab
from hosts.watcher.server import APP, SERVERS, Server, on
from support.rollout import Rollout
from support.waiting import wait_for

SITE = "/srv/app/site"
GIVEN_UP = "given up: the agent died 2 times while this release was being activated or checked"


@dataclass
class Fleet:
    """The servers of one ensemble, and the release that they run."""

    servers: dict[str, Server]
    before: dict[str, Any]

    @classmethod
    def of(cls, servers: dict[str, Server], version: str) -> Fleet:
        """The fleet of a version of ZooKeeper."""
        mine = {name: server for name, server in servers.items() if name.endswith(version)}
        published = next(iter(mine.values())).published()
        return cls(mine, {key: published[key] for key in ("url", "commitId", "relativePath")})

    def publish(self, **keys: Any) -> Rollout:
        """Publish a release, as a rollout or not."""
        zk = next(iter(self.servers.values())).zk
        stat = zk.set(f"{APP}/config", json.dumps({**self.before, **keys}).encode())
        return Rollout(zk, APP, stat.mzxid)


def tree(server: Server) -> str:
    """The live release, with the change times of its files and of the symlink."""
    return on(server, "find", SITE, f"{SITE}/", "-printf", "%p %l %C@\\n")


def served(server: Server) -> str:
    """The version that a server serves."""
    return on(server, "curl", "--silent", "--fail", "http://127.0.0.1:8080/version")


def commit(lab: Lab, version: str) -> str:
    """Commit a version, and return the commit's ID."""
    (origin,) = lab.named(["origin"])
    command = [*origin.inside(), "commit-version", version]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def fleets(lab: Lab, servers: dict[str, Server]) -> Iterator[list[Fleet]]:
    """The fleet of each ensemble. Afterwards all hosts run again, with a release that takes none of them down."""
    fleets = [Fleet.of(servers, version) for version in ("38", "39")]
    yield fleets
    lab.start(SERVERS)
    mended = commit(lab, "mended")
    for fleet in fleets:
        fleet.publish(commitId=mended, rollout=False)


def test_a_canary_that_takes_down_its_host_halts_the_rollout_and_the_other_host_still_serves(
    lab: Lab, fleets: list[Fleet]
) -> None:
    bad = commit(lab, "panic")
    trees = {name: tree(server) for fleet in fleets for name, server in fleet.servers.items()}
    versions = {name: served(server) for fleet in fleets for name, server in fleet.servers.items()}
    plan = {"steps": [{"hosts": 1, "soak": 60}], "minHealthy": 0}
    rollouts = [fleet.publish(commitId=bad, rollout={**plan, "from": fleet.before["commitId"]}) for fleet in fleets]
    canaries = [see_halted(fleet, made, versions, trees) for fleet, made in zip(fleets, rollouts)]
    for fleet, made, canary in zip(fleets, rollouts, canaries):
        boot(canary, fleet.before["commitId"])
        wait_for(canary.registered, f"{canary.name} is found again")
        assert served(canary) == versions[canary.name]
        assert (made.state["phase"], made.entries) == ("halted", {canary.name: "lost"})
        assert canary.zk.exists(f"{APP}/bad/{bad}")


def boot(server: Server, before: str) -> None:
    """Boot a server once: it rolls back, and does not retry the release that took it down."""
    server.host.start()
    wait_for(lambda: stands(server) == ("halted", before), f"{server.name} has gone back", 60)
    assert server.status()["message"].startswith("this host was lost on its way, and has what it had before; ")


def stands(server: Server) -> tuple[str | None, str | None]:
    """A server's state, and the commit that it reports as live."""
    status = server.status()
    return status.get("state"), status.get("commitId")


def see_halted(fleet: Fleet, made: Rollout, versions: dict[str, str], trees: dict[str, str]) -> Server:
    """Wait until the rollout halts at one host, which is off, while the other serves what it had; return the first."""
    reason = made.wait("halted", 60)["reason"]
    (name,) = made.entries
    assert reason == f"{name} lost: it disappeared on its way"
    canary = fleet.servers[name]
    assert canary.host.init is None, "its machine is off"
    (other,) = [server for server in fleet.servers.values() if server is not canary]
    wait_for(lambda: other.status()["state"] == "halted", f"{other.name} says so")
    assert other.status()["commitId"] == fleet.before["commitId"]
    assert (other.registered(), served(other), tree(other)) == (True, versions[other.name], trees[other.name])
    return canary


def test_a_release_that_takes_down_its_host_twice_is_given_up_at_the_second_boot(lab: Lab, fleets: list[Fleet]) -> None:
    bad = commit(lab, "panic")
    hosts = {server.name: (server, fleet.before["commitId"]) for fleet in fleets for server in fleet.servers.values()}
    versions = {name: served(server) for name, (server, _before) in hosts.items()}
    for fleet in fleets:
        fleet.publish(commitId=bad, rollout=False)
    for _boot in range(2):
        for server, _before in hosts.values():
            wait_for(server.host.is_off, f"{server.name} is off", 60)
            server.host.start()
            wait_for(lambda: server.host.init, f"{server.name} is on")
    for name, (server, before) in hosts.items():
        wait_for(lambda: stands(server) == ("rolled_back", before), f"{name} has gone back", 60)
        assert server.status()["message"] == f"{GIVEN_UP}; rolled back to {before}"
        wait_for(server.registered, f"{name} is found again")
        assert served(server) == versions[name]
