"""One playbook and an inventory at a server that hangs up on unknown requests, as ClickHouse Keeper does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.inventory import Inventory
from support.keeper import MULTI_READ, Keeper
from support.playbook import Run, run_playbook
from support.repository import GitRepository


@pytest.fixture
def keeper(ensemble: Ensemble) -> Iterator[Keeper]:
    """Such a server."""
    made = Keeper(ensemble.members[0].client_port)
    yield made
    made.close()


def task(module: str, register: str = "", **options: Any) -> dict[str, Any]:
    """A task of a module, with its options and the name that it registers."""
    return {"name": module, f"zoo.deploy.{module}": options, "register": register or f"its_{module}"}


def of_a_release(site: str, repository: GitRepository) -> list[dict[str, Any]]:
    """Tasks that publish a release, are locked out, and roll out another one, which is halted and rolled back."""
    first, second = repository.head, repository.commit({"index.html": "second\n"})
    place = {"url": repository.url, "relative_path": "site"}
    release: dict[str, Any] = {"app": site, **place, "min_agents": 0, "wait_timeout": 30}
    plan = {"from": first, "steps": [{"hosts": 1}]}
    return [
        task("zk_release", **release, ref=first),
        task("zk_release_info", app=site),
        task("zk_fleet", app=site, names=["web1"]),
        task("zk_fleet_info", app=site),
        task("zk_lock", app=site, reason="migration", by="ann"),
        {**task("zk_release", "locked_out", **release, ref=second), "failed_when": "locked_out is not failed"},
        task("zk_lock", "unlocked", app=site, state="absent", by="ann"),
        task("zk_release", "rolled_out", **release, ref=second, rollout=plan, wait=False),
        task("zk_release", "halted", app=site, state="halted", reason="latency"),
        task("zk_release", "back", app=site, state="rolled_back", to=first, wait=False),
    ]


EXPECTED = [
    "its_zk_znode is changed",
    "its_zk_znode_info.descendants | selectattr('path', 'search', 'service/') | length == 2",
    "its_zk_release is changed",
    "its_zk_release_info.history | length == 1",
    "its_zk_release_info.generation == its_zk_release.generation",
    "its_zk_fleet_info.commit_id == its_zk_release.commit_id",
    "its_zk_fleet_info.missing_agents == ['web1']",
    "locked_out.msg is search('locked by ann since .*: migration; nothing is published')",
    "halted.rollout.phase == 'halted'",
    "back.commit_id == its_zk_release.commit_id != rolled_out.commit_id",
]


def test_modules_lookup_and_inventory_do_their_work(
    keeper: Keeper, zk: KazooClient, app: str, repository: GitRepository, tmp_path: Path
) -> None:
    zk.create(f"{app}/service/a", b'["10.0.0.1", "80"]', makepath=True)
    zk.create(f"{app}/service/b", b'["10.0.0.2", "80"]')
    found_by_lookup = f"lookup('zoo.deploy.zk_znode', '{app}/colour') == 'green'"
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"zk_hosts": keeper.hosts},
        "module_defaults": {"group/zoo.deploy.zookeeper": {"hosts": keeper.hosts}},
        "tasks": [
            task("zk_znode", path=f"{app}/colour", value="green"),
            task("zk_znode_info", path=app, depth=2),
            *of_a_release(f"{app}/site", repository),
            {"name": "Compare", "ansible.builtin.assert": {"that": [found_by_lookup, *EXPECTED]}},
        ],
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play]))
    run = Run.of(run_playbook(playbook))
    assert (run.changed, run.failed) == (8, 0), run.output
    found = Inventory(tmp_path, keeper.hosts).read(registries=[{"path": f"{app}/service"}], hostnames=["zk_address"])
    assert set(found.hosts) == {"10.0.0.1", "10.0.0.2"}, found.said
    assert MULTI_READ in keeper.hung_up_at
