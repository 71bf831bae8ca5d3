"""Real Patroni clusters in the inventory: leaders, replicas, and the addresses of PostgreSQL and the REST API."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from support.ensemble import Ensemble
from support.inventory import EXAMPLES, Inventory
from support.patroni import PatroniMember, lacking
from support.waiting import wait_for

REASON = lacking()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
Runs = Callable[[str, str, set[str]], None]


@pytest.fixture
def runs(zk: KazooClient, app: str) -> Runs:
    """Waits until a member of a cluster reports that it is running in one of these roles."""

    def said(scope: str, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(zk.get(f"{app}/service/{scope}/members/{name}")[0]))
        except NoNodeError:
            return {}

    def wait(scope: str, name: str, roles: set[str]) -> None:
        def is_so() -> bool:
            member = said(scope, name)
            return member.get("state") == "running" and member.get("role") in roles

        wait_for(is_so, f"{name} runs as {roles}", 60)

    return wait


@pytest.fixture
def start(open_path: Path, ensemble: Ensemble, app: str) -> Iterator[Callable[..., PatroniMember]]:
    """Starts members of clusters with the parameters of `PatroniMember`. All end with the test."""
    made: list[PatroniMember] = []

    def start_one(scope: str, name: str, standby_of: int = 0) -> PatroniMember:
        made.append(PatroniMember(open_path, ensemble.hosts, f"{app}/service", scope, name, standby_of))
        return made[-1].start()

    yield start_one
    for member in made:
        member.end()


def test_the_members_of_clusters_are_hosts_by_role_and_state_and_a_switchover_is_seen(
    tmp_path: Path, ensemble: Ensemble, app: str, start: Callable[..., PatroniMember], runs: Runs
) -> None:
    first = start("main", "pg1")
    runs("main", "pg1", {"master", "primary"})
    second, third = start("main", "pg2"), start("dr", "pg3", standby_of=first.port)
    runs("main", "pg2", {"replica"})
    runs("dr", "pg3", {"standby_leader"})

    inventory = Inventory(tmp_path, f"{ensemble.hosts}{app}")
    example = yaml.safe_load((EXAMPLES / "patroni.zk_services.yml").read_text())
    options = {**example, **inventory.options, **inventory.cached}
    found = inventory.read(**options)
    assert found.said == ""
    assert (found.groups["pg_main"], found.groups["pg_dr"]) == ({"pg1", "pg2"}, {"pg3"})
    roles = {name: found.groups.get(f"role_{name}") for name in ("leader", "standby_leader", "replica")}
    assert roles == {"leader": {"pg1"}, "standby_leader": {"pg3"}, "replica": {"pg2"}}
    assert found.groups["state_running"] == {"pg1", "pg2", "pg3"}
    for member in (first, second, third):
        host = found.hosts[member.name]
        assert (host["zk_address"], host["zk_port"]) == ("127.0.0.1", member.port)
        assert host["patroni_api"] == f"http://127.0.0.1:{member.api_port}/patroni"
    assert found.hosts["pg1"]["zk_service"]["role"] in {"master", "primary"}

    request = urllib.request.Request(
        f"http://127.0.0.1:{first.api_port}/switchover", json.dumps({"leader": "pg1", "candidate": "pg2"}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert b"pg2" in answer.read()
    changed = inventory.read(**options)
    assert (changed.groups["role_leader"], changed.hosts["pg1"]["zk_role"]) == ({"pg2"}, "replica")
