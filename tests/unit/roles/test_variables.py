"""The variables of each role: its argument specification, its defaults and the table of its README agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.role_tables import ROLES, options, with_table

ROOT = Path(__file__).resolve().parents[3]
ROW = re.compile(r"^\| `(\w+)` \| (.*) \|$", re.MULTILINE)


def test_the_roles_are_found() -> None:
    assert ROLES == ["git_hook", "loadbalancer", "watcher", "zookeeper"]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_depends_on_the_one_that_checks_its_variables(role: str) -> None:
    meta = yaml.safe_load((ROOT / "roles" / role / "meta" / "main.yml").read_text())
    assert meta["dependencies"] == [{"role": "zoo.deploy.role_variables", "vars": {"role_variables_of": role}}]


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_specification(role: str) -> None:
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    # The documentation accepts no template as the default of a bool, so its description has the default.
    computed = {name for name in defaults.keys() - specified.keys() if "{{" in str(defaults[name])}
    assert {options(role)[name]["type"] for name in computed} <= {"bool"}
    assert defaults == {**specified, **{name: defaults[name] for name in computed}}


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_begins_with_the_name_of_its_role(role: str) -> None:
    internal = yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text())
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []
    assert [name for name in internal if not name.startswith(f"_{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_lists_every_variable_with_its_default(role: str) -> None:
    rows = dict(ROW.findall((ROOT / "roles" / role / "README.md").read_text()))
    assert set(rows) >= set(options(role))
    assert {name for name in rows if name.startswith(f"{role}_")} == set(options(role))
    for name, option in options(role).items():
        default = option.get("default")
        if default not in (None, "") and "{{" not in str(default):
            cell = re.match("`([^`]*)`", rows[name])
            assert cell, f"{name}: {rows[name]}"
            assert yaml.safe_load(cell[1]) == default


@pytest.mark.parametrize("role", ROLES)
def test_the_table_of_the_readme_is_made_from_the_specification(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert readme == with_table(role, readme), "PYTHONPATH=tests uv run python -m support.role_tables"
