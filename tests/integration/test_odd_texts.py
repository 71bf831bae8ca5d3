"""Znodes may hold JSON that Ansible accepts from no module, and tasks that read it still return their result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import TOO_DEEP
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from support.ensemble import Ensemble
from support.inventory import Inventory, run
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository
from support.tasks import run_tasks

HALF = {"odd": "a\ud800b", "\udfff": 1}
DEEP = json.loads("[" * 600 + "]" * 600)
COMMIT = "9" * 40
RELEASE = {"url": "https://example.org/x.git", "commitId": COMMIT, "relativePath": "site"}


@pytest.mark.parametrize("odd", [HALF, {"odd": DEEP}], ids=["half a character", "nested deeply"])
def test_json_that_ansible_accepts_from_no_module_keeps_no_task_from_its_result(
    zk: KazooClient, ensemble: Ensemble, app: str, tmp_path: Path, odd: dict[str, Any]
) -> None:
    paths = AppPaths(app)
    written = {
        f"{app}/value": odd,
        paths.config: {**RELEASE, **odd},
        f"{paths.history_prefix}0000000001": {**RELEASE, **odd},
        paths.agent("web1"): {"state": "active", "troubles": ["x\ud800"], **odd},
    }
    for path, value in written.items():
        zk.create(path, json.dumps(value).encode(), makepath=True)
    common = {"hosts": ensemble.hosts}
    run = run_tasks(
        tmp_path,
        [
            {"register": "read", "zoo.deploy.zk_znode_info": {**common, "path": f"{app}/value"}},
            {"register": "set", "zoo.deploy.zk_znode": {**common, "path": f"{app}/value", "value": {"a": 1}}},
            {"register": "published", "zoo.deploy.zk_release_info": {**common, "app": app}},
            {"register": "fleet", "zoo.deploy.zk_fleet_info": {**common, "app": app}},
        ],
        "--diff",
    )
    assert [name for name, result in run.results.items() if result.get("failed")] == [], run.output
    assert ("a\\ud800b" if odd is HALF else TOO_DEEP) in str(run["read"]["json"]["odd"])
    assert run["set"]["changed"]
    assert run["published"]["release"]["commitId"] == COMMIT
    assert run["fleet"]["agents"][0]["troubles"] == ["x\\ud800"]


EVIL = "\x1b[2J\u202ered"
NAME = "web\u202e1"
"""A name that ZooKeeper accepts for a znode, as it does not with a control character."""


def test_nothing_that_others_have_written_affects_the_readers_terminal(
    zk: KazooClient, ensemble: Ensemble, app: str, tmp_path: Path, repository: GitRepository
) -> None:
    paths = AppPaths(app)
    release = {**RELEASE, "url": "https://example.org/\u202ex.git", "publisher": EVIL, "ref": EVIL}
    status = {"state": "fetching", "generation": 1, "message": EVIL, "commitId": EVIL, "troubles": [EVIL]}
    held = {"since": EVIL, "by": EVIL, "reason": EVIL}
    lock = {"by": EVIL, "since": EVIL, "reason": EVIL}
    written = {
        paths.config: release,
        f"{paths.history_prefix}0000000000": release,
        paths.agent(NAME): {**status, "held": held, "drained": held},
        paths.agent("web2"): {**status, "state": "failed"},
        paths.roster_entry("gone\u202e"): {},
        paths.lock: lock,
        f"{app}/registry/{NAME}": EVIL,
        f"{app}/registry/web2:80": EVIL,
    }
    for path, value in written.items():
        zk.create(path, json.dumps(value).encode(), makepath=True)
    given = {"zoo_hosts": ensemble.hosts, "zoo_app": app}
    new = {"zoo_url": repository.url, "zoo_ref": "main", "zoo_relative_path": "site", "zoo_force": True}
    outputs = [
        run_playbook(ROOT / "playbooks" / name, *words, "-e", json.dumps({**given, **more}))
        for name, words, more in (
            ("status.yml", (), {}),
            ("deploy.yml", ("--check", "--diff"), new),
            ("deploy.yml", (), {**new, "zoo_wait_timeout": 1}),
            ("unlock.yml", (), {"zoo_force": True}),
        )
    ]
    inventory = Inventory(tmp_path, ensemble.hosts)
    options = {"registries": [f"{app}/registry"], "strict": True}
    outputs += [
        run("ansible-inventory", "-i", str(inventory.file(**options, **more)), "--graph")
        for more in ({}, {"filters": ["lookup('ansible.builtin.file', zk_service)"]})
    ]
    assert [done.returncode for done in outputs] == [2, 0, 2, 0, 0, 0]
    for done in outputs:
        odd = {letter for letter in done.stdout + done.stderr if not letter.isprintable() and letter != "\n"}
        assert not odd, (done.args, done.stdout, done.stderr)
