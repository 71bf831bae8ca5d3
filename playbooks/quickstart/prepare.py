# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the quickstart's ports and write its inventories: `prepare.py DIRECTORY`.

The ports are those of the environment (QUICKSTART_ZK_PORTS, three, and QUICKSTART_WEB_PORTS, five, separated by
blanks), else those of the previous run in this directory, else the articles', with a free one instead of each that is
taken.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ZK_PORTS = (2181, 2182, 2183)
PEER_PORTS = (2888, 2899, 2877)
ELECTION_PORTS = (3888, 3899, 3877)
WEB_PORTS = (9095, 9096, 9097, 9098, 9099)
REGISTRY = "/service/business/what"
COLLECTIONS = Path(__file__).resolve().parents[2] / "collections"
"""Where this checkout is a collection; without it, a playbook in another directory finds none of its roles."""
CLASSPATH = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar"
OTHER_VARIABLES = (
    "ZK_CONNECT_TIMEOUT",
    *("ZK_DIGEST_USERNAME", "ZK_DIGEST_PASSWORD"),
    *("ZK_SASL_MECHANISM", "ZK_SASL_USERNAME", "ZK_SASL_PASSWORD", "ZK_SASL_SERVICE", "ZK_SASL_PRINCIPAL"),
    *("ZK_TLS", "ZK_TLS_CA", "ZK_TLS_CERT", "ZK_TLS_KEY", "ZK_TLS_KEY_PASSWORD"),
    *("ZK_TLS_VERIFY", "ZK_TLS_CHECK_HOSTNAME"),
)
"""Variables that the user may have set to reach another ensemble."""


def main() -> None:
    """Write DIRECTORY's `ports.json`, `inventory.yml`, `discovered.zk_services.yml`, `vars.yml` and `env`."""
    directory = Path(sys.argv[1])
    try:
        ports = choose(directory / "ports.json")
    except ValueError as exc:
        sys.exit(f"quickstart: {exc}")
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports["zk"])
    write(directory / "ports.json", ports)
    write(directory / "inventory.yml", inventory(directory, ports, hosts))
    registries = [{"path": REGISTRY, "group": "what"}]
    write(directory / "discovered.zk_services.yml", {"plugin": "zoo.deploy.zk_services", "registries": registries})
    write(directory / "vars.yml", {"zoo_url": f"file://{directory}/repository.git", "zoo_relative_path": "site"})
    (directory / "env").write_text(
        "# For the shell in which to try things: the quickstart's programs, this checkout, and its ensemble.\n"
        f"PATH={shlex.quote(str(directory / 'venv/bin'))}:$PATH\n"
        f"unset {' '.join(OTHER_VARIABLES)}\n"
        f"ANSIBLE_COLLECTIONS_PATH={shlex.quote(str(COLLECTIONS))}\n"
        f"ZK_HOSTS={hosts}\n"
        "export PATH ANSIBLE_COLLECTIONS_PATH ZK_HOSTS\n"
    )


def choose(earlier: Path) -> dict[str, list[int]]:
    """The ports by their use. Raises `ValueError` if those of the environment can't be used."""
    previous = json.loads(earlier.read_text()) if earlier.is_file() else {}
    with contextlib.ExitStack() as stack:
        return {
            "zk": given("QUICKSTART_ZK_PORTS", 3) or previous.get("zk") or free(stack, ZK_PORTS),
            "peer": previous.get("peer") or free(stack, PEER_PORTS),
            "election": previous.get("election") or free(stack, ELECTION_PORTS),
            "web": given("QUICKSTART_WEB_PORTS", 5) or previous.get("web") or free(stack, WEB_PORTS),
        }


def given(variable: str, count: int) -> list[int]:
    """The ports in an environment variable; none if it is not set. Raises `ValueError`."""
    words = os.environ.get(variable, "").split()
    if not words:
        return []
    ports = {int(word) for word in words if word.isdigit() and 0 < int(word) < 65536}
    if len(words) != count or len(ports) != count:
        raise ValueError(f"{variable}: expected {count} different ports, separated by blanks, got {' '.join(words)!r}")
    return [int(word) for word in words]


def free(stack: contextlib.ExitStack, preferred: Sequence[int]) -> list[int]:
    """The preferred ports, and another for each that is taken; all stay bound until `stack` ends."""
    ports = []
    for port in preferred:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            listener.bind(("", 0))
        ports.append(listener.getsockname()[1])
    return ports


def inventory(directory: Path, ports: dict[str, list[int]], hosts: str) -> dict[str, Any]:
    """The members of the ensemble and the servers, each a directory that acts as a host."""
    clients = enumerate(ports["zk"], start=1)
    members = {f"zk{number}": {"zoo_quickstart_id": number, "zoo_quickstart_port": port} for number, port in clients}
    peers = enumerate(zip(ports["peer"], ports["election"]), start=1)
    ensemble = {
        "hosts": members,
        "vars": {
            "zoo_quickstart_directory": str(directory),
            "zoo_quickstart_members": [
                f"server.{number}=localhost:{peer}:{election}" for number, (peer, election) in peers
            ],
            "zoo_quickstart_classpath": CLASSPATH,
        },
    }
    servers = {f"server{i + 1}": {"zoo_quickstart_web_port": port} for i, port in enumerate(ports["web"])}
    newcomer = {"server5": servers.pop("server5")}
    fleet = {
        "children": {"servers": {"hosts": servers}, "newcomers": {"hosts": newcomer}},
        "vars": {**server_variables(directory, hosts)},
    }
    connection = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    return {"all": {"vars": connection, "children": {"members": ensemble, "fleet": fleet}}}


def server_variables(directory: Path, hosts: str) -> dict[str, Any]:
    """The variables of every server; on one machine, they share one environment of the agent."""
    check = {"type": "http", "path": "/", "interval": 0.5, "fall": 1}
    service = {"path": REGISTRY, "address": "127.0.0.1", "port": "{{ zoo_quickstart_web_port }}", "check": check}
    return {
        "zoo_quickstart_server": f"{directory}/{{{{ inventory_hostname }}}}",
        "zoo_relative_path": "site",
        "watcher_hosts": hosts.split(","),
        "watcher_name": "{{ inventory_hostname }}",
        "watcher_base": "{{ zoo_quickstart_server }}/www",
        "watcher_services": [service],
        "watcher_allowed_schemes": ["file"],
        "watcher_install_dir": f"{directory}/agent",
        "watcher_config_dir": "{{ zoo_quickstart_server }}/etc",
        "watcher_python": "{{ ansible_playbook_python }}",
        "watcher_pip_args": ["--no-index", f"--find-links={directory}/wheels"],
        "watcher_manage_service": False,
    }


def write(path: Path, content: object) -> None:
    """Write a file; JSON is YAML too."""
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
