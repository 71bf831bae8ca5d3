"""P1, P2, P3: `ansible-inventory --list` by `zk_services`, against the same hosts from elsewhere.

The yardsticks that are plugins are in `inventories`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.harness import BenchError, Comparison, Rounds, Side, goal, timed
from bench.workbench import HERE, Registry, Workbench

MANY, QUICK, FEW = 10_000, 500, 10
GROUP = "fleet"
OURS = "zk_services"
EXPRESSIONS = {
    "compose": {"service_url": "'http://' ~ zk_address ~ ':' ~ zk_port"},
    "groups": {"canary": "zk_address.endswith('.7')"},
    "keyed_groups": [{"key": "zk_address.split('.')[2]", "prefix": "rack"}],
}
"""One expression of each kind, as users write them."""

Hosts = dict[str, dict[str, Any]]
"""The variables of each host."""


@goal("P1")
def ten_thousand(bench: Workbench) -> Iterator[Comparison]:
    """10,000 hosts, against a static file, a script with the answer ready, and a plugin that only adds hosts."""
    size = bench.sized(MANY, QUICK)
    registry = bench.registry(size)
    hosts = host_variables(bench, registry)
    yardsticks = {
        "static JSON": (0.45, static_source),
        "script with _meta": (0.65, script_source),
        "from a list in memory": (1.1, _list_source),
    }
    sources = {name: source(bench, hosts) for name, (_limit, source) in yardsticks.items()}
    sides = {name: listing(bench, source) for name, source in {OURS: ours_source(bench, registry), **sources}.items()}
    rounds = Rounds.of(sides)
    for name, (limit, _source) in yardsticks.items():
        yield Comparison("P1", f"{size:,} hosts; {name}", limit, rounds.side(OURS), rounds.side(name), same_hosts)


@goal("P2")
def ten(bench: Workbench) -> Iterator[Comparison]:
    """10 hosts, where the time is that of Ansible's start, the import of kazoo and the connection."""
    registry = bench.registry(FEW)
    ours = listing(bench, ours_source(bench, registry))
    bare = listing(bench, _bare_source(bench, registry))
    static = listing(bench, static_source(bench, host_variables(bench, registry)))
    yield Comparison("P2", "10 hosts; plugin with kazoo", 1.03, ours, bare, _has_all)
    yield Comparison("P2", "10 hosts; static JSON", None, ours, static, same_hosts)


@goal("P3")
def constructed(bench: Workbench) -> Iterator[Comparison]:
    """10,000 hosts with a composed variable, a conditional group and a keyed group."""
    size = bench.sized(MANY, QUICK)
    registry = bench.registry(size)
    plugin = {"plugin": "ansible.builtin.constructed", "strict": True, **EXPRESSIONS}
    expressions = bench.write("expressions.constructed.yml", yaml.safe_dump(plugin))
    ours = listing(bench, ours_source(bench, registry, strict=True, **EXPRESSIONS))
    yardstick = listing(bench, static_source(bench, host_variables(bench, registry)), expressions)
    work = f"{size:,} hosts, 3 expressions; static JSON + constructed"
    yield Comparison("P3", work, 0.2, ours, yardstick, same_hosts)


def listing(bench: Workbench, *sources: Path) -> Side:
    """A side whose figure is the time of `ansible-inventory --list` with these sources, its result the output."""
    words = [word for source in sources for word in ("-i", source)]
    plugins = {"ANSIBLE_INVENTORY_PLUGINS": str(HERE / "inventories")}
    return timed(partial(bench.ansible, "ansible-inventory", *words, "--list", **plugins))


def ours_source(bench: Workbench, registry: Registry, **options: Any) -> Path:
    """A source of `zk_services`, with further options."""
    source = {
        "plugin": "zoo.deploy.zk_services",
        "hosts": bench.ensemble.hosts,
        "registries": [{"path": registry.path, "group": GROUP}],
        **options,
    }
    name = "constructed" if options else "plain"
    return bench.write(f"{name}-{len(registry.registrations)}.zk_services.yml", yaml.safe_dump(source))


