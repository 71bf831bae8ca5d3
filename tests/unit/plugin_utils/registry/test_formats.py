"""How the reader of each format reads what the software itself writes, and what nobody should write."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.formats import (
    FORMATS,
    Endpoint,
    InvalidEntry,
    elected_role,
    read,
)
from support.registry_entries import (
    AS_WRITTEN,
    DUBBO_2,
    HBASE,
    HIVESERVER2,
    KAFKA,
    KAFKA_LISTENERS,
    NERVE_BASE64,
    NERVE_OBJECT,
    PATRONI_LEADER,
    PATRONI_REPLICA,
    PATRONI_STANDBY_LEADER,
    SEED,
    SOLR,
    WrittenEntry,
)

every_entry = pytest.mark.parametrize("entry", AS_WRITTEN, ids=lambda entry: f"{entry.format}-{entry.address}")


@every_entry
def test_a_child_is_read_as_its_software_writes_it(entry: WrittenEntry) -> None:
    endpoint = read(entry.format, *entry.child)
    assert (endpoint.address, endpoint.port, endpoint.alive) == (entry.address, entry.port, True)


@every_entry
def test_auto_reads_each_format_as_if_it_were_named(entry: WrittenEntry) -> None:
    assert read("auto", *entry.child) == read(entry.format, *entry.child)


@pytest.mark.parametrize(
    ("child", "data"),
    [
        (SEED, ["127.0.0.1", "9099"]),
        (NERVE_BASE64, NERVE_OBJECT),
        (HBASE, {"startcode": 1212121212}),
        (SOLR, {"context": "solr"}),
        (HIVESERVER2, {"serverUri": "x1:10000", "version": "2.3.2", "sequence": "0000000792"}),
        (("10.0.0.1:80", b"weight=3"), "weight=3"),
        (("10.0.0.1:80", b'{"weight": 3}'), {"weight": 3}),
        (("10.0.0.1:80", b"\xff\xfe"), None),
    ],
)
def test_the_rest_of_a_child_is_kept_as_its_data(child: tuple[str, bytes], data: Any) -> None:
    assert read("auto", *child).data == data


def test_the_parameters_of_a_dubbo_provider_are_decoded() -> None:
    found = read("dubbo", *DUBBO_2).data
    assert found["path"] == "org.apache.dubbo.demo.DemoService"
    assert found["parameters"]["methods"] == "sayHello,sayHelloAsync"


@pytest.mark.parametrize(
    ("child", "listener", "address", "port"),
    [
        (KAFKA, "SSL", "localhost", 9093),
        (KAFKA_LISTENERS, "INTERNAL", "10.0.0.7", 9092),
        (KAFKA_LISTENERS, "external", "kafka3.example.com", 19092),
        (KAFKA_LISTENERS, "ADMIN", "2001:db8::7", 9093),
        (KAFKA_LISTENERS, "PLAINTEXT", "10.0.0.7", 9092),
        (KAFKA_LISTENERS, "SASL_SSL", "kafka3.example.com", 19092),
    ],
)
def test_a_broker_is_at_the_listener_that_is_named_or_the_first_of_a_security_protocol(
    child: tuple[str, bytes], listener: str, address: str, port: int
) -> None:
    found = read("kafka", *child, listener)
    assert (found.address, found.port) == (address, port)
    assert found.data == json.loads(child[1])


@pytest.mark.parametrize(
    ("listener", "broker", "why"),
    [
        ("CLIENT", json.loads(KAFKA_LISTENERS[1]), r'no listener "CLIENT", only \["INTERNAL", "EXTERNAL", "ADMIN"\]'),
        ("A", {"host": "h", "port": 1}, 'no listener "A"'),
        ("A", {"host": "h", "port": 1, "endpoints": [7, "B"]}, 'no listener "A"'),
        ("A", {"host": "h", "port": 1, "endpoints": ["B://h:1"], "listener_security_protocol_map": [7]}, "only ..B.."),
        ("A", {"host": "h", "port": 1, "endpoints": ["A://:1"]}, "neither a host name"),
        ("A", {"host": "h", "port": 1, "endpoints": ["A://h:70000"]}, "port from 0 to 65535"),
    ],
)
def test_a_broker_without_the_listener_is_refused(listener: str, broker: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEntry, match=why) as refused:
        read("kafka", "1", json.dumps(broker).encode(), listener)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("child", "role"),
    [
        (PATRONI_LEADER, "leader"),
        (PATRONI_REPLICA, "replica"),
        (PATRONI_STANDBY_LEADER, "standby_leader"),
        (("pg1", PATRONI_LEADER[1].replace(b"master", b"primary")), "leader"),
        (("pg1", PATRONI_LEADER[1].replace(b"master", b"demoted")), "replica"),
        (("pg1", PATRONI_LEADER[1].replace(b'"master"', b"7")), ""),
        (SEED, ""),
    ],
)
def test_the_role_of_a_member_of_patroni_is_known_whatever_its_version_calls_it(
    child: tuple[str, bytes], role: str
) -> None:
    assert read("auto", *child).role == role


@pytest.mark.parametrize(
    ("own", "leads", "role"),
    [
        ("leader", True, "leader"),
        ("leader", False, "replica"),
        ("standby_leader", True, "standby_leader"),
        ("standby_leader", False, "replica"),
        ("replica", True, "leader"),
        ("replica", False, "replica"),
        ("uninitialized", False, "uninitialized"),
        ("", True, "leader"),
        ("", False, ""),
    ],
)
def test_the_leader_key_has_the_last_word_about_who_leads(own: str, leads: bool, role: str) -> None:
    assert elected_role(own, leads=leads) == role


def test_a_password_in_the_url_of_a_member_is_in_no_message() -> None:
    for url in (
        "http://u:s3cret@h/x",
        "postgres://u:s3cret@h:99999/x",
        "postgres://u:s3cret@[h/x",
        "postgres://u:s3cret@/x",
    ):
        with pytest.raises(InvalidEntry, match="conn_url: expected postgres://host:port/database") as refused:
            read("patroni", "pg1", json.dumps({"conn_url": url, "api_url": ""}).encode())
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("registry_format", "name", "data"),
    [
        ("serverset", "member_1", b'{"serviceEndpoint":{"host":"a","port":1},"status":"DEAD"}'),
        ("serverset", "member_1", b'{"serviceEndpoint":{"host":"a","port":1},"status":"STARTING"}'),
        ("curator", "x", b'{"name":"n","address":"a","port":1,"enabled":false}'),
        ("dubbo", "dubbo%3A%2F%2F10.0.0.1%3A1%2Fs%3Fdisabled%3Dtrue", b""),
        ("dubbo", "empty%3A%2F%2F10.0.0.1%2Fs", b""),
    ],
)
def test_an_entry_that_says_that_it_does_not_serve_is_not_alive(registry_format: str, name: str, data: bytes) -> None:
    assert not read(registry_format, name, data).alive


@pytest.mark.parametrize(
    ("registry_format", "name", "data", "address", "port"),
    [
        ("seed", "a", b'["10.0.0.1"]', "10.0.0.1", None),
        ("seed", "a", b'["::1", 80]', "::1", 80),
        ("seed", "a", b'["10.0.0.1", ""]', "10.0.0.1", None),
        ("host_port", "app.example.com", b"", "app.example.com", None),
        ("host_port", "[2001:db8::7]:8080", b"", "2001:db8::7", 8080),
        ("host_port", "2001:db8::7", b"", "2001:db8::7", None),
        ("nerve", "i_0000000001", b'{"host":"fe80::1%eth0","port":"1"}', "fe80::1%eth0", 1),
        ("nerve", "base64_4_%%%_0000000001", b'{"host":"a","port":1}', "a", 1),
        ("curator", "x", b'{"name":"n","address":"a","port":null,"sslPort":8443}', "a", 8443),
        ("kafka", "1", b'{"host":null,"port":-1,"endpoints":["SSL://[::1]:9093"]}', "::1", 9093),
        ("solr", "[::1]:8983_", b"", "::1", 8983),
        ("solr", "10.0.0.1:8983_a%2Fb", b"", "10.0.0.1", 8983),
        ("hbase", "2001:db8::7,16020,1", b"", "2001:db8::7", 16020),
        ("dubbo", "consumer%3A%2F%2F10.0.0.1%2Fs", b"", "10.0.0.1", None),
        ("host_port", "bücher.example:80", b"", "bücher.example", 80),
        ("patroni", "pg1", b'{"conn_url": "postgresql://[2001:db8::7]:5432/postgres"}', "2001:db8::7", 5432),
        ("patroni", "pg1", b'{"conn_url": "postgres://u:p@pg1/postgres"}', "pg1", None),
    ],
)
def test_an_unusual_but_valid_entry_is_read(
    registry_format: str, name: str, data: bytes, address: str, port: int | None
) -> None:
    found = read(registry_format, name, data)
    assert (found.address, found.port) == (address, port)


@pytest.mark.parametrize(
    ("registry_format", "name", "data", "why"),
    [
        ("seed", "a", b"", "not JSON"),
        ("seed", "a", b'["", "80"]', "host name"),
        ("seed", "a", b'["a", "80", "x"]', "address"),
        ("seed", "a", b'["a", "http"]', "port from 0 to 65535"),
        ("seed", "a", b'["a", 70000]', "70000"),
        ("seed", "a", b'["a", true]', "true"),
        ("seed", "a", b'["-oProxyCommand=touch /tmp/x", "22"]', "neither a host name"),
        ("seed", "a", b'["a b", "22"]', "neither a host name"),
        ("seed", "a", b'["{{ 1 }}", "22"]', "neither a host name"),
        ("seed", "a", b'["a\\nb", "22"]', "neither a host name"),
        ("seed", "a", b"[" * 40 + b"]" * 40, "deeper"),
        ("curator", "a", b'{"name":"n","address":"a","port":1,"payload":' + b"[" * 40 + b"]" * 40 + b"}", "deeper"),
        ("nerve", "a", b'{"host":"a","port":1,"name":"\\ud800"}', "surrogate"),
        ("nerve", "a", b'{"host":"a","port":1,"weight":NaN}', "NaN"),
        ("nerve", "a", b'{"host":"a","port":1,"weight":1e999}', "more than a number can be"),
        ("nerve", "a", b'{"host":"a","port":1,"weight":-1e400}', "more than a number can be"),
        ("nerve", "a", b"[" * 100_000, "not JSON"),
        ("hbase", f"www.example.org,1234,{'1' * 5000}", b"", "startcode"),
        ("auto", f"www.example.org,1234,{'1' * 5000}", b"", "neither"),
        ("nerve", "a", b'{"port": 1}', "host name"),
        ("nerve", "a", b'"text"', "JSON object"),
        ("serverset", "a", b'{"serviceEndpoint": 1}', "serviceEndpoint"),
        ("kafka", "1", b'{"host":null,"port":-1,"endpoints":[]}', "endpoints"),
        ("kafka", "1", b'{"host":null,"port":-1,"endpoints":["PLAINTEXT://:9092"]}', "neither a host name"),
        ("hbase", "a,b,c", b"", "startcode"),
        ("hbase", "a,99999,1", b"", "99999"),
        ("solr", "solr", b"", "context"),
        ("hiveserver2", "x", b"", "serverUri"),
        ("clickhouse", "x", b'{"address": 1}', "address"),
        ("patroni", "pg1", b'{"conn_url": 1}', "conn_url"),
        ("patroni", "pg1", b'{"conn_url": "postgres://-x:1/postgres"}', "neither a host name"),
        ("dubbo", "dubbo%3A%2F%2F10.0.0.1%3A99999%2Fs", b"", "provider URL"),
        ("dubbo", "x", b"", "provider URL"),
        ("host_port", ":8080", b"", "neither a host name"),
        ("auto", "web1", b"", "check the registry's path and set its format"),
        ("auto", "web1", b"10.0.0.1", "check the registry's path and set its format"),
        ("auto", "member_1", b'{"some": "thing"}', "check the registry's path and set its format"),
        ("auto", "member_1", b' {"host": "10.0.0.2", "port": 1, "w": NaN}', "its data is not JSON: NaN is not JSON"),
    ],
)
def test_an_invalid_entry_is_refused_with_the_reason(registry_format: str, name: str, data: bytes, why: str) -> None:
    with pytest.raises(InvalidEntry, match=why) as refused:
        read(registry_format, name, data)
    assert "\n" not in str(refused.value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["10.0.0.1", "a:80", "80", "[::1]:1", "postgres://a:5432/b", "PLAINTEXT://a:1"])
)
keys = st.text() | st.sampled_from(
    [
        "host",
        "port",
        "address",
        "name",
        "serviceEndpoint",
        "endpoints",
        "enabled",
        "shard_id",
        "sslPort",
        "conn_url",
        "listener_security_protocol_map",
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=12
)
names = (
    st.text(min_size=1, max_size=60)
    | st.sampled_from([entry.child[0] for entry in AS_WRITTEN])
    | st.from_regex(r"[a-z0-9%:,;=_\[\]]+", fullmatch=True)
)
contents = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@given(st.sampled_from(sorted(FORMATS)), names, contents)
@example("dubbo", "x://[", b"")
@example("dubbo", "a%3A%2F%2Fb%ff", b"")
@example("kafka", "1", b'{"host": null, "endpoints": [[]]}')
def test_any_entry_is_a_valid_endpoint_or_refused(registry_format: str, name: str, data: bytes) -> None:
    try:
        found = read(registry_format, name, data)
    except InvalidEntry:
        return
    assert isinstance(found, Endpoint)
    assert found.address
    assert not set(found.address) & set(" \n\t/\\'\"{}()[]$`;&|<>,=")
    assert not found.address.startswith(("-", "."))
    assert found.port is None or 0 <= found.port <= 65535
    json.dumps(found.data, allow_nan=False).encode()
    json.dumps(found.data, allow_nan=False, ensure_ascii=False).encode()


@given(contents)
def test_any_broker_is_at_a_listener_or_refused(data: bytes) -> None:
    try:
        assert read("kafka", "1", data, "PLAINTEXT").address
    except InvalidEntry:
        return


@given(names, contents)
def test_an_address_is_never_invented(name: str, data: bytes) -> None:
    try:
        found = read("auto", name, data)
    except InvalidEntry:
        return
    said = [name, *_texts(data), *_texts_of_name(name)]
    assert any(found.address.lower() in text.lower() for text in said)


def _texts(data: bytes) -> list[str]:
    return [data.decode("utf-8", "replace"), str(json.loads(data)) if _is_json(data) else ""]


def _texts_of_name(name: str) -> list[str]:
    coded = name.split("_")[2] if name.startswith("base64_") and name.count("_") >= 2 else ""
    return [
        unquote(name),
        base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-8", "replace") if coded else "",
    ]


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
