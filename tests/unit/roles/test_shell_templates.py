"""The shell scripts that roles render from templates pass shellcheck like those in the repository."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from support.playbook import ROOT

HOOK = {
    "_git_hook_mark": "Written by zoo.deploy",
    "_git_hook_command": ["/opt/it's here/python", "-I", "-m", "zoo_git_hook"],
    "_git_hook_config_file": "/etc/zoo deploy/hook.json",
}
WATCHER = {
    "ansible_managed": "Ansible managed",
    "watcher_install_dir": "/opt/it's here",
    "watcher_config_dir": "/etc/zoo deploy",
}
SCRIPTS = [
    ("git_hook/templates/hook.j2", {**HOOK, "_git_hook_name": "post-receive"}),
    ("git_hook/templates/hook.j2", {**HOOK, "_git_hook_name": "pre-receive"}),
    ("git_hook/templates/zoo-deploy.j2", {**HOOK, "_git_hook_name": "post-receive"}),
    ("git_hook/templates/zoo-deploy.j2", {**HOOK, "_git_hook_name": "pre-receive"}),
    ("watcher/templates/zoo-watcher.j2", WATCHER),
]


def test_every_shell_script_among_the_templates_is_checked() -> None:
    scripts = (path for path in ROOT.glob("roles/*/templates/*.j2") if path.read_text().startswith("#!/bin/sh\n"))
    assert {str(path.relative_to(ROOT / "roles")) for path in scripts} == {name for name, _variables in SCRIPTS}


@pytest.mark.parametrize(("name", "variables"), SCRIPTS)
def test_shellcheck_accepts_a_rendered_script(name: str, variables: dict[str, object]) -> None:
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters["quote"] = shlex.quote
    script = environment.from_string((ROOT / "roles" / name).read_text()).render(variables)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("shellcheck")), "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