def host_variables(bench: Workbench, registry: Registry) -> Hosts:
    """Every host as our plugin prints it, so that both sides have the same to do.

    Raises `BenchError` unless that is what is registered.
    """
    inventory = _parsed(bench.ansible("ansible-inventory", "-i", ours_source(bench, registry), "--list"))
    hosts: Hosts = inventory["_meta"]["hostvars"]
    found = {variables["zk_id"]: variables for variables in hosts.values()}
    if len(hosts) != len(registry.registrations) or set(inventory[GROUP]["hosts"]) != hosts.keys():
        raise BenchError(
            f"{len(hosts)} hosts, {len(inventory[GROUP]['hosts'])} in the group, of {len(registry.registrations)}"
        )
    for one in registry.registrations:
        wanted = {
            "ansible_host": one.address,
            "zk_address": one.address,
            "zk_port": int(one.port),
            "zk_path": f"{registry.path}/{one.child}",
            "zk_service": [one.address, one.port],
        }
        if not wanted.items() <= found[one.child].items():
            raise BenchError(f"{one.child}: registered as {wanted}, found as {found[one.child]}")
    return hosts


def static_source(bench: Workbench, hosts: Hosts) -> Path:
    """An inventory file with these hosts."""
    inventory = {"all": {"children": {GROUP: {"hosts": hosts}}}}
    return bench.write(f"static-{len(hosts)}.json", json.dumps(inventory))


def script_source(bench: Workbench, hosts: Hosts) -> Path:
    """The fastest possible script, which only prints."""
    printed = json.dumps({GROUP: {"hosts": list(hosts)}, "_meta": {"hostvars": hosts}})
    answer = bench.write(f"script-{len(hosts)}.data", printed)
    return bench.write(f"script-{len(hosts)}.sh", f"#!/bin/sh\nexec cat {answer}\n", mode=0o755)


def _list_source(bench: Workbench, hosts: Hosts) -> Path:
    """A source of the plugin that has all hosts ready in a list."""
    variables = bench.write(f"list-{len(hosts)}.data", json.dumps(hosts))
    source = {"plugin": "bare_hosts", "list": str(variables), "group": GROUP}
    return bench.write(f"list-{len(hosts)}.yml", yaml.safe_dump(source))


def _bare_source(bench: Workbench, registry: Registry) -> Path:
    """A source of the plugin that uses kazoo and none of our code."""
    source = {"plugin": "bare_services", "hosts": bench.ensemble.hosts, "path": registry.path, "group": GROUP}
    return bench.write(f"bare-{len(registry.registrations)}.yml", yaml.safe_dump(source))


def same_hosts(ours: str, yardstick: str) -> None:
    """Expect the same hosts in the same groups with the same variables, except `zk_age`."""
    found, wanted = _parsed(ours), _parsed(yardstick)
    for inventory in (found, wanted):
        for variables in inventory["_meta"]["hostvars"].values():
            variables.pop("zk_age", None)
    _same("host", found.pop("_meta")["hostvars"], wanted.pop("_meta")["hostvars"])
    _same("group", _members(found), _members(wanted))


def _has_all(ours: str, yardstick: str) -> None:
    """Expect the same hosts in the same groups, with all variables of the yardstick, which lacks some."""
    found, wanted = _parsed(ours), _parsed(yardstick)
    variables = found["_meta"]["hostvars"]
    few = wanted["_meta"]["hostvars"]
    _same("host", {host: {name: variables[host][name] for name in few.get(host, {})} for host in variables}, few)
    _same("group", _members(found), _members(wanted))


def _parsed(printed: str) -> dict[str, Any]:
    """An inventory without the marks of unsafe values, which our plugin sets, while a file is trusted."""
    found: dict[str, Any] = json.loads(printed, object_hook=lambda mapping: mapping.get("__ansible_unsafe", mapping))
    return found


def _members(inventory: dict[str, Any]) -> dict[str, set[str]]:
    return {group: set(content["hosts"]) for group, content in inventory.items() if content.get("hosts")}


def _same(what: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [name for name in sorted({**found, **wanted}) if found.get(name) != wanted.get(name)]
    if different:
        name = different[0]
        raise BenchError(
            f"{what} {name} and {len(different) - 1} more: {found.get(name)} against {wanted.get(name)}"[:1000]
        )
