"""The children of registries, as the software of each format writes them. Add an entry here for a new format."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

SEED = ("s9099", b'["127.0.0.1", "9099"]')
"""The article's own client: `json.dumps((os.environ["URL"], os.environ["PORT"]))` below /service/business/what."""
HOST_PORT = ("app.example.com:12345", b"")
"""The name that many custom clients write, with arbitrary data."""
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
CURATOR_WITHOUT_ENABLED = (
    "p1",
    (
        b'{"name":"payments","id":"p1","address":"192.0.2.8","port":8443,"sslPort":null,"payload":"From Curator",'
        b'"registrationTimeUTC":1795902988370,"serviceType":"DYNAMIC","uriSpec":null}'
    ),
)
"""Written by ServiceDiscovery of Debian's Curator 5.4.0; by default it has no `enabled`."""
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
"""Dubbo 3's application-level registration, below /services/<application>: CuratorFrameworkUtils.build."""
DUBBO_2 = (
    (
        "dubbo%3A%2F%2F192.168.1.7%3A20880%2Forg.apache.dubbo.demo.DemoService%3Fanyhost%3Dtrue%26application%3Ddemo-provider"
        "%26deprecated%3Dfalse%26dubbo%3D2.0.2%26dynamic%3Dtrue%26generic%3Dfalse%26interface%3Dorg.apache.dubbo.demo.DemoService"
        "%26methods%3DsayHello%2CsayHelloAsync%26pid%3D45271%26side%3Dprovider%26timestamp%3D1610262555945"
    ),
    b"192.168.1.7",
)
"""Dubbo 2's ZookeeperRegistry: URL.encode(url.toFullString()) below /dubbo/<interface>/providers."""
DUBBO_PYTHON = (
    "tri%3A%2F%2F127.0.0.11%3A30464%3Fservice%3Dorg.apache.dubbo.samples.Unary",
    b"127.0.0.11:30464",
)
"""Written there by Dubbo's client for Python (apache-dubbo 3.0.0b1): no path, the interface is a parameter."""
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
"""The same without a listener named PLAINTEXT: host is null and port is -1."""
KAFKA_LISTENERS = (
    "3",
    (
        b'{"version":5,"host":null,"port":-1,"jmx_port":-1,"timestamp":"2233345666",'
        b'"endpoints":["INTERNAL://10.0.0.7:9092","EXTERNAL://kafka3.example.com:19092","ADMIN://[2001:db8::7]:9093"],'
        b'"listener_security_protocol_map":{"INTERNAL":"PLAINTEXT","EXTERNAL":"SASL_SSL","ADMIN":"SASL_SSL"},"rack":"dc1"}'
    ),
)
"""The same with custom listener names (KIP-103)."""
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

PATRONI_LEADER = (
    "pg1",
    (
        b'{"conn_url":"postgres://127.0.0.11:5432/postgres","api_url":"http://127.0.0.11:8008/patroni","state":"running",'
        b'"role":"master","version":"3.0.2","xlog_location":83886080,"timeline":1}'
    ),
)
"""Written by Debian's Patroni 3.0.2 below /service/<scope>/members."""
PATRONI_REPLICA = (
    "pg2",
    (
        b'{"conn_url":"postgres://127.0.0.12:5432/postgres","api_url":"http://127.0.0.12:8008/patroni","state":"running",'
        b'"role":"replica","version":"3.0.2","xlog_location":83886080,"timeline":1}'
    ),
)
PATRONI_STANDBY_LEADER = (
    "pg3",
    (
        b'{"conn_url":"postgres://127.0.0.13:5432/postgres","api_url":"http://127.0.0.13:8008/patroni","state":"running",'
        b'"role":"standby_leader","version":"3.0.2","checkpoint_after_promote":false,"xlog_location":83886080,"timeline":1}'
    ),
)


class WrittenEntry(NamedTuple):
    """A child, its format, and the values that are read from it."""

    format: str
    child: tuple[str, bytes]
    address: str
    port: int
    example_name: str = ""

    @property
    def example(self) -> str:
        """The file of docs/examples/inventory that finds the child, without `.zk_services.yml`."""
        return self.example_name or self.format


AS_WRITTEN = [
    WrittenEntry("seed", SEED, "127.0.0.1", 9099),
    WrittenEntry("host_port", HOST_PORT, "app.example.com", 12345),
    WrittenEntry("nerve", NERVE, "10.0.0.3", 8080),
    WrittenEntry("nerve", NERVE_BASE64, "10.0.0.4", 8081),
    WrittenEntry("serverset", SERVERSET, "asdf-laptop", 4794),
    WrittenEntry("curator", CURATOR, "10.20.30.40", 1234),
    WrittenEntry("curator", CURATOR_WITHOUT_ENABLED, "192.0.2.8", 8443),
    WrittenEntry("curator", SPRING_CLOUD, "10.0.0.21", 8443, example_name="spring_cloud"),
    WrittenEntry("curator", DUBBO_3, "192.168.1.9", 20880, example_name="dubbo3"),
    WrittenEntry("dubbo", DUBBO_2, "192.168.1.7", 20880, example_name="dubbo2"),
    WrittenEntry("dubbo", DUBBO_PYTHON, "127.0.0.11", 30464, example_name="dubbo2"),
    WrittenEntry("kafka", KAFKA, "localhost", 9092),
    WrittenEntry("kafka", KAFKA_WITHOUT_PLAINTEXT, "kafka2.example.com", 9094),
    WrittenEntry("kafka", KAFKA_LISTENERS, "10.0.0.7", 9092),
    WrittenEntry("hbase", HBASE, "www.example.org", 1234),
    WrittenEntry("solr", SOLR, "192.168.1.123", 8080),
    WrittenEntry("hiveserver2", HIVESERVER2, "x1", 10000),
    WrittenEntry("clickhouse", CLICKHOUSE, "ch1.example.com", 9000),
    WrittenEntry("patroni", PATRONI_LEADER, "127.0.0.11", 5432),
    WrittenEntry("patroni", PATRONI_REPLICA, "127.0.0.12", 5432),
    WrittenEntry("patroni", PATRONI_STANDBY_LEADER, "127.0.0.13", 5432),
]
