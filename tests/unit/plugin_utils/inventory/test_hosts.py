"""Which registrations form one host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.hosts import NO_ADDRESS, merge, registered_as
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import MAX_NAME_BYTES, Registration


def entry(name: str, address: str, group: str = "g", port: int = 80) -> tuple[str, Registration]:
    """A registration, with the name that was chosen for it."""
    return name, Registration(name, group, {"zk_address": address, "zk_port": port, "zk_path": f"/{group}/{name}"})


def test_one_name_at_one_address_is_one_host_in_the_groups_of_both() -> None:
    hosts, problems = merge(
        [entry("a", "10.0.0.1", "web", 80), entry("a", "10.0.0.1", "api", 81), entry("a", "10.0.0.1", "api", 82)], {}
    )
    assert problems == []
    assert [(host.name, host.groups) for host in hosts] == [("a", ["web", "api"])]
    assert [service["port"] for service in hosts[0].variables["zk_services"]] == [80, 81, 82]


def test_a_registry_that_is_named_twice_has_each_znode_once_in_a_host_that_is_in_the_groups_of_both() -> None:
    bee, other = entry("a", "10.0.0.1", "bee"), entry("a", "10.0.0.1", "bee", 81)
    cee = ("a", bee[1]._replace(group="cee"))
    (host,) = merge([bee, cee, other], {})[0]
    assert host.groups == ["bee", "cee"]
    # A broker's znode has one for each port of its listeners.
    assert [(service["path"], service["port"]) for service in host.variables["zk_services"]] == [
        ("/bee/a", 80),
        ("/bee/a", 81),
    ]


def test_what_only_some_entries_have_is_a_variable_of_the_host_and_the_role_one_of_each_entry() -> None:
    web, member, replica = (entry("a", "10.0.0.1", group) for group in ("web", "one", "two"))
    member[1].variables.update(zk_role="leader", zk_stale=True)
    replica[1].variables.update(zk_role="replica", zk_segments=["two"])
    (host,) = merge([web, member, replica], {})[0]
    assert host.variables["zk_path"] == "/web/a"
    assert (host.variables["zk_role"], host.variables["zk_stale"], host.variables["zk_segments"]) == (
        "leader",
        True,
        ["two"],
    )
    assert [service.get("role") for service in host.variables["zk_services"]] == [None, "leader", "replica"]


def test_one_name_at_two_addresses_is_two_hosts_whichever_comes_first() -> None:
    entries = [entry("a", "10.0.0.1"), entry("a", "10.0.0.2"), entry("a-10.0.0.1", "10.0.0.3")]
    for order in (entries, entries[::-1]):
        hosts, problems = merge(order, {})
        assert sorted(host.name for host in hosts) == ["a-10.0.0.1", "a@10.0.0.1", "a@10.0.0.2"]
        assert problems == ["a: 2 addresses have this name, so each is part of it, as in a@10.0.0.1"]


def test_a_name_that_means_something_already_stays_what_it_is() -> None:
    taken = {"all": None, "here": NO_ADDRESS, "db": "10.0.9.1", "same": "10.0.0.3", "two": "10.0.0.4"}
    entries = [entry("all", "10.0.0.1"), entry("here", "127.0.0.1"), entry("db", "10.0.0.2"), entry("same", "10.0.0.3")]
    hosts, problems = merge([*entries, entry("two", "10.0.0.4"), entry("two", "10.0.0.5")], taken)
    expected = ["all@10.0.0.1", "here@127.0.0.1", "db@10.0.0.2", "same", "two", "two@10.0.0.5"]
    assert [host.name for host in hosts] == expected
    assert [problem.partition(",")[0] for problem in problems] == [
        "all: a group has this name",
        "here: that is Ansible's name for the controller",
        "db: another source has a host of this name",
        "two: another source has a host of this name",
    ]
    assert "so this one is two@10.0.0.5" in problems[-1]


def test_an_entry_is_the_host_that_another_file_has_made_of_its_name_and_address() -> None:
    taken = {"a@10.0.0.1": "10.0.0.1", "a@10.0.0.2": "10.0.0.2"}
    hosts, problems = merge([entry("a", "10.0.0.1")], taken)
    assert ([host.name for host in hosts], problems) == (["a@10.0.0.1"], [])
    # At a third address it is none of them; and a host of that name which is elsewhere is another one.
    assert [host.name for host in merge([entry("a", "10.0.0.3")], taken)[0]] == ["a"]
    assert [host.name for host in merge([entry("a", "10.0.0.1")], {"a@10.0.0.1": "10.0.0.9"})[0]] == ["a"]


def test_a_host_of_another_source_stays_what_it_is_also_where_it_is_called_by_name_and_address() -> None:
    taken: dict[str, str | None] = {"a@10.0.0.1": "db1.internal", "a@10.0.0.2": None}
    entries = [entry("a", "10.0.0.1"), entry("a", "10.0.0.2"), entry("a", "10.0.0.3")]
    hosts, problems = merge(entries, taken)
    expected = ["a@10.0.0.1@10.0.0.1", "a@10.0.0.2@10.0.0.2", "a@10.0.0.3"]
    assert [host.name for host in hosts] == expected
    assert problems == ["a: 3 addresses have this name, so each is part of it, as in a@10.0.0.1@10.0.0.1"]
    # In another file they are the same hosts.
    made = {host.name: host.variables["zk_address"] for host in hosts}
    assert [host.name for host in merge(entries, {**taken, **made})[0]] == expected


def test_what_is_registered_as_another_file_has_it_is_not_to_be_replaced() -> None:
    entries = [entry("a", "10.0.0.1"), entry("b", "10.0.0.2")]
    known = {"a": "10.0.0.1", "a@10.0.0.1": "10.0.0.1", "a@10.0.0.2": "10.0.0.2", "b": "10.0.0.3", "c": "10.0.0.2"}
    assert registered_as(entries, known) == {"a": "10.0.0.1", "a@10.0.0.1": "10.0.0.1"}


def test_a_name_is_never_longer_than_a_file_name_may_be_and_stays_unique() -> None:
    long, address = "ä" * 120, "a" * 250
    entries = [entry(long, "10.0.0.1"), entry(long, "10.0.0.2"), entry(address, address), entry(f"{address}b", "x")]
    hosts, _problems = merge([*entries, entry("ä" * 119, "10.0.0.3")], {})
    names = [host.name for host in hosts]
    assert len(set(names)) == 5
    assert all(len(name.encode()) <= MAX_NAME_BYTES for name in names)
    assert names[:4] == [host.name for host in merge(entries, {})[0]]
    assert (names[4], names[2].startswith("a" * 200)) == ("ä" * 119, True)


names = st.sampled_from(["a", "b", "a-1", "a-1-1", "a-2"])
addresses = st.sampled_from(["1", "2", "1-1", "3"])


@given(st.lists(st.tuples(names, addresses, st.sampled_from(["g", "h"]), st.integers(1, 3)), max_size=12))
def test_hosts_that_differ_are_never_merged_and_no_registration_is_lost(
    given_entries: list[tuple[str, str, str, int]],
) -> None:
    entries = [entry(name, address, group, port) for name, address, group, port in given_entries]
    hosts, _problems = merge(entries, {})
    assert len({host.name for host in hosts}) == len(hosts)
    for host in hosts:
        assert {service["address"] for service in host.variables["zk_services"]} == {host.variables["zk_address"]}
    served = [(one["address"], one["port"], one["path"]) for host in hosts for one in host.variables["zk_services"]]
    assert sorted(served) == sorted(
        {(address, port, f"/{group}/{name}") for name, address, group, port in given_entries}
    )
