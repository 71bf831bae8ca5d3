# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of the quickstart, checked without the collection: ZooKeeper by kazoo, the directories, HTTP.

`proof.py DIRECTORY ready SERVER...`: each server answers over HTTP, and within 15 seconds its agent is in ZooKeeper.
`proof.py DIRECTORY serves COMMIT FILE SERVER...`: each server's symlink is at the commit, and over HTTP it serves FILE
as in that commit.
`proof.py DIRECTORY registered SERVER...`: within 15 seconds exactly these servers are registered.
Each prints what it saw, or exits with status 1 and the reason.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

REGISTRY = "/service/business/what"
AGENTS = "/app/business/agents"
WITHIN = 15.0
"""Seconds within which an agent must be live, and a registration created or withdrawn."""

T = TypeVar("T")


def main() -> None:
    """Check what the arguments name."""
    directory, verb, *words = Path(sys.argv[1]), *sys.argv[2:]
    ports = json.loads((directory / "ports.json").read_text())
    web = {f"server{i + 1}": port for i, port in enumerate(ports["web"])}
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports["zk"])
    if verb == "ready":
        ready(directory, hosts, {server: web[server] for server in words})
    elif verb == "serves":
        commit, name, *servers = words
        content = in_git(directory / "repository.git", commit, name)
        for server in servers:
            serves(directory / server, web[server], commit, name, content)
    else:
        registered(hosts, {server: web[server] for server in words})


def ready(directory: Path, hosts: str, web: dict[str, int]) -> None:
    """Print that all servers answer and that their agents are live; exit if they are not."""
    for server, port in web.items():
        over_http(directory / server, f"http://127.0.0.1:{port}/")
    with connected(hosts) as client:
        missing, _seconds = poll(lambda: sorted(set(web) - set(children(client, AGENTS))), lambda names: not names)
    if missing:
        logs = ", ".join(f"{directory / server}/agent.log" for server in missing)
        sys.exit(f"no agent of {', '.join(missing)} is in ZooKeeper after {WITHIN:g} s; see {logs}")
    print(f"{len(web)} of {len(web)} servers answer over HTTP, and have their agents in ZooKeeper")


def in_git(repository: Path, commit: str, name: str) -> bytes | None:
    """A file of a commit; None if the commit has none of that name."""
    done = subprocess.run(["git", "-C", str(repository), "show", f"{commit}:{name}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def serves(directory: Path, port: int, commit: str, name: str, content: bytes | None) -> None:
    """Print that a server has the commit; exit if it has not."""
    live = (directory / "www" / "site").resolve().name
    url = f"http://127.0.0.1:{port}/{quote(name)}"
    body = over_http(directory, url)
    if live != commit:
        sys.exit(f"{directory.name}: its link is at {live}, not at {commit}; see {directory}/agent.log")
    if body != content:
        sys.exit(f"{directory.name}: {url} is not what git has at {commit}; see {directory}/nginx.log")
    seen = "not there, as in git" if content is None else f"{len(content)} bytes, as in git"
    print(f"seen by HTTP: {url}  {seen}")


def over_http(directory: Path, url: str) -> bytes | None:
    """The content that a server has at an address; None if there is none (404)."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # an address of our own making
            return bytes(answer.read())
    except OSError as exc:
        if isinstance(exc, urllib.error.HTTPError) and exc.code == 404:
            return None
        sys.exit(f"{directory.name}: {url}: {exc}; see {directory}/nginx.log")


def registered(hosts: str, servers: dict[str, int]) -> None:
    """Wait until the registry has exactly these servers, by name and port; exit if it does not."""
    with connected(hosts) as client:
        registrations, seconds = poll(lambda: registry(client), lambda found: found == servers)
    if registrations != servers:
        sys.exit(f"registered are {registrations}, not {servers}, after {WITHIN:g} s; see the agents' logs, agent.log")
    print(f"seen in ZooKeeper, after {seconds:.2f} s: {' '.join(sorted(registrations)) or 'no server'}")


def registry(client: KazooClient) -> dict[str, int]:
    """The registered servers and their ports."""
    ports = {}
    for child in children(client, REGISTRY):
        with contextlib.suppress(NoNodeError):
            _address, port = json.loads(client.get(f"{REGISTRY}/{child}")[0])
            ports[child] = int(port)
    return ports


def children(client: KazooClient, path: str) -> list[str]:
    """The names below a znode; none if it does not exist."""
    try:
        return list(client.get_children(path))
    except NoNodeError:
        return []


def poll(read: Callable[[], T], is_done: Callable[[T], bool]) -> tuple[T, float]:
    """Read until it is done or the time is up; returns what was read last, and the seconds it took."""
    began = time.monotonic()
    while True:
        state, seconds = read(), time.monotonic() - began
        if is_done(state) or seconds > WITHIN:
            return state, seconds
        time.sleep(0.02)


@contextlib.contextmanager
def connected(hosts: str) -> Iterator[KazooClient]:
    """A client that is connected while the block lasts."""
    client = KazooClient(hosts)
    client.start(timeout=WITHIN)
    try:
        yield client
    finally:
        client.stop()


if __name__ == "__main__":
    main()
