"""The inventory plugin as a user runs it: `ansible-inventory` with a real ensemble."""

from __future__ import annotations

import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

from support.client import connected
from support.ensemble import Ensemble
from support.inventory import EXAMPLES, Inventory, run
from support.registry_entries import AS_WRITTEN, DUBBO_2

PRINT_EVERYTHING = """
- hosts: all
  gather_facts: false
  connection: local
  vars:
    path: {path}
  tasks:
    - ansible.builtin.debug:
        msg: "{{{{ zk_id }}}} {{{{ zk_service }}}} {{{{ zk_path }}}} {{{{ zk_services }}}} {{{{ named }}}}"
    - ansible.builtin.debug:
        var: hostvars[inventory_hostname]
"""
"""A play that resolves every variable of every host. `path` is the file that a template would touch."""


NOT_THE_CONTROLLER = (
    "[WARNING]: localhost: that is Ansible's name for the controller, so the host is localhost@localhost; "
    "override_hosts has it replaced"
)
"""The warning about the broker in `AS_WRITTEN` that registers localhost."""


def flush_cache() -> list[str]:
    """The option with which `ansible-inventory` bypasses the cache, if it has one (ansible-core 2.18 and later)."""
    return [word for word in ["--flush-cache"] if word in run("ansible-inventory", "--help").stdout]


@pytest.fixture
def inventory(tmp_path: Path, ensemble: Ensemble) -> Inventory:
    return Inventory(tmp_path, ensemble.hosts)


@pytest.fixture
def root(zk: KazooClient) -> Iterator[str]:
    """A path that no other test uses."""
    path = f"/services-{uuid.uuid4().hex[:12]}"
    zk.ensure_path(path)
    yield path
    zk.delete(path, recursive=True)


def register(zk: KazooClient, path: str, data: bytes = b"", *, ephemeral: bool = True) -> str:
    """Create a child as a service does, and return its path."""
    zk.create(path, data, ephemeral=ephemeral, makepath=True)
    return path


def seed(zk: KazooClient, path: str, address: str, port: int = 80) -> str:
    """Register an address and a port as this collection's agent does."""
    return register(zk, path, json.dumps([address, str(port)]).encode())


def test_every_format_becomes_hosts_as_its_software_writes_it(inventory: Inventory, zk: KazooClient, root: str) -> None:
    for number, entry in enumerate(AS_WRITTEN):
        register(zk, f"{root}/{number}-{entry.format}/{entry.child[0]}", entry.child[1])
    found = inventory.read(registries=[{"path": f"{root}/*", "group": "f_*"}])
    assert found.said == NOT_THE_CONTROLLER
    for number, entry in enumerate(AS_WRITTEN):
        (host,) = found.groups[f"f_{number}_{entry.format}"]
        variables = found.hosts[host]
        expected = "s9099" if entry.format == "seed" else entry.address
        assert host == ("localhost@localhost" if expected == "localhost" else expected)
        assert (variables["ansible_host"], variables["zk_address"]) == (entry.address, entry.address)
        assert entry.port in [service["port"] for service in variables["zk_services"]]
        path = f"{root}/{number}-{entry.format}/{entry.child[0]}"
        assert path in [service["path"] for service in variables["zk_services"]]
        assert not {"ansible_port", "port", "address", "name"} & variables.keys()


def test_each_example_finds_what_its_software_registers(inventory: Inventory, zk: KazooClient, root: str) -> None:
    sources = inventory.directory / "examples"
    sources.mkdir()
    for number, entry in enumerate(AS_WRITTEN):
        options = yaml.safe_load((EXAMPLES / f"{entry.example}.zk_services.yml").read_text())
        parent = options["registries"][0]["path"].replace("*", "x.y")
        register(zk, f"{root}/{number}{parent}/{entry.child[0]}", entry.child[1])
        options.update(hosts=f"{inventory.options['hosts']}{root}/{number}", app=None)
        (sources / f"{number}.zk_services.yml").write_text(yaml.safe_dump(options))
    found = inventory.read_files(sources)
    assert found.said == NOT_THE_CONTROLLER
    expected = {(entry.address, entry.port) for entry in AS_WRITTEN}
    assert {(host["zk_address"], host["zk_port"]) for host in found.hosts.values()} == expected


def test_a_host_has_the_facts_of_its_registration(inventory: Inventory, zk: KazooClient, root: str) -> None:
    path = seed(zk, f"{root}/web1", "10.0.0.1", 8080)
    register(zk, f"{root}/web2", b'["10.0.0.2", "81"]', ephemeral=False)
    found = inventory.read(registries=[root]).hosts
    stat = zk.get(path)[1]
    age = found["web1"].pop("zk_age")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stat.ctime // 1000))
    assert 0 <= age < 120
    assert found["web1"] == {
        "ansible_host": "10.0.0.1",
        "zk_address": "10.0.0.1",
        "zk_port": 8080,
        "zk_id": "web1",
        "zk_path": path,
        "zk_service": ["10.0.0.1", "8080"],
        "zk_ephemeral": True,
        "zk_session": f"0x{stat.ephemeralOwner:x}",
        "zk_created": moment,
        "zk_modified": moment,
        "zk_services": [
            {"address": "10.0.0.1", "port": 8080, "id": "web1", "path": path, "service": ["10.0.0.1", "8080"]}
        ],
    }
    assert (found["web2"]["zk_ephemeral"], found["web2"]["zk_session"]) == (False, "0x0")


