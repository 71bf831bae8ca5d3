"""A web server of the scenario, as its tests see it from the controller, in the lab's network."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from hosts.lab.host import Host
from support.waiting import wait_for

APP = "/app/business"
REGISTRY = "/service/web"
SERVERS = ("bookworm-38", "bookworm-39", "trixie-38", "trixie-39")


@dataclass(frozen=True)
class Server:
    """A web server: its host, and a client of its ensemble."""

    host: Host
    zk: KazooClient

    @property
    def name(self) -> str:
        """The host's name, which the agent and the registration also have."""
        return self.host.name

    @property
    def registration(self) -> str:
        """The path of its registration's znode."""
        return f"{REGISTRY}/{self.name}"

    def published(self) -> dict[str, Any]:
        """The release that it should run, with its generation."""
        data, stat = self.zk.get(f"{APP}/config")
        return {**json.loads(data), "generation": stat.mzxid}

    def status(self) -> dict[str, Any]:
        """The status that its agent reports; empty if there is none."""
        with contextlib.suppress(NoNodeError):
            return dict(json.loads(self.zk.get(f"{APP}/agents/{self.name}")[0]))
        return {}

    def registered(self) -> bool:
        """Whether it is registered."""
        return self.zk.exists(self.registration) is not None

    def converged(self) -> bool:
        """Whether it is registered, and its agent has proved what is published."""
        status, published = self.status(), self.published()
        return (
            self.registered()
            and status.get("state") == "active"
            and (status["generation"], status["commitId"]) == (published["generation"], published["commitId"])
        )

    def settle(self) -> None:
        """Wait until it has converged."""
        wait_for(self.converged, f"{self.name} has converged, registered", 60)


def on(server: Server, *words: str) -> str:
    """Return what a command prints on a server."""
    command = [*server.host.inside(), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, text=True)
    return done.stdout.strip()
