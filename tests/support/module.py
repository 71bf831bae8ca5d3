"""A module in a process of its own, as Ansible starts it on a host, but without a playbook."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.interpreter import PYTHON
from support.playbook import ROOT
from support.repository import GitRepository


class Crashed(Exception):
    """The standard error of a module that ended with a traceback, including the lines of its threads."""


def run_module(file: Path, *, check: bool = False, before: Path | None = None, **options: Any) -> dict[str, Any]:
    """The result of the module in `file` for `options`, with `failed` if it refuses them. Raises `Crashed`.

    The directory `before` comes first in Python's path.
    """
    given = {"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check}}
    done = subprocess.run(
        [PYTHON, str(file)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                filter(None, map(str, [before or "", ROOT / "collections", os.environ.get("PYTHONPATH", "")]))
            ),
        },
        timeout=60,
    )
    if not done.stdout.strip():
        raise Crashed(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    answer.pop("invocation", None)
    return answer


def deploy_main(hosts: str, app: str, repository: GitRepository) -> None:
    """Deploy the branch main of a repository to the live agents of an application, as their first release."""
    release: dict[str, Any] = {"url": repository.url, "ref": "main", "relative_path": "site"}
    done = run_module(ROOT / "plugins/modules/zk_release.py", hosts=hosts, app=app, **release)
    assert done.get("converged"), done
