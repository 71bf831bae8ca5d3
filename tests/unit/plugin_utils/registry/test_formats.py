"""What the reader of each format makes of what the software itself writes, and of what nobody should."""

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
    InvalidEntry,
    Service,
    read,
)

SEED = ("s9099", b'["127.0.0.1", "9099"]')
"""The article's own client: `json.dumps((os.environ["URL"], os.environ["PORT"]))` below /service/business/what."""
HOST_PORT = ("app.example.com:12345", b"")
"""A name as many a client of its own writes it, with whatever data."""
NERVE = (
    "i-0abc_0000000003",
    b'{"host":"10.0.0.3","port":8080,"name":"i-0abc","weight":1,"labels":{"az":"us-east-1a","rack":"r7"}}',
)
"""Nerve's README, "reporter_type: zookeeper", and the service data of Synapse's spec for its ZookeeperWatcher."""
NERVE_OBJECT = {"host": "10.0.0.4", "port": "8081", "name": "i-0def", "labels": {"az": "us-east-1b"}}
NERVE_CODED = base64.urlsafe_b64encode(json.dumps(NERVE_OBJECT).encode()).decode()
NERVE_BASE64 = (f"base64_{len(NERVE_CODED)}_{NERVE_CODED}_0000000003", b"")
"""Nerve with `use_path_encoding`; CHILD_NAME_ENCODING_PREFIX of Synapse's ZookeeperWatcher is `base64_`."""
SERVERSET = (
    "member_0000002132",
    (
        b'{"serviceEndpoint":{"host":"asdf-laptop","port":4794},'
        b'"additionalEndpoints":{"http":{"host":"asdf-laptop","port":4795}},"status":"ALIVE","shard":1}'
    ),
)
"""Finagle's `cluster.join` and twitter commons' ServerSetImpl write this; Aurora's announcer and Prometheus read it."""
CURATOR = (
    "ca2fff8e-d756-480c-b59e-8297ff88624b",
    (
        b'{"name":"test","id":"ca2fff8e-d756-480c-b59e-8297ff88624b","address":"10.20.30.40","port":1234,"sslPort":null,'
        b'"payload":"From Test","registrationTimeUTC":1325129459728,"serviceType":"DYNAMIC",'
        b'"uriSpec":null,"enabled":true}'
    ),
)
"""curator-x-discovery-server/README.txt of Apache Curator, with the fields that JsonInstanceSerializer adds."""
SPRING_CLOUD = (
    "5f0e6b0c-1d0b-4e5b-9a57-8d2f1b9a3c11",
    (
        b'{"name":"orders","id":"5f0e6b0c-1d0b-4e5b-9a57-8d2f1b9a3c11","address":"10.0.0.21","port":8443,"sslPort":8443,'
        b'"payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"orders","name":"orders",'
        b'"metadata":{"instance_status":"UP"}},"registrationTimeUTC":1610526105860,"serviceType":"DYNAMIC",'
        b'"uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false}]}}'
    ),
)
"""Spring Cloud Zookeeper's ZookeeperInstance as the payload, below /services/<application>."""
DUBBO_3 = (
    "192.168.1.9:20880",
    (
        b'{"name":"dubbo-demo-api-provider","id":"192.168.1.9:20880","address":"192.168.1.9","port":20880,"sslPort":null,'
        b'"payload":{"@class":"org.apache.dubbo.registry.zookeeper.ZookeeperInstance","id":"192.168.1.9:20880",'
        b'"name":"dubbo-demo-api-provider","metadata":{"dubbo.endpoints":"[{\\"port\\":20880,\\"protocol\\":\\"dubbo\\"}]"}},'
        b'"registrationTimeUTC":1610526105860,"serviceType":"DYNAMIC","uriSpec":null}'
    ),
)
"""Dubbo 3's registration by application, below /services/<application>: CuratorFrameworkUtils.build."""
DUBBO_2 = (
    (
        "dubbo%3A%2F%2F192.168.1.7%3A20880%2Forg.apache.dubbo.demo.DemoService%3Fanyhost%3Dtrue%26application%3Ddemo-provider"
        "%26deprecated%3Dfalse%26dubbo%3D2.0.2%26dynamic%3Dtrue%26generic%3Dfalse%26interface%3Dorg.apache.dubbo.demo.DemoService"
        "%26methods%3DsayHello%2CsayHelloAsync%26pid%3D45271%26side%3Dprovider%26timestamp%3D1610262555945"
    ),
    b"192.168.1.7",
)
"""Dubbo 2's ZookeeperRegistry: URL.encode(url.toFullString()) below /dubbo/<interface>/providers."""
KAFKA = (
    "1",
    (
        b'{"version":5,"host":"localhost","port":9092,"jmx_port":9999,"timestamp":"2233345666",'
        b'"endpoints":["PLAINTEXT://localhost:9092","SSL://localhost:9093"],'
        b'"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT","SSL":"SSL"},"rack":"dc1"}'
    ),
)
"""BrokerIdZNode in Kafka's core/src/main/scala/kafka/zk/ZkData.scala, below /brokers/ids."""
KAFKA_WITHOUT_PLAINTEXT = (
    "2",
    (
        b'{"version":5,"host":null,"port":-1,"jmx_port":-1,"timestamp":"2233345666","endpoints":["SASL_SSL://kafka2.example.com:9094"],'
        b'"listener_security_protocol_map":{"SASL_SSL":"SASL_SSL"},"rack":"dc1"}'
    ),
)
"""The same where there is no listener of that name: host is null and port is -1."""
HBASE = ("www.example.org,1234,1212121212", b"\xff\x00\x00\x00\x12regionserver:16020PBUF")
"""ServerName of hbase-common: hostname, port, startcode; below /hbase/rs, with protobuf for data."""
SOLR = ("192.168.1.123:8080_solr", b"")
"""ZkController.generateNodeName of Solr: host, port, and the URL-encoded context; below /live_nodes."""
HIVESERVER2 = ("serverUri=x1:10000;version=2.3.2;sequence=0000000792", b"hive.server2.instance.uri=x1:10000")
"""HiveServer2's addServerInstanceToZooKeeper (HIVE-7935), below /hiveserver2."""
CLICKHOUSE = (
    "8b2f0c3a-6c1f-4d5e-9a1b-0c2d3e4f5a6b",
    b'{"version":1,"address":"ch1.example.com:9000","shard_id":1}',
)
"""ClusterDiscovery::NodeInfo::serialize of ClickHouse, below <path>/shards."""

