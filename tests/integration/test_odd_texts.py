"""What others have written may be JSON that Ansible takes from no module: the tasks that read it return it so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import TOO_DEEP
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from support.ensemble import Ensemble
from support.tasks import run_tasks

HALF = {"odd": "a\ud800b", "\udfff": 1}
DEEP = json.loads("[" * 600 + "]" * 600)
COMMIT = "9" * 40
RELEASE = {"url": "https://example.org/x.git", "commitId": COMMIT, "relativePath": "site"}


@pytest.mark.parametrize("odd", [HALF, {"odd": DEEP}], ids=["half a character", "nested deeply"])
def test_what_ansible_takes_from_no_module_keeps_no_task_from_its_result(
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
