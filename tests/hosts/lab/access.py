"""How a lab's hosts are reached: by SSH with the lab's own key, and only over the bridge's network."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hosts.lab.host import Host
from hosts.lab.places import TREES

CONNECT = Path(__file__).with_name("connect.py")
ANY_HOST = """\
Host *
  User root
  IdentityFile "{directory}/key"
  IdentitiesOnly yes
  UserKnownHostsFile "{directory}/known_hosts"
  StrictHostKeyChecking yes
  ConnectTimeout 5
  ServerAliveInterval 5
  ServerAliveCountMax 2
  LogLevel ERROR
  ProxyCommand {proxy} %h %p
  ProxyUseFdpass yes
"""
ONE_HOST = """\
Host {name} {address}
  HostName {address}
  HostKeyAlias {name}

"""


def make_key(directory: Path) -> str:
    """Create the lab's key, and return the public part, which hosts accept."""
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(directory / "key")]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return (directory / "key.pub").read_text()


def write(directory: Path, network: list[str], hosts: Iterable[Host]) -> None:
    """Write SSH's configuration and known hosts. `network` is the prefix of a command in the bridge's network."""
    proxy = shlex.join([*network, sys.executable, "-IS", str(CONNECT)])
    config, known = "", ""
    for host in hosts:
        config += ONE_HOST.format(name=host.name, address=host.address)
        key = TREES / host.tree / "etc" / "ssh" / "ssh_host_ed25519_key.pub"
        known += f"{host.name} {key.read_text()}"
    (directory / "ssh_config").write_text(config + ANY_HOST.format(directory=directory, proxy=proxy))
    (directory / "known_hosts").write_text(known)


def inventory(directory: Path, run: str, hosts: Iterable[Host]) -> dict[str, Any]:
    """An Ansible inventory of the hosts, in a group for each suite. `run` tells a lab from earlier ones of its name."""
    found: dict[str, Any] = {"all": {"hosts": {}, "vars": _variables(directory, run), "children": {}}}
    for host in hosts:
        found["all"]["hosts"][host.name] = {"ansible_host": host.address}
        found["all"]["children"].setdefault(host.suite, {"hosts": {}})["hosts"][host.name] = {}
    return found


def _variables(directory: Path, run: str) -> dict[str, Any]:
    return {
        "ansible_user": "root",
        "ansible_ssh_common_args": f"-F {shlex.quote(str(directory / 'ssh_config'))}",
        # All labs use the same addresses, so the socket of a connection that is kept must be named after the lab.
        "ansible_control_path_dir": "~/.ansible/cp",
        "ansible_control_path": f"%(directory)s/{run}-%%h",
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
