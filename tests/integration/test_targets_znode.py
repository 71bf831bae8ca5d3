"""The integration targets of the znode plugins, run through `ansible-playbook` against the tests' own ensemble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook

TARGETS = ROOT / "tests" / "integration" / "targets"


@pytest.mark.parametrize("target", ["zk_znode", "zk_znode_info", "lookup_zk_znode"])
def test_every_task_of_the_target_does_what_it_says(ensemble: Ensemble, tmp_path: Path, target: str) -> None:
    role = {"name": "Run the target as a role", "ansible.builtin.import_role": {"name": str(TARGETS / target)}}
    play = {"hosts": "localhost", "gather_facts": False, "vars": {"zk_hosts": ensemble.hosts}, "tasks": [role]}
    playbook = tmp_path / "target.yml"
    playbook.write_text(json.dumps([play]))
    done = run_playbook(playbook)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
