"""What a machine needs to run a lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request

from hosts.lab import cgroup
from hosts.lab.holder import PRIVATE
from hosts.lab.mirror import find_mirror
from hosts.lab.tree import unmade

PROGRAMS = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""The required programs, and the Debian packages that contain them."""


def lacking() -> str:
    """Why no lab can be created here, in one line; empty if one can."""
    if os.geteuid() != 0:
        return "hosts need root: run as root (containers, network namespaces)"
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        return f"hosts need programs that are not here: install {' '.join(missing)}"
    root = cgroup.hierarchy()
    if root is None or not os.access(root, os.W_OK):
        return "hosts need cgroups of version 2 that can be written"
    tried = subprocess.run([*PRIVATE, "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"hosts need namespaces, which are refused here: {tried.stderr.strip()}"
    return _unreachable() if unmade() else ""


def _unreachable() -> str:
    mirror = find_mirror()
    if mirror is None:
        return ""
    try:
        urllib.request.urlopen(f"{mirror.url}/dists/stable/Release", timeout=30).close()
    except OSError as exc:
        return f"hosts need Debian trees, and {mirror.url}, which they would be made from, can't be reached: {exc}"
    return ""
