# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the quickstart shows, looked at without the collection: ZooKeeper by kazoo, the directories, HTTP.

`proof.py DIRECTORY serves COMMIT FILE SERVER...`: each server's link is at the commit, and over HTTP it gives FILE as
git
has it there. `proof.py DIRECTORY registered SERVER...`: within 15 seconds just these servers are registered. Both print
what they saw, and end with status 1 and the reason where it is not so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

REGISTRY = "/service/business/what"
WITHIN = 15.0
"""Seconds within which a registration must have come or gone."""


def main() -> None:
    """Do what the words say."""
    directory, verb, *words = Path(sys.argv[1]), *sys.argv[2:]
    ports = json.loads((directory / "ports.json").read_text())
    web = {f"server{i + 1}": port for i, port in enumerate(ports["web"])}
    if verb == "serves":
        commit, name, *servers = words
        wanted = in_git(directory / "repository.git", commit, name)
        for server in servers:
            serves(directory / server, web[server], commit, name, wanted)
    else:
        registered([f"127.0.0.1:{port}" for port in ports["zk"]], {server: web[server] for server in words})


def in_git(repository: Path, commit: str, name: str) -> bytes | None:
    """A file of a commit; None where the commit has none of that name."""
    done = subprocess.run(["git", "-C", str(repository), "show", f"{commit}:{name}"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


def serves(directory: Path, port: int, commit: str, name: str, wanted: bytes | None) -> None:
    """Print that a server has the commit; end the program where it has not."""
    live = (directory / "www" / "site").resolve().name
    url = f"http://127.0.0.1:{port}/{quote(name)}"
    got = over_http(url)
    if live != commit:
        sys.exit(f"{directory.name}: its link is at {live}, not at {commit}")
    if got != wanted:
        sys.exit(f"{directory.name}: {url} is not what git has at {commit}")
    seen = "not there, as in git" if wanted is None else f"{len(wanted)} bytes, as in git"
    print(f"seen by HTTP: {url}  {seen}")


def over_http(url: str) -> bytes | None:
    """What is at an address; None where nothing is (404)."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  # an address of our own making
            return bytes(answer.read())
    except urllib.error.HTTPError as exc:
        if exc.code == 404:
            return None
        sys.exit(f"{url}: {exc}")
    except OSError as exc:
        sys.exit(f"{url}: {exc}")


def registered(hosts: list[str], wanted: dict[str, int]) -> None:
    """Wait until the registry has just the wanted servers, by name and port; end the program where it does not come."""
    client = KazooClient(",".join(hosts))
    client.start(timeout=WITHIN)
    began = time.monotonic()
    try:
        while (found := registry(client)) != wanted:
            if time.monotonic() - began > WITHIN:
                sys.exit(f"registered are {found}, not {wanted}, after {WITHIN:g} s")
            time.sleep(0.02)
    finally:
        client.stop()
    print(f"seen in ZooKeeper, after {time.monotonic() - began:.2f} s: {' '.join(sorted(found)) or 'no server'}")


def registry(client: KazooClient) -> dict[str, int]:
    """The registered servers and their ports."""
    found = {}
    try:
        for child in client.get_children(REGISTRY):
            _address, port = json.loads(client.get(f"{REGISTRY}/{child}")[0])
            found[child] = int(port)
    except NoNodeError:
        pass
    return found


if __name__ == "__main__":
    main()
