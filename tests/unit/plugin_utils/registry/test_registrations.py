"""From the children of a registry to registrations: names, variables, groups, and the option itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import (
    Child,
    InvalidRegistry,
    Reading,
    Registry,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import FORMATS
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import (
    Registration,
    is_host_name,
    registrations,
)
from support.registry_entries import KAFKA, KAFKA_LISTENERS, PATRONI_LEADER, PATRONI_REPLICA

NOW = 1_700_000_000.0


def child(name: str, data: Any, *, owner: int = 1) -> Child:
    """A child of /r; `data` is its value, as bytes or to be written as JSON."""
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Child(f"/r/{name}", (), content, 1_699_999_990_000, 1_699_999_995_000, owner)


def found(*children: Child, registry_format: str = "auto") -> tuple[list[Registration], list[str]]:
    return registrations(Registry("/r", registry_format), Reading({"/r": 1}, children), NOW)


def test_an_entry_of_ours_goes_by_its_own_name_and_any_other_by_its_address() -> None:
    ones, problems = found(
        child("web1", ["10.0.0.1", "80"]), child("10.0.0.2:81", b""), child("x", {"host": "h", "port": 1})
    )
    assert problems == []
    assert [one.name for one in ones] == ["web1", "10.0.0.2", "h"]


def test_a_session_is_written_as_the_servers_write_it() -> None:
    """A member's number is the first byte of a session's ID: from 128 on the ID is below 0."""
    ones, _problems = found(child("web1", ["10.0.0.1", "80"], owner=-0x37FFFB7C2F560000))
    assert ones[0].variables["zk_session"] == "0xc8000483d0aa0000"


@pytest.mark.parametrize(
    "name",
    ["-x", "a b", "..", "{{ 1 }}", "a,b", "localhost", "127.0.0.1", "::1", "a@b", "[1:3]", "a\u2044b", "\u00e9" * 200],
)
def test_a_name_that_ansible_cannot_use_gives_way_to_the_address(name: str) -> None:
    ones, _problems = found(child(name, ["10.0.0.1", "80"]))
    assert [one.name for one in ones] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("web:all", False),
        ("web:", False),
        ("a:b:1", False),
        ("web:8080", True),
        ("10.0.0.1:80", True),
        ("2001:db8::1", True),
    ],
)
def test_a_colon_in_a_name_is_of_a_port_or_an_address_and_cuts_no_pattern(name: str, usable: bool) -> None:
    assert is_host_name(name, "10.0.0.1") == usable


def test_localhost_keeps_its_name_if_that_is_its_address() -> None:
    ones, _problems = found(child("localhost", ["127.0.0.1", "80"]))
    assert [one.name for one in ones] == ["localhost"]


def test_the_age_is_since_it_was_created_and_never_below_zero() -> None:
    ones, _problems = found(child("a", ["h", "1"]))
    assert ones[0].variables["zk_age"] == 10
    late, _problems = registrations(Registry("/r"), Reading({}, [child("a", ["h", "1"])]), 0.0)
    assert late[0].variables["zk_age"] == 0


def test_brokers_are_at_the_listener_of_their_registry() -> None:
    brokers = Reading({"/r": 1}, [child(*KAFKA), child(*KAFKA_LISTENERS)])
    registry = Registry.from_option({"path": "/r", "format": "kafka", "listener": "EXTERNAL"})
    ones, problems = registrations(registry, brokers, NOW)
    assert [(one.variables["zk_address"], one.variables["zk_port"]) for one in ones] == [("kafka3.example.com", 19092)]
    assert problems == ['/r/1: left out, it has no listener "EXTERNAL", only ["PLAINTEXT", "SSL"]']


def test_an_entry_that_is_not_alive_is_left_out_without_a_warning() -> None:
    dead = {"serviceEndpoint": {"host": "h", "port": 1}, "status": "DEAD"}
    assert found(child("member_1", dead)) == ([], [])


def test_an_entry_that_cannot_be_read_is_named_with_the_reason() -> None:
    ones, problems = found(child("good", ["h", "1"]), child("bad", {"port": 1}))
    assert [one.name for one in ones] == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith("/r/bad: left out, ")


@pytest.mark.parametrize(
    ("leaders", "roles"),
    [
        ({}, ["leader", "replica"]),
        ({"/leader": "pg1"}, ["leader", "replica"]),
        ({"/leader": "pg2"}, ["replica", "leader"]),
        ({"/leader": ""}, ["replica", "replica"]),
        ({"/other/leader": "pg2"}, ["leader", "replica"]),
    ],
)
def test_the_leader_key_of_its_cluster_decides_which_member_leads_if_it_was_read(
    leaders: dict[str, str], roles: list[str]
) -> None:
    members = [child(*PATRONI_LEADER), child(*PATRONI_REPLICA)]
    ones, _problems = registrations(Registry("/r", "patroni"), Reading({"/r": 1}, members, leaders=leaders), NOW)
    assert [one.variables["zk_role"] for one in ones] == roles


def test_what_has_no_role_has_no_variable_of_that_name() -> None:
    ones, _problems = found(child("web1", ["10.0.0.1", "80"]))
    assert "zk_role" not in ones[0].variables


contents = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from(["10.0.0.1", "80", "", "a b"]), max_size=3).map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"host": st.text(max_size=9) | st.just("h"), "port": st.integers() | st.none()}).map(
        lambda value: json.dumps(value).encode()
    ),
)


@given(st.sampled_from(sorted(FORMATS)), st.dictionaries(st.text(min_size=1, max_size=20), contents, max_size=6))
@example("auto", {"{{ 1 }}": b'["h", "1"]', "a:80": b""})
def test_every_child_is_a_registration_or_a_warning_or_not_alive(
    registry_format: str, children: dict[str, bytes]
) -> None:
    ones, problems = found(*(child(name, data) for name, data in children.items()), registry_format=registry_format)
    paths = [one.variables["zk_path"] for one in ones]
    assert len(ones) + len(problems) <= len(children)
    assert set(paths) <= {f"/r/{name}" for name in children}
    assert all(is_host_name(one.name, one.variables["zk_address"]) for one in ones)


@pytest.mark.parametrize(
    ("registry", "segments", "group"),
    [
        (Registry("/service/business/what"), (), "what"),
        (Registry("/brokers/ids"), (), "brokers"),
        (Registry("/hbase/rs"), (), "hbase"),
        (Registry("/solr/live_nodes"), (), "solr"),
        (Registry("/live_nodes"), (), "live_nodes"),
        (Registry("/"), (), "root"),
        (Registry("/dubbo/*/providers"), ("com.example.Api",), "com.example.Api"),
        (Registry("/a/*/b/*"), ("x", "y"), "y"),
        (Registry("/a/*", group="svc_*"), ("x",), "svc_x"),
        (Registry("/a/*/b/*", group="*_of_*"), ("x", "y"), "x_of_y"),
        (Registry("/a/*", group="all_of_them"), ("x",), "all_of_them"),
        (Registry("/a", group="web"), (), "web"),
    ],
)
def test_a_group_is_what_was_requested_or_the_last_meaningful_segment(
    registry: Registry, segments: tuple[str, ...], group: str
) -> None:
    assert registry.group_of(segments) == group


@pytest.mark.parametrize(
    "given_option",
    [
        5,
        None,
        {},
        {"path": 5},
        {"path": "x"},
        {"path": "/a/"},
        {"path": "/a", "format": "x"},
        {"path": "/a", "format": ["nerve"]},
        {"path": "/a", "group": ""},
        {"path": "/a", "b": 1},
        {"path": "/a", "format": "kafka", "listener": ""},
        {"path": "/a", "format": "kafka", "listener": 7},
        {"path": "/a", "listener": "EXTERNAL"},
        {"path": "/a", "format": "nerve", "listener": "EXTERNAL"},
    ],
)
def test_a_registry_that_makes_no_sense_is_refused_in_one_line(given_option: Any) -> None:
    with pytest.raises(InvalidRegistry, match=r"^registries: ") as refused:
        Registry.from_option(given_option)
    assert "\n" not in str(refused.value)
