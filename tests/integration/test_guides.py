"""The runs that docs/guides shows, with their output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from kazoo.client import KazooClient

from support.documents import ROOT, blocks
from support.ensemble import Ensemble
from support.playbook import Run, run_playbook

GUIDES = ROOT / "docs" / "guides"
HOSTS = "zk1:2181,zk2:2181,zk3:2181"
CONF = "/etc/nginx/conf.d/business.conf"
REGISTERED = {"web1": "10.0.0.11", "web2": "10.0.0.12", "web3": "10.0.0.13", "web4": "no-such-host.example"}


def test_the_load_balancer_prints_what_its_page_shows(
    ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path
) -> None:
    page = GUIDES / "loadbalancer.md"
    for name, address in REGISTERED.items():
        zk.create(f"{app}/service/{name}", json.dumps([address, "8080"]).encode(), makepath=True)
    text = blocks(page, "yaml")[0].replace(HOSTS, ensemble.hosts).replace("/service/business/what", f"{app}/service")
    inventory = tmp_path / "business.zk_services.yml"
    inventory.write_text(text)
    (tmp_path / "upstreams").mkdir()
    main = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ include {tmp_path}/upstreams/*; }}"
    (tmp_path / "nginx.conf").write_text(main)
    options = {
        "loadbalancer_group": "business",
        "loadbalancer_main_config": str(tmp_path / "nginx.conf"),
        "loadbalancer_file": str(tmp_path / "upstreams" / "business.conf"),
        "loadbalancer_reload_command": "true",
    }

    def run() -> str:
        words = ("-i", str(inventory), "--diff", "-e", json.dumps(options))
        return Run.of(run_playbook(ROOT / "playbooks" / "loadbalancer.yml", *words)).output

    first, second = run(), run()
    for name in ("web1", "web2"):
        zk.delete(f"{app}/service/{name}")
    said = run_playbook(ROOT / "playbooks" / "loadbalancer.yml", "-i", str(inventory), "-e", json.dumps(options))
    printed = f"{first}\n{second}\n{said.stdout}\n{said.stderr}".replace(options["loadbalancer_file"], CONF)
    printed = printed.replace(f"{app}/service", "/service/business/what")
    for shown in blocks(page, ""):
        for line in filter(None, map(str.strip, shown.splitlines())):
            assert line in printed, line


def test_the_tasks_of_the_migration_guide_run(ensemble: Ensemble, zk: KazooClient, app: str, tmp_path: Path) -> None:
    before_and_after, others = blocks(GUIDES / "migration.md", "yaml")
    zk.create(f"{app}/config/shop/ready", b"", makepath=True)
    tasks: list[dict[str, Any]] = [*yaml.safe_load(before_and_after)[1:], *yaml.safe_load(others)]
    play = json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]).replace(HOSTS, ensemble.hosts)
    (tmp_path / "play.yml").write_text(play.replace("/config/shop", f"{app}/config/shop"))
    done = Run.of(run_playbook(tmp_path / "play.yml"))
    assert (done.changed, done.failed) == (1, 0), done.output
    assert zk.get(f"{app}/config/shop/colour")[0] == b"green"
