# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rights of the agent that the apply process keeps: it writes below its base, and connects to git servers."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Collection, Iterable, Mapping
from urllib.parse import urlsplit

from zoo_watcher.config.allowed_urls import PORTS
from zoo_watcher.host import landlock
from zoo_watcher.host.layout import Layout
from zoo_watcher.wire.records import url_scheme

DNS = 53
"""Used over TCP if an answer is long."""
PROXY = 1080
"""The port that curl uses if a proxy's address has none."""


def confine(layout: Layout, hidden: Collection[str], files: Iterable[str | None], ports: Collection[int] | None) -> str:
    """Give up all other rights permanently; returns what this kernel can't take, empty if it can take all of them.

    `hidden` are the agent's secrets, `files` what git has to read wherever it is. Raises `OSError`.
    """
    present = landlock.version()
    if not present:
        return "the kernel has no Landlock (from 5.19 on, where it is on), so git could read what the agent may read"
    own = (layout.base, layout.own, layout.repository, layout.releases, layout.manifests, layout.staging, layout.shared)
    needed = [os.path.realpath(path) for path in (os.path.expanduser("~"), *files) if path]
    landlock.confine(map(str, own), hidden, needed, ports)
    if ports is not None and present < landlock.CONNECTS:
        return "the kernel's Landlock knows no ports (from 6.7 on), so git could connect to any server"
    return ""


def connected_ports(addresses: Iterable[str], ssh: str, environment: Mapping[str, str]) -> set[int] | None:
    """The TCP ports at which git reaches these addresses; None (any) if that can't be told."""
    ports = set()
    for address in addresses:
        scheme = url_scheme(address)
        found = _ssh_port(address, ssh) if scheme == "ssh" else _port(address, scheme, environment)
        if found is None:
            return None
        ports |= found
    return ports | {DNS} if ports else ports


def _port(address: str, scheme: str, environment: Mapping[str, str]) -> set[int] | None:
    if scheme == "file":
        return set()
    try:
        own = urlsplit(address).port
        if scheme == "git":
            return None if environment.get("GIT_PROXY_COMMAND") else {own or PORTS["git"]}
        # A server may redirect from one to the other.
        return {own or PORTS[scheme], PORTS["http"], PORTS["https"], *_proxies(environment)}
    except (KeyError, ValueError):
        return None


def _proxies(environment: Mapping[str, str]) -> set[int]:
    """The ports of the proxies that curl takes from its environment. Raises `ValueError`."""
    names = {"http_proxy", "https_proxy", "all_proxy"}
    given = [value for name, value in environment.items() if name.lower() in names and value]
    return {urlsplit(value if "://" in value else f"//{value}").port or PROXY for value in given}


def _ssh_port(address: str, ssh: str) -> set[int] | None:
    """The port of a server according to ssh's own configuration; None if that reaches the server in another way."""
    server, port = address.partition(":")[0], None
    if "://" in address:
        try:
            parts = urlsplit(address)
            server, port = f"{parts.username}@{parts.hostname}" if parts.username else str(parts.hostname), parts.port
        except ValueError:
            return None
    words = [*shlex.split(ssh), "-G", *(["-p", str(port)] if port else []), "--", server]
    try:
        said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    options = dict(line.partition(" ")[::2] for line in said.stdout.splitlines())
    if {options.get("proxyjump", "none"), options.get("proxycommand", "none")} != {"none"}:
        return None
    return {int(options["port"])} if options.get("port", "").isdecimal() else None
