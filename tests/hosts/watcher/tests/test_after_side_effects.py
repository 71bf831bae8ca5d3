"""Each web server after the side effects: it was crashed or rebooted while a newer release was published."""

from __future__ import annotations

import json

from testinfra.host import Host as Target

from hosts.watcher.server import Server

testinfra_hosts = ["ansible://web"]


def named(target: Target, servers: dict[str, Server]) -> Server:
    """The server that is a test's target."""
    return servers[target.check_output("hostname")]


def test_the_agent_runs_and_starts_at_boot(host: Target) -> None:
    agent = host.service("zoo-watcher@business")
    assert agent.is_running
    assert agent.is_enabled


def test_no_unit_of_the_host_has_failed(host: Target) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_the_newest_commit_is_live_without_intervention(host: Target, servers: dict[str, Server]) -> None:
    published = named(host, servers).published()
    assert host.file("/srv/app/site").linked_to.rpartition("/")[2] == published["commitId"]
    assert host.check_output("curl --silent --fail http://127.0.0.1:8080/version") == "two"


def test_it_is_found_at_its_own_address(host: Target, servers: dict[str, Server]) -> None:
    server = named(host, servers)
    assert json.loads(server.zk.get(server.registration)[0]) == [server.host.address, "8080"]


def test_the_agent_neither_runs_as_root_nor_owns_its_configuration(host: Target) -> None:
    pid = host.check_output("systemctl show --value --property=MainPID zoo-watcher@business")
    assert host.process.get(pid=int(pid)).user == "zoo-watcher"
    config = host.file("/etc/zoo-watcher/business.json")
    assert (config.user, config.group, config.mode) == ("root", "zoo-watcher", 0o640)
