"""The inventory files of docs/guides/inventory.md, with registries of the kinds that they are for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.inventory import ROOT, Inventory
from support.registry_entries import KAFKA_LISTENERS, PATRONI_LEADER, PATRONI_REPLICA, PATRONI_STANDBY_LEADER

GUIDE = ROOT / "docs" / "guides" / "inventory.md"
BLOCK = re.compile(r"^```yaml\n# (\w+)\.zk_services\.yml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(BLOCK.findall(GUIDE.read_text()))

REGISTERED = {
    "web": {"/service/business/what/web1": b'["10.0.0.11", "8080"]'},
    "solr": {
        "/live_nodes/solr1.example.com:8983_solr": b"",
        "/live_nodes/10.0.0.12:8983_solr": b"",
        "/live_nodes/[fd00::12]:8983_solr": b"",
    },
    "workers": {
        f"/nerve/services/workers/services/w_{port:010}": json.dumps({"host": "10.0.0.13", "port": port}).encode()
        for port in (8080, 8081)
    },
    "kafka": {f"/kafka/brokers/ids/{KAFKA_LISTENERS[0]}": KAFKA_LISTENERS[1]},
    "postgres": {
        **{f"/service/main/members/{name}": data for name, data in (PATRONI_LEADER, PATRONI_REPLICA)},
        "/service/main/leader": PATRONI_REPLICA[0].encode(),
        f"/service/dr/members/{PATRONI_STANDBY_LEADER[0]}": PATRONI_STANDBY_LEADER[1],
        "/service/dr/leader": PATRONI_STANDBY_LEADER[0].encode(),
    },
}
"""The registrations for each of the files."""
FOUND = {
    "web1": "web1.mgmt.example.com",
    "solr1": "solr1.example.com",
    "10.0.0.12": "10.0.0.12",
    "fd00::12": "fd00::12",
    "10.0.0.13:8080": "10.0.0.13",
    "10.0.0.13:8081": "10.0.0.13",
    "kafka3": "10.0.0.7",
    "pg1": "127.0.0.11",
    "pg2": "127.0.0.12",
    "pg3": "127.0.0.13",
}
"""The address to which Ansible connects, for each host."""


def test_the_files_of_the_guide_find_and_name_hosts_as_it_describes(
    ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    assert FILES.keys() == REGISTERED.keys()
    sources = tmp_path / "sources"
    sources.mkdir()
    for name, children in REGISTERED.items():
        for path, data in children.items():
            zk.create(f"{app}/{name}{path}", data, makepath=True)
        options = yaml.safe_load(FILES[name])
        chroot = options["hosts"].partition("/")[2]
        options["hosts"] = f"{ensemble.hosts}{app}/{name}/{chroot}".rstrip("/")
        (sources / f"{name}.zk_services.yml").write_text(yaml.safe_dump(options))
    found = Inventory(tmp_path, ensemble.hosts).read_files(sources)
    assert found.said == ""
    assert {name: variables["ansible_host"] for name, variables in found.hosts.items()} == FOUND
    assert found.hosts["web1"]["zk_address"] == "10.0.0.11"
    assert found.hosts["kafka3"]["for_clients"] == "kafka3.example.com:19092"
    assert found.groups["pg_main"] & found.groups["pg_replica"] & found.groups["pg_running"] == {"pg1"}
    assert (found.groups["pg_leader"], found.groups["pg_standby_leader"]) == ({"pg2"}, {"pg3"})