AS_WRITTEN = [
    ("seed", SEED, "127.0.0.1", 9099),
    ("host_port", HOST_PORT, "app.example.com", 12345),
    ("nerve", NERVE, "10.0.0.3", 8080),
    ("nerve", NERVE_BASE64, "10.0.0.4", 8081),
    ("serverset", SERVERSET, "asdf-laptop", 4794),
    ("curator", CURATOR, "10.20.30.40", 1234),
    ("curator", SPRING_CLOUD, "10.0.0.21", 8443),
    ("curator", DUBBO_3, "192.168.1.9", 20880),
    ("dubbo", DUBBO_2, "192.168.1.7", 20880),
    ("kafka", KAFKA, "localhost", 9092),
    ("kafka", KAFKA_WITHOUT_PLAINTEXT, "kafka2.example.com", 9094),
    ("hbase", HBASE, "www.example.org", 1234),
    ("solr", SOLR, "192.168.1.123", 8080),
    ("hiveserver2", HIVESERVER2, "x1", 10000),
    ("clickhouse", CLICKHOUSE, "ch1.example.com", 9000),
]


@pytest.mark.parametrize(("registry_format", "child", "address", "port"), AS_WRITTEN)
def test_a_child_is_read_as_its_software_writes_it(
    registry_format: str, child: tuple[str, bytes], address: str, port: int
) -> None:
    found = read(registry_format, *child)
    assert (found.address, found.port, found.alive) == (address, port, True)


@pytest.mark.parametrize(("registry_format", "child", "_address", "_port"), AS_WRITTEN)
def test_auto_reads_each_format_as_if_it_were_named(
    registry_format: str, child: tuple[str, bytes], _address: str, _port: int
) -> None:
    assert read("auto", *child) == read(registry_format, *child)


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
def test_the_rest_of_what_a_child_says_is_kept_as_its_data(child: tuple[str, bytes], data: Any) -> None:
    assert read("auto", *child).data == data


def test_the_parameters_of_a_dubbo_provider_are_decoded() -> None:
    found = read("dubbo", *DUBBO_2).data
    assert found["path"] == "org.apache.dubbo.demo.DemoService"
    assert found["parameters"]["methods"] == "sayHello,sayHelloAsync"


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
    ],
)
def test_an_unusual_but_sound_entry_is_read(
    registry_format: str, name: str, data: bytes, address: str, port: int | None
) -> None:
    found = read(registry_format, name, data)
    assert (found.address, found.port) == (address, port)


