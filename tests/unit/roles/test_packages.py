"""Which Python packages a role installs for a SASL mechanism."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.inventory import run

ROLES = Path(__file__).resolve().parents[3] / "roles"
PLACES = {"watcher": "_watcher_install_order", "git_hook": "_git_hook_order"}


def packages(role: str, mechanism: str) -> list[str]:
    """The packages that the role has pip install for a mechanism, besides those that it always installs."""
    defaults, variables = (ROLES / role / place / "main.yml" for place in ("defaults", "vars"))
    given = {f"{role}_sasl_mechanism": mechanism}
    show = ["localhost", "--module-name", "debug", "--args", f"msg={{{{ {PLACES[role]}.packages }}}}"]
    done = run("ansible", *show, "-e", f"@{defaults}", "-e", f"@{variables}", "-e", json.dumps(given))
    ordered = json.loads(done.stdout.partition("=>")[2])["msg"]
    always = yaml.safe_load(defaults.read_text())[f"{role}_packages"]
    return [package for package in ordered if package not in always]


@pytest.mark.parametrize("role", PLACES)
def test_each_mechanism_brings_its_libraries(role: str) -> None:
    assert packages(role, "DIGEST-MD5") == ["pure-sasl>=0.6"]
    assert packages(role, "GSSAPI") == ["pure-sasl>=0.6", "kerberos>=1.3"]