def test_variables_are_composed_and_groups_made_from_an_agents_registration(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    for number in range(4):
        seed(zk, f"{root}/web{number}", f"10.0.0.{number}", 8080 + number % 2)
    found = inventory.read(
        registries=[{"path": root, "group": "web"}],
        strict=True,
        compose={"endpoint": "zk_address ~ ':' ~ zk_port"},
        groups={"odd": "zk_port % 2 == 1"},
        keyed_groups=[{"key": "zk_port | string", "prefix": "port", "parent_group": "ports"}],
    )
    assert found.hosts["web1"]["endpoint"] == "10.0.0.1:8081"
    assert found.groups["odd"] == {"web1", "web3"}
    assert found.groups["port_8080"] == {"web0", "web2"}
    assert found.groups["web"] == {"web0", "web1", "web2", "web3"}


def test_one_host_in_several_registries_is_one_host_in_several_groups(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/web/app1", "10.0.0.1", 80)
    seed(zk, f"{root}/api/app1", "10.0.0.1", 81)
    found = inventory.read(registries=[f"{root}/web", f"{root}/api", f"{root}/none"])
    assert found.groups["web"] == found.groups["api"] == {"app1"}
    assert found.hosts["app1"]["zk_port"] == 80
    assert [service["port"] for service in found.hosts["app1"]["zk_services"]] == [80, 81]
    assert f"{root}/none: no such znode" in found.said


def test_one_host_in_two_files_has_the_services_of_both(inventory: Inventory, zk: KazooClient, root: str) -> None:
    for port, name in enumerate(("api", "web"), 80):
        seed(zk, f"{root}/{name}/app1", "10.0.0.1", port)
        inventory.file(registries=[f"{root}/{name}"]).rename(inventory.directory / f"{name}.zk_services.yml")
    inventory.file(registries=[f"{root}/api"])  # the same as the first of them, and read between the two
    found = inventory.read_files(inventory.directory)
    assert found.groups["api"] == found.groups["web"] == {"app1"}
    assert [service["port"] for service in found.hosts["app1"]["zk_services"]] == [80, 81]
    assert found.hosts["app1"]["zk_port"] == 81


def test_two_addresses_under_one_name_stay_two_hosts(inventory: Inventory, zk: KazooClient, root: str) -> None:
    seed(zk, f"{root}/web/app1", "10.0.0.1")
    seed(zk, f"{root}/api/app1", "10.0.0.2")
    found = inventory.read(registries=[f"{root}/web", f"{root}/api"])
    assert found.groups["web"] == {"app1@10.0.0.1"}
    assert found.groups["api"] == {"app1@10.0.0.2"}
    assert "app1: 2 addresses have this name" in found.said


def test_two_ports_of_one_address_are_two_hosts_where_the_name_says_so(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    for port in (8080, 8081):
        register(zk, f"{root}/10.0.0.1:{port}")
    together = inventory.read(registries=[root]).hosts
    assert {name: len(host["zk_services"]) for name, host in together.items()} == {"10.0.0.1": 2}
    apart = inventory.read(registries=[root], hostnames=["zk_address ~ '-' ~ zk_port"], strict=True).hosts
    assert sorted(apart) == ["10.0.0.1-8080", "10.0.0.1-8081"]


def test_the_first_preference_that_gives_a_usable_name_counts(inventory: Inventory, zk: KazooClient, root: str) -> None:
    register(zk, f"{root}/a_0000000001", b'{"host":"10.0.0.1","port":1,"name":"i-1"}')
    register(zk, f"{root}/b_0000000002", b'{"host":"10.0.0.2","port":1,"name":"../../etc/passwd"}')
    register(zk, f"{root}/c_0000000003", b'{"host":"10.0.0.3","port":1}')
    register(zk, f"{root}/d_0000000004", b'{"host":"10.0.0.4","port":1,"name":"all,!web"}')
    wanted = ["zk_service.name", "{{ zk_id[:1] }}{{ zk_service.nothing | default('') }}-node"]
    assert sorted(inventory.read(registries=[root], hostnames=wanted).hosts) == ["b-node", "c-node", "d-node", "i-1"]
    assert sorted(inventory.read(registries=[root], hostnames=["zk_service.name"]).hosts) == [
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "i-1",
    ]


def test_an_entry_called_localhost_is_not_the_controller(inventory: Inventory, zk: KazooClient, root: str) -> None:
    seed(zk, f"{root}/localhost", "10.0.0.66")
    assert sorted(inventory.read(registries=[root]).hosts) == ["10.0.0.66"]


def test_a_service_that_registers_itself_on_the_controller_is_not_its_localhost(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    for name, address in (("localhost", "127.0.0.1"), ("127.0.0.1", "localhost"), ("web1", "127.0.0.1")):
        seed(zk, f"{root}/web/{name}", address)
    found = inventory.read(registries=[f"{root}/web"])
    assert set(found.hosts) == {"localhost@127.0.0.1", "127.0.0.1@localhost", "web1"}
    assert "localhost: that is Ansible's name for the controller, so the host is localhost@127.0.0.1" in found.said
    path = inventory.file(registries=[f"{root}/web"])
    shown = run("ansible", "localhost", "-i", str(path), "-m", "ansible.builtin.debug", "-a", "var=ansible_connection")
    assert '"ansible_connection": "local"' in shown.stdout
    assert "localhost" in inventory.read(registries=[f"{root}/web"], override_hosts=True).hosts


def test_a_group_called_localhost_is_not_the_controller(inventory: Inventory, zk: KazooClient, root: str) -> None:
    seed(zk, f"{root}/localhost/a", "10.0.0.66")
    seed(zk, f"{root}/shop/localhost", "10.0.0.67")
    found = inventory.read(registries=[f"{root}/*"])
    assert (found.groups["localhost_"], found.groups["shop"]) == ({"a"}, {"10.0.0.67"})
    keyed = inventory.read(registries=[f"{root}/*"], keyed_groups=[{"key": "zk_id", "separator": ""}])
    assert keyed.groups["localhost_"] == {"a@10.0.0.66", "10.0.0.67"}
    for groups, said in (found[1:], keyed[1:]):
        assert "localhost" not in groups
        assert "localhost: a host has this name, so the group is localhost_" in said


@pytest.fixture
def beside(inventory: Inventory) -> Inventory:
    """An inventory with another source beside it, which is read first."""
    (inventory.directory / "hosts.ini").write_text(
        "db1 ansible_host=10.0.9.1\nsame ansible_host=10.0.0.5\n10.0.0.6\n[databases]\ndb1\n"
    )
    return inventory


def test_a_registration_takes_neither_the_name_of_a_group_nor_that_of_another_host(
    beside: Inventory, zk: KazooClient, root: str
) -> None:
    names = ("all", "ungrouped", "databases", "web", "behind", "port_80", "db1", "good")
    for number, name in enumerate(names):
        seed(zk, f"{root}/web/{name}", f"10.0.1.{number}")
    seed(zk, f"{root}/web/same", "10.0.0.5")
    seed(zk, f"{root}/db1/10.0.0.6", "10.0.0.6")
    groups = {"groups": {"behind": "zk_id == 'good'"}, "keyed_groups": [{"key": "zk_port | string", "prefix": "port"}]}
    beside.file(registries=[f"{root}/*"], compose={"named": "zk_id"}, **groups)
    found = beside.read_files(beside.directory)
    other = {f"{name}@10.0.1.{number}" for number, name in enumerate(names) if name != "good"}
    assert found.groups["web"] == found.groups["port_80"] - {"10.0.0.6"} == {*other, "good", "same"}
    assert set(found.hosts) == {*other, "good", "same", "db1", "10.0.0.6"}
    assert (found.hosts["db1"]["ansible_host"], "zk_id" in found.hosts["db1"]) == ("10.0.9.1", False)
    assert found.hosts["same"]["named"] == "same"
    assert found.groups["databases"] == {"db1"}
    assert found.groups["behind"] == {"good"}
    assert found.groups["db1_"] == {"10.0.0.6"}
    assert "all: a group has this name, so the host is all@10.0.1.0" in found.said
    assert "db1: another source has a host of this name, at 10.0.9.1, so this one is db1@10.0.1.6" in found.said
    assert "db1: a host has this name, so the group is db1_" in found.said


@pytest.mark.parametrize("composed", ["ansible_host", "zk_address"])
def test_a_server_of_two_files_is_one_host_even_where_the_first_composes_its_address(
    inventory: Inventory, zk: KazooClient, root: str, composed: str
) -> None:
    seed(zk, f"{root}/a/10.1.0.1", "10.1.0.1")
    seed(zk, f"{root}/b/10.1.0.1", "10.1.0.1", 90)
    inventory.directory.joinpath("two").mkdir()
    for name in ("a", "b"):
        file = inventory.file(registries=[f"{root}/{name}"], compose={composed: "'public-' ~ zk_address"})
        file.rename(inventory.directory / "two" / f"{name}.zk_services.yml")
    found = inventory.read_files(inventory.directory / "two")
    assert found.groups["a"] == found.groups["b"] == set(found.hosts) == {"10.1.0.1"}
    assert found.hosts["10.1.0.1"][composed] == "public-10.1.0.1"


@pytest.mark.parametrize("override", [False, True])
def test_a_server_of_two_files_is_one_host_even_where_its_name_has_several_addresses_in_one(
    inventory: Inventory, zk: KazooClient, root: str, override: bool
) -> None:
    inventory.options["override_hosts"] = override
    seed(zk, f"{root}/x/web1", "10.1.0.1")
    seed(zk, f"{root}/y/web1", "10.1.0.2")
    seed(zk, f"{root}/b/web1", "10.1.0.1", 90)
    both = inventory.file(registries=[f"{root}/x", f"{root}/y"]).rename(inventory.directory / "m.zk_services.yml")
    for name, first in (("a", "web1"), ("z", "web1@10.1.0.1")):
        one = inventory.file(registries=[f"{root}/b"]).rename(inventory.directory / f"{name}.zk_services.yml")
        files = sorted([one, both])
        found = inventory.read_files(files[0], "-i", str(files[1]))
        assert set(found.hosts) == {first, "web1@10.1.0.2"}
        assert found.groups["b"] == found.groups["x"] == {first}
        assert "override_hosts" not in found.said


def test_a_host_of_another_source_is_not_taken_over_where_it_is_named_by_name_and_address(
    beside: Inventory, zk: KazooClient, root: str
) -> None:
    (beside.directory / "hosts.ini").write_text("web1@10.1.0.1 ansible_host=db1.internal ansible_user=admin\n")
    for number, group in enumerate("xy", 1):
        seed(zk, f"{root}/{group}/web1", f"10.1.0.{number}")
    beside.file(registries=[f"{root}/x", f"{root}/y"])
    found = beside.read_files(beside.directory)
    assert found.hosts["web1@10.1.0.1"] == {"ansible_host": "db1.internal", "ansible_user": "admin"}
    assert (found.groups["x"], found.groups["y"]) == ({"web1@10.1.0.1@10.1.0.1"}, {"web1@10.1.0.2"})
    beside.file(registries=[f"{root}/x", f"{root}/y"], override_hosts=True)
    found = beside.read_files(beside.directory)
    assert found.groups["x"] == {"web1@10.1.0.1"}
    assert found.hosts["web1@10.1.0.1"]["ansible_host"] == "10.1.0.1"


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("zk_address", "zk_address"),
        ("'public-' ~ zk_address", "'public-' ~ zk_address"),
        ("'db1.internal'", "zk_address"),
    ],
)
def test_an_entry_of_two_files_takes_no_host_of_a_source_between_them(
    inventory: Inventory, zk: KazooClient, root: str, first: str, last: str
) -> None:
    seed(zk, f"{root}/a/db1", "10.1.0.1")
    seed(zk, f"{root}/b/db1", "10.1.0.1")
    for name, registry, composed in (("a", "a", first), ("c", "b", last)):
        file = inventory.file(registries=[f"{root}/{registry}"], compose={"ansible_host": composed})
        file.rename(inventory.directory / f"{name}.zk_services.yml")
    (inventory.directory / "b.yml").write_text("all: {hosts: {db1: {ansible_host: db1.internal}}}\n")
    found = inventory.read_files(inventory.directory)
    assert found.groups["b"] == {"db1@10.1.0.1"}
    assert found.hosts["db1"]["ansible_host"] == "db1.internal"
    assert "db1: another source has a host of this name, at db1.internal" in found.said


@pytest.mark.parametrize("condition", ["{}", "lookup('env', 'NOBODY') == '' and ({})", "{{{{ {} }}}}"])
def test_extra_variables_count_in_filters_however_they_are_evaluated(
    inventory: Inventory, zk: KazooClient, root: str, condition: str
) -> None:
    for port in (80, 81):
        seed(zk, f"{root}/c/x{port}", "10.1.0.1", port)
    wanted = condition.format("wanted is not defined or zk_port == wanted | int")
    found = inventory.read("-e", "wanted=81", registries=[f"{root}/c"], use_extra_vars=True, filters=[wanted])
    assert set(found.hosts) == {"x81"}


def test_a_group_that_gives_way_to_a_host_leaves_no_trace_below_a_group_of_another_source(
    beside: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/web/blue", "10.0.1.1")
    group = {"key": "'blue'", "prefix": "", "separator": "", "parent_group": "databases"}
    file = beside.file(registries=[f"{root}/*"], keyed_groups=[group])
    graph = run("ansible-inventory", "-i", str(beside.directory / "hosts.ini"), "-i", str(file), "--graph")
    inside = graph.stdout.partition("@databases:")[2].partition("\n  |--@")[0]
    assert [line.strip(" |-") for line in inside.split("\n") if line] == ["@blue:", "blue@10.0.1.1", "db1"]


def test_with_override_hosts_a_registration_may_replace_a_host_of_another_source(
    beside: Inventory, zk: KazooClient, root: str
) -> None:
    for number, name in enumerate(("db1", "all")):
        seed(zk, f"{root}/web/{name}", f"10.0.1.{number}")
    beside.file(registries=[f"{root}/web"], override_hosts=True)
    found = beside.read_files(beside.directory)
    assert found.hosts["db1"]["ansible_host"] == "10.0.1.0"
    assert found.groups["web"] == {"db1", "all@10.0.1.1"}


def test_only_entries_that_pass_every_filter_become_hosts(inventory: Inventory, zk: KazooClient, root: str) -> None:
    register(zk, f"{root}/a", b'{"host":"10.0.0.1","port":1,"labels":{"az":"a"}}')
    register(zk, f"{root}/b", b'{"host":"10.0.0.2","port":1,"labels":{"az":"b"}}')
    register(zk, f"{root}/c", b'{"host":"10.0.0.3","port":1}')
    register(zk, f"{root}/d", b'{"host":"10.0.0.4","port":1,"labels":{"az":"a"}}', ephemeral=False)
    filters = ["zk_service.labels.az == 'a'", "zk_ephemeral"]
    assert set(inventory.read(registries=[root], filters=filters).hosts) == {"10.0.0.1"}
    refused = inventory.read(registries=[root], filters=filters, strict=True)
    assert refused.hosts == {}
    assert f"can't be evaluated for {root}/c" in refused.said
    no_condition = inventory.read(registries=[root], filters=["zk_address"])
    assert "filters: zk_address: expected true or false" in no_condition.said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filters": [{"exclude": "zk_id = 'a'"}]}, "filters: zk_id = 'a': expected token"),
        ({"filters": ["{{ zk_id == 'a' }"]}, "filters: {{ zk_id == 'a' }: unexpected '}'"),
        ({"hostnames": ["zk_service.name |"]}, "hostnames: zk_service.name |: expected token"),
        ({"filters": [{"exclude": "zk_id is mtach('a')"}]}, "filters: zk_id is mtach('a'): no test named mtach"),
        ({"hostnames": ["zk_id | lwoer"]}, "hostnames: zk_id | lwoer: no filter named lwoer"),
    ],
)
def test_an_invalid_expression_is_refused(
    inventory: Inventory, zk: KazooClient, root: str, options: dict[str, Any], said: str
) -> None:
    register(zk, f"{root}/a", b'{"host":"10.0.0.1","port":1}')
    found = inventory.read(registries=[root], **options)
    assert found.hosts == {}
    assert said in found.said


@pytest.mark.parametrize(
    ("filters", "hosts"),
    [
        # The first match decides, and an entry without a match is a host.
        ([{"include": "zk_id == 'c'"}, {"exclude": "zk_service.labels.az == 'b'"}], "acd"),
        ([{"exclude": "zk_service.labels.az == 'b'"}, {"include": "zk_id == 'b'"}], "acd"),
        ([{"include": "zk_service.labels.az == 'a'"}, {"include": "zk_id == 'c'"}, {"exclude": True}], "acd"),
        ([{"exclude": True}], ""),
        ([{"include": True}, "false"], "abcd"),
        # A plain condition excludes entries that fail it, unless an earlier filter has included them.
        ([{"include": "zk_id == 'd'"}, "zk_ephemeral", {"exclude": "zk_id == 'a'"}], "bcd"),
    ],
)
def test_filters_are_applied_in_their_order(
    inventory: Inventory, zk: KazooClient, root: str, filters: list[Any], hosts: str
) -> None:
    for number, (name, az) in enumerate({"a": "a", "b": "b", "c": "", "d": "a"}.items()):
        labels = {"labels": {"az": az}} if az else {}
        data = json.dumps({"host": f"10.0.0.{number}", "port": 1, **labels}).encode()
        register(zk, f"{root}/{name}", data, ephemeral=name != "d")
    found = inventory.read(registries=[root], filters=filters, hostnames=["zk_id"])
    assert set(found.hosts) == set(hosts), found.said
    assert "WARNING" not in found.said.replace("No inventory was parsed", "")


@pytest.mark.parametrize(
    "filters",
    [
        [{"include": "zk_service.az == 'a'"}, "zk_service.odd"],
        [{"exclude": "zk_service.odd"}],
    ],
)
def test_no_entry_empties_the_inventory_by_a_value_that_no_other_has(
    inventory: Inventory, zk: KazooClient, root: str, filters: list[Any]
) -> None:
    register(zk, f"{root}/good", b'{"host":"10.0.0.1","port":1,"az":"a"}')
    register(zk, f"{root}/odd", b'{"host":"10.0.0.2","port":1,"odd":"yes"}')
    found = inventory.read(registries=[root], filters=filters)
    assert set(found.hosts) == {"10.0.0.1"}
    assert f'filters: zk_service.odd: expected true or false, got "yes" for {root}/odd; left out' in found.said


@pytest.mark.parametrize("key", ["zk_service.odd", "zk_service.odd | mandatory"])
def test_no_entry_empties_the_inventory_by_a_group_that_only_it_could_make(
    inventory: Inventory, zk: KazooClient, root: str, key: str
) -> None:
    register(zk, f"{root}/good", b'{"host":"10.0.0.1","port":1}')
    register(zk, f"{root}/odd", b'{"host":"10.0.0.2","port":1,"odd":5}')
    found = inventory.read(registries=[root], keyed_groups=[{"key": key}])
    assert set(found.hosts) == {"10.0.0.1", "10.0.0.2"}
    assert f"keyed_groups: {key}: not every group of 10.0.0.2 could be made" in found.said


def test_an_invalid_filter_is_refused(inventory: Inventory, zk: KazooClient, root: str) -> None:
    register(zk, f"{root}/a", b'{"host":"10.0.0.1","port":1}')
    for filters, said in (
        ([{"only": "zk_ephemeral"}], 'a mapping with include or exclude, got {"only": "zk_ephemeral"}'),
        ([{"exclude": "zk_address"}], 'filters: zk_address: expected true or false, got "10.0.0.1"'),
        ([{"include": "zk_none.x"}], f"can't be evaluated for {root}/a"),
    ):
        refused = inventory.read(registries=[root], filters=filters, strict=True)
        assert refused.hosts == {}
        assert said in refused.said


def test_a_warning_does_nothing_to_a_terminal(inventory: Inventory, zk: KazooClient, root: str) -> None:
    zk.create(f"{root}/web/a\u202eb\u200bc", b"odd", makepath=True)
    assert f"{root}/web/a?b?c: left out" in inventory.read(registries=[f"{root}/web"]).said


def test_an_error_does_nothing_to_a_terminal(inventory: Inventory, zk: KazooClient, root: str) -> None:
    path = f"{root}/web/a\u202eb"
    zk.create(path, b'["10.0.0.1", "80"]', makepath=True)
    said = inventory.read(registries=[f"{root}/web"], filters=["nothing.of.it"], strict=True).said
    assert f"can't be evaluated for {root}/web/a?b: " in said
    assert "\u202e" not in said


def test_an_entry_that_cannot_be_read_is_a_warning_that_names_it(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/good", "10.0.0.1")
    register(zk, f"{root}/none", b"\x00\xff")
    register(zk, f"{root}/option", b'["-oProxyCommand=touch /tmp/x", "22"]')
    zk.create(f"{root}/closed", b'["10.0.0.2", "80"]', acl=[make_digest_acl("someone", "else", all=True)])
    found = inventory.read(registries=[root])
    assert set(found.hosts) == {"good"}
    for name in ("none", "option", "closed"):
        assert found.said.count(f"{root}/{name}: ") == 1
    zk.delete(f"{root}/closed")


def test_an_empty_inventory_names_a_chroot_that_does_not_exist(inventory: Inventory, root: str) -> None:
    there, absent = (f"{inventory.options['hosts']}{chroot}" for chroot in (root, f"{root}/none"))
    warned = f"{root}/none, the chroot in hosts, does not exist; create it first"
    assert warned in inventory.read(hosts=absent, registries=["/web"]).said
    assert "the chroot" not in inventory.read(hosts=there, registries=["/web"]).said


def test_an_entry_without_a_valid_group_is_in_none_and_empties_no_inventory(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    racks = {"good": "r1", "number": 5, "empty": [""], "loop": "racks", "ring": "all", "none": None}
    for number, (name, rack) in enumerate(racks.items()):
        entry = {"host": f"10.0.0.{number}", "port": 1, "name": name, "rack": rack}
        register(zk, f"{root}/{name}", json.dumps(entry).encode())
    key = {"key": "zk_service.rack", "separator": "", "parent_group": "racks"}
    options: dict[str, Any] = {"registries": [root], "hostnames": ["zk_id"]}
    found = inventory.read(**options, keyed_groups=[key])
    assert set(found.hosts) == set(racks)
    assert found.groups["r1"] == {"good"}
    assert "keyed_groups: zk_service.rack: not every group of empty and 3 more could be made: " in found.said
    no_group = inventory.read(**options, keyed_groups=[{"key": "zk_port"}])
    assert no_group.hosts == {}
    assert "keyed_groups: zk_port: Invalid group name format" in no_group.said
    assert inventory.read(**options, keyed_groups=[key], strict=True).hosts == {}


def test_nothing_that_is_registered_is_ever_a_template(
    inventory: Inventory, zk: KazooClient, root: str, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    template = "{{ lookup('ansible.builtin.pipe', 'touch ' ~ path) }}"
    register(zk, f"{root}/web/{template}", b'["10.0.0.1", "80"]')
    register(zk, f"{root}/web/address", json.dumps([template, "80"]).encode())
    register(
        zk, f"{root}/web/data", json.dumps({"host": "10.0.0.2", "port": 1, "name": template, "x": [template]}).encode()
    )
    register(zk, f"{root}/{template}/x", b'["10.0.0.3", "80"]')
    playbook = tmp_path / "play.yml"
    playbook.write_text(PRINT_EVERYTHING.format(path=touched))
    file = inventory.file(
        registries=[f"{root}/*"],
        hostnames=["zk_id", "zk_service.name", "'{{ zk_id }}'"],
        compose={"named": "zk_id ~ zk_service"},
        groups={"g": "zk_id is defined"},
        keyed_groups=[{"key": "zk_id"}],
    )
    done = run(
        "ansible-playbook", "-i", str(file), str(playbook), env={"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lookup(" in done.stdout
    assert done.stdout.count("ok=2") == 3
    assert not touched.exists()


def test_a_star_stands_for_any_segment_and_names_the_group(inventory: Inventory, zk: KazooClient, root: str) -> None:
    for service, number in (("com.example.Users", 1), ("com.example.Orders", 2)):
        zk.create(
            f"{root}/{service}/providers/{DUBBO_2[0].replace('192.168.1.7', f'10.0.0.{number}')}", b"", makepath=True
        )
        zk.ensure_path(f"{root}/{service}/consumers")
    zk.ensure_path(f"{root}/com.example.Empty")
    found = inventory.read(registries=[{"path": f"{root}/com.*/providers", "format": "dubbo"}])
    assert found.said == ""
    assert found.groups["com_example_Users"] == {"10.0.0.1"}
    assert found.groups["com_example_Orders"] == {"10.0.0.2"}
    assert found.hosts["10.0.0.2"]["zk_segments"] == ["com.example.Orders"]
    named = inventory.read(registries=[{"path": f"{root}/*.Users/*", "group": "d_*_*"}])
    assert named.groups["d_com_example_Users_providers"] == {"10.0.0.1"}


@pytest.mark.parametrize(
    ("registries", "complaint"),
    [
        ([5], "expected a path, or a mapping"),
        ([{"path": "no/slash"}], "begins with /"),
        ([{"path": "/a", "format": "json"}], "format: expected one of auto, seed"),
        ([{"path": "/a", "gruop": "x"}], "unknown key gruop"),
        ([{"path": "/a", "group": 5}], "group: expected a name"),
    ],
)
def test_an_invalid_option_is_a_one_line_error(inventory: Inventory, registries: Any, complaint: str) -> None:
    assert complaint in inventory.read(registries=registries).said


def kafka_broker(number: int) -> tuple[str, bytes]:
    """The path of a Kafka broker below the root, and its data."""
    endpoints = [f"SSL://k{number}.example.com:9093"]
    return f"brokers/ids/{number}", json.dumps(
        {"host": None, "port": -1, "endpoints": endpoints, "version": 5}
    ).encode()


def dubbo_provider(number: int) -> tuple[str, bytes]:
    """A provider of one of 50 interfaces, with a name as long as in practice."""
    url = f"dubbo://k{number}.example.com:20880/com.example.S?methods={'x' * 300}"
    return f"dubbo/com.example.S{number % 50}/providers/{quote(url, safe='')}", b""


def hbase_server(number: int) -> tuple[str, bytes]:
    """An HBase server, with all facts in its name, and data that the inventory ignores."""
    return f"hbase/rs/k{number}.example.com,16020,1700000000{number:03}", b"\xffPBUF" * 50


@pytest.mark.parametrize("kind", ["kafka", "dubbo", "hbase"])
def test_a_thousand_entries_are_a_thousand_hosts(inventory: Inventory, zk: KazooClient, root: str, kind: str) -> None:
    children = {"kafka": kafka_broker, "dubbo": dubbo_provider, "hbase": hbase_server}[kind]
    made = [children(number) for number in range(1000)]
    for directory in {path.rpartition("/")[0] for path, _data in made}:
        zk.ensure_path(f"{root}/{directory}")
    for start in range(0, 1000, 200):
        batch = made[start : start + 200]
        for one in [zk.create_async(f"{root}/{path}", data, ephemeral=True) for path, data in batch]:
            one.get()
    paths = {"kafka": "brokers/ids", "dubbo": "dubbo/*/providers", "hbase": "hbase/rs"}
    found = inventory.read(registries=[f"{root}/{paths[kind]}"])
    assert found.said == ""
    assert set(found.hosts) == {f"k{number}.example.com" for number in range(1000)}
    assert {variables["zk_port"] for variables in found.hosts.values()} == {
        {"kafka": 9093, "dubbo": 20880, "hbase": 16020}[kind]
    }
    if kind == "dubbo":
        assert len(found.groups["com_example_S7"]) == 20


def test_hosts_have_the_release_that_their_agent_reports(inventory: Inventory, zk: KazooClient, root: str) -> None:
    app = f"{root}/app"
    zk.ensure_path(f"{app}/agents")
    zk.create(f"{app}/config", json.dumps({"url": "file:///x", "commitId": "a" * 40, "relativePath": "w"}).encode())
    generation = zk.exists(f"{app}/config").mzxid
    for name, status in {
        "web1": {"state": "active", "generation": generation, "commitId": "a" * 40},
        "web2": {"state": "failed", "generation": generation, "commitId": "b" * 40},
        "web3": {"state": "of nothing"},
        "web4": {"state": "active", "generation": json.loads("[" * 500 + "]" * 500)},
        "web5": {"state": "active", "generation": generation, "commitId": "\ud800"},
    }.items():
        register(zk, f"{app}/agents/{name}", json.dumps({"name": name, **status}).encode())
    for number in range(1, 7):
        seed(zk, f"{root}/web/web{number}", f"10.0.0.{number}")
    found = inventory.read(
        registries=[f"{root}/web"],
        app=app,
        keyed_groups=[{"key": "zk_release.commit[:4]", "prefix": "commit"}],
        groups={"behind": "zk_release.drift"},
    )
    assert found.hosts["web1"]["zk_release"] == {
        "commit": "a" * 40,
        "generation": generation,
        "state": "active",
        "drift": False,
    }
    assert found.groups["behind"] == {"web2"}
    assert found.groups["commit_bbbb"] == {"web2"}
    assert {name for name, host in found.hosts.items() if "zk_release" not in host} == {"web3", "web4", "web5", "web6"}
    for name, why in {"web3": "state", "web4": "generation", "web5": "commitId"}.items():
        assert f"{app}/agents/{name}: no agent's status, {why}: expected" in found.said
    assert "app: path" in inventory.read(registries=[f"{root}/web"], app="nonsense").said


def test_unknown_options_and_applications_that_do_not_exist_are_warned_of(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/web/web1", "10.0.0.1")
    found = inventory.read(registries=[f"{root}/web"], app=f"{root}/ap", filter=["false"], strict=False)
    assert set(found.hosts) == {"web1"}
    assert "test.zk_services.yml: no such option filter, so it has no effect" in found.said
    assert found.said.count("no such option") == 1
    assert f"{root}/ap/agents: no such znode, so no host has zk_release" in found.said


def test_agents_that_may_not_be_read_cost_no_host_and_do_not_cause_the_last_good_answer(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    options: dict[str, Any] = {"registries": [f"{root}/web"], "unreachable_action": "last_good", **inventory.cached}
    old = seed(zk, f"{root}/web/old", "10.0.0.1")
    assert set(inventory.read(**options).hosts) == {"old"}
    zk.delete(old)
    seed(zk, f"{root}/web/new", "10.0.0.2")
    zk.ensure_path(f"{root}/app")
    zk.create(f"{root}/app/agents", b"", [make_acl("world", "anyone", admin=True)])
    found = inventory.read(**options, app=f"{root}/app")
    assert {name: host.get("zk_stale") for name, host in found.hosts.items()} == {"new": None}
    assert f"{root}/app/agents: permission denied (NoAuth)" in found.said
    assert "going on without zk_release" in found.said
    zk.set_acls(f"{root}/app/agents", OPEN_ACL_UNSAFE)


def test_a_cached_answer_is_never_older_than_the_run(inventory: Inventory, zk: KazooClient, root: str) -> None:
    options: dict[str, Any] = {
        "registries": [f"{root}/*", {"path": f"{root}/names", "format": "hbase"}],
        **inventory.cached,
    }
    seed(zk, f"{root}/web/web1", "10.0.0.1")
    register(zk, f"{root}/names/h1,1,1")
    assert set(inventory.read(**options).hosts) == {"web1", "h1"}
    assert set(inventory.read(**options).hosts) == {"web1", "h1"}
    zk.set(f"{root}/web/web1", b'["10.0.0.9", "99"]')
    assert inventory.read(**options).hosts["web1"]["zk_port"] == 99
    seed(zk, f"{root}/web/web2", "10.0.0.2")
    register(zk, f"{root}/names/h2,1,1")
    assert set(inventory.read(**options).hosts) == {"web1", "web2", "h1", "h2"}
    zk.delete(f"{root}/web/web1")
    zk.delete(f"{root}/names/h1,1,1")
    seed(zk, f"{root}/new/web3", "10.0.0.3")
    assert set(inventory.read(**options).hosts) == {"web2", "web3", "h2"}
    assert set(inventory.read(*flush_cache(), **options).hosts) == {"web2", "web3", "h2"}


def test_a_registry_that_shrinks_too_far_is_refused_or_served_from_the_last_good_answer(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    for number in range(10):
        seed(zk, f"{root}/web/web{number}", f"10.0.0.{number}")
    seed(zk, f"{root}/api/api1", "10.0.1.1")
    options: dict[str, Any] = {"registries": [f"{root}/web", f"{root}/api"], "shrink_limit": 30, **inventory.cached}
    assert len(inventory.read(**options).hosts) == 11
    for number in range(3):
        zk.delete(f"{root}/web/web{number}")
    assert len(inventory.read(**options).hosts) == 8
    for number in range(3, 6):
        zk.delete(f"{root}/web/web{number}")
    refused = inventory.read(**options)
    assert refused.hosts == {}
    assert f"{root}/web: 4 entries, 7 in the last good answer" in refused.said
    assert inventory.read(*flush_cache(), **options).hosts == {}
    last = inventory.read(**options, shrink_action="last_good")
    assert len(last.hosts) == 8
    assert {name for name, host in last.hosts.items() if host.get("zk_stale")} == {
        f"web{number}" for number in range(3, 10)
    }
    assert "going on with that one" in last.said
    accepted = inventory.read(**options, env={"ZK_ACCEPT_SHRUNK": "true"})
    assert len(accepted.hosts) == 5
    assert len(inventory.read(**options).hosts) == 5
    zk.delete(f"{root}/api/api1")
    assert f"{root}/api: 0 entries, 1 in" in inventory.read(**options).said
    warned = inventory.read(**options, shrink_action="warn")
    assert len(warned.hosts) == 4
    assert "0 entries, 1 in the last good answer; going on without the others" in warned.said
    assert inventory.read(**options).said == ""


def age(inventory: Inventory, seconds: float) -> None:
    """Make the cached answers older."""
    (cache,) = (inventory.directory / "cache").iterdir()
    modified = cache.stat().st_mtime - seconds
    # As text, because some versions of ansible-core wrap what is cached in a form of their own.
    cache.write_text(
        re.sub(r"(\bat\W+)(\d+\.\d+)", lambda found: f"{found[1]}{float(found[2]) - seconds}", cache.read_text())
    )
    os.utime(cache, (modified, modified))


def test_an_answer_that_does_not_change_stays_the_last_good_one(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/web/web1", "10.0.0.1")
    cached = {**inventory.cached, "cache_timeout": 600}
    options: dict[str, Any] = {"registries": [f"{root}/web"], "shrink_limit": 30, **cached}
    assert set(inventory.read(**options).hosts) == {"web1"}
    age(inventory, 400)
    assert set(inventory.read(**options).hosts) == {"web1"}
    age(inventory, 400)
    zk.delete(f"{root}/web/web1")
    assert f"{root}/web: 0 entries, 1 in the last good answer" in inventory.read(**options).said
    served = inventory.read(**options, shrink_action="last_good")
    assert served.hosts["web1"]["zk_stale"] is True
    age(inventory, 400)
    said = f"{root}/web: nothing is registered, and there is no last good answer to compare it with"
    assert said in inventory.read(**options).said


def test_an_ensemble_that_is_down_is_an_error_or_the_last_good_answer(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    servers = Ensemble(tmp_path_factory.mktemp("down"), size=1)
    inventory = Inventory(tmp_path, servers.hosts)
    options: dict[str, Any] = {"registries": ["/service/web"], "connect_timeout": 2, **inventory.cached}
    with servers:
        with connected(servers.hosts) as client:
            client.create("/service/web/web1", b'["10.0.0.1", "80"]', makepath=True)
        assert set(inventory.read(**options).hosts) == {"web1"}
    started = time.monotonic()
    refused = inventory.read(**options)
    assert time.monotonic() - started < 15
    assert refused.hosts == {}
    assert f"can't reach ZooKeeper at {servers.hosts} within 2 s" in refused.said
    last = inventory.read(**options, unreachable_action="last_good")
    assert last.hosts["web1"]["zk_stale"] is True
    assert "going on with the last good answer" in last.said
    other: dict[str, Any] = {**options, "registries": ["/service/web", "/service/other"]}
    assert "there is no last good answer" in inventory.read(**other, unreachable_action="last_good").said


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null"])
def test_a_damaged_cache_is_replaced_and_reported(
    inventory: Inventory, zk: KazooClient, root: str, damaged: str
) -> None:
    seed(zk, f"{root}/a", "10.0.0.1")
    options: dict[str, Any] = {"registries": [root], **inventory.cached}
    assert set(inventory.read(**options).hosts) == {"a"}
    (file,) = (inventory.directory / "cache").iterdir()
    file.write_text(damaged)
    found = inventory.read(**options)
    assert set(found.hosts) == {"a"}
    assert "the cache can't be read" in found.said
    assert inventory.read(**options).said == ""


def test_options_that_need_the_last_good_answer_need_the_cache(inventory: Inventory, root: str) -> None:
    assert (
        "shrink_limit needs the last good answer; set cache: true"
        in inventory.read(registries=[root], shrink_limit=30).said
    )
    assert "unreachable_action needs" in inventory.read(registries=[root], unreachable_action="last_good").said


def test_a_cache_that_ends_with_the_run_is_warned_of_where_an_answer_has_to_last(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    seed(zk, f"{root}/a", "10.0.0.1")
    warning = "the memory cache ends with this run; set cache_plugin, such as jsonfile"
    options: dict[str, Any] = {"registries": [root], "shrink_limit": 30, "unreachable_action": "last_good"}
    found = inventory.read(**options, cache=True)
    assert set(found.hosts) == {"a"}
    assert f"[WARNING]: shrink_limit: {warning}" in found.said
    assert f"[WARNING]: unreachable_action: {warning}" in found.said
    assert inventory.read(registries=[root], cache=True).said == ""
    assert inventory.read(**{**options, **inventory.cached}).said == ""


def test_the_connection_comes_from_the_environment_and_from_templates(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    acl = [make_digest_acl("reader", "secret-word", all=True)]
    zk.create(f"{root}/web1", b'["10.0.0.1", "80"]', acl=acl)
    ensemble = inventory.options.pop("hosts")
    env = {"ZK_HOSTS": f"{ensemble}{root}", "SECRET": "secret-word"}
    credentials: dict[str, Any] = {
        "digest_username": "reader",
        "digest_password": "{{ lookup('ansible.builtin.env', 'SECRET') }}",
    }
    assert set(inventory.read(registries=["/"], env=env, **credentials).hosts) == {"web1"}
    without = inventory.read(registries=["/"], env=env, digest_username="reader", digest_password="wrong-word")
    assert without.hosts == {}
    assert "/web1: permission denied" in without.said
    assert "wrong-word" not in without.said
    zk.add_auth("digest", "reader:secret-word")
    zk.delete(f"{root}/web1")


def test_a_registry_that_may_not_be_listed_is_an_error_and_not_an_empty_group(
    inventory: Inventory, zk: KazooClient, root: str
) -> None:
    zk.create(f"{root}/closed", b"", acl=[make_digest_acl("someone", "else", all=True)])
    found = inventory.read(registries=[f"{root}/closed", root])
    assert found.hosts == {}
    assert f"{root}/closed: permission denied" in found.said
    zk.delete(f"{root}/closed")


@pytest.mark.parametrize(
    ("name", "ours"), [("zookeeper.yaml", True), ("a.zk_services.yml", True), ("hosts.yml", False)]
)
def test_a_file_is_recognised_by_its_name(
    inventory: Inventory, zk: KazooClient, root: str, name: str, ours: bool
) -> None:
    seed(zk, f"{root}/web1", "10.0.0.1")
    path = inventory.file(registries=[root]).rename(inventory.directory / name)
    done = run("ansible-inventory", "-i", str(path), "--graph")
    assert ("web1" in done.stdout) is ours