@pytest.mark.parametrize(
    ("registry_format", "name", "data", "why"),
    [
        ("seed", "a", b"", "no JSON"),
        ("seed", "a", b'["", "80"]', "host name"),
        ("seed", "a", b'["a", "80", "x"]', "address"),
        ("seed", "a", b'["a", "http"]', "port from 0 to 65535"),
        ("seed", "a", b'["a", 70000]', "70000"),
        ("seed", "a", b'["a", true]', "true"),
        ("seed", "a", b'["-oProxyCommand=touch /tmp/x", "22"]', "no host name"),
        ("seed", "a", b'["a b", "22"]', "no host name"),
        ("seed", "a", b'["{{ 1 }}", "22"]', "no host name"),
        ("seed", "a", b'["a\\nb", "22"]', "no host name"),
        ("seed", "a", b"[" * 40 + b"]" * 40, "deeper"),
        ("curator", "a", b'{"name":"n","address":"a","port":1,"payload":' + b"[" * 40 + b"]" * 40 + b"}", "deeper"),
        ("nerve", "a", b'{"host":"a","port":1,"name":"\\ud800"}', "surrogate"),
        ("nerve", "a", b'{"host":"a","port":1,"weight":NaN}', "NaN"),
        ("nerve", "a", b"[" * 100_000, "no JSON"),
        ("nerve", "a", b'{"port": 1}', "host name"),
        ("nerve", "a", b'"text"', "JSON object"),
        ("serverset", "a", b'{"serviceEndpoint": 1}', "serviceEndpoint"),
        ("kafka", "1", b'{"host":null,"port":-1,"endpoints":[]}', "endpoints"),
        ("kafka", "1", b'{"host":null,"port":-1,"endpoints":["PLAINTEXT://:9092"]}', "no host name"),
        ("hbase", "a,b,c", b"", "startcode"),
        ("hbase", "a,99999,1", b"", "99999"),
        ("solr", "solr", b"", "context"),
        ("hiveserver2", "x", b"", "serverUri"),
        ("clickhouse", "x", b'{"address": 1}', "address"),
        ("dubbo", "dubbo%3A%2F%2F10.0.0.1%3A99999%2Fs", b"", "provider URL"),
        ("dubbo", "x", b"", "provider URL"),
        ("host_port", ":8080", b"", "no host name"),
        ("auto", "web1", b"", "set the registry's format"),
        ("auto", "web1", b"10.0.0.1", "set the registry's format"),
        ("auto", "member_1", b'{"some": "thing"}', "set the registry's format"),
    ],
)
def test_an_entry_that_is_none_is_refused_with_the_reason(
    registry_format: str, name: str, data: bytes, why: str
) -> None:
    with pytest.raises(InvalidEntry, match=why) as refused:
        read(registry_format, name, data)
    assert "\n" not in str(refused.value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["10.0.0.1", "a:80", "80", "[::1]:1"])
)
keys = st.text() | st.sampled_from(
    ["host", "port", "address", "name", "serviceEndpoint", "endpoints", "enabled", "shard_id", "sslPort"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6), max_leaves=12
)
names = (
    st.text(min_size=1, max_size=60)
    | st.sampled_from([child[0] for _format, child, _data, _expected in AS_WRITTEN])
    | st.from_regex(r"[a-z0-9%:,;=_\[\]]+", fullmatch=True)
)
contents = values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@given(st.sampled_from(sorted(FORMATS)), names, contents)
@example("dubbo", "x://[", b"")
@example("dubbo", "a%3A%2F%2Fb%ff", b"")
@example("kafka", "1", b'{"host": null, "endpoints": [[]]}')
def test_whatever_stands_there_it_is_a_sound_service_or_refused(registry_format: str, name: str, data: bytes) -> None:
    try:
        found = read(registry_format, name, data)
    except InvalidEntry:
        return
    assert isinstance(found, Service)
    assert found.address
    assert not set(found.address) & set(" \n\t/\\'\"{}()[]$`;&|<>,=")
    assert not found.address.startswith(("-", "."))
    assert found.port is None or 0 <= found.port <= 65535
    json.dumps(found.data, allow_nan=False).encode()
    json.dumps(found.data, allow_nan=False, ensure_ascii=False).encode()


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
