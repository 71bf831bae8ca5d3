"""The long-running gates: their names, their environments, and the results that are kept."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from suites import environments, gates
from suites.environments import UnavailableError, candidates, environment, release_of
from suites.gates import CORES, KAZOOS, PYTHONS, Record, complaints, table
from suites.lint import shell_scripts
from suites.outcome import ROOT, Outcome


def test_every_gate_has_a_name_of_its_own() -> None:
    names = [name for name, _check in gates.gates()]
    assert len(names) == len(set(names))


def test_the_oldest_ansible_core_of_the_gates_is_the_one_that_is_required() -> None:
    required = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert required == f">={min(CORES, key=release_of)}.0"


def test_the_oldest_python_and_kazoo_of_the_gates_are_those_that_the_agent_requires() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert f'requires-python = ">={PYTHONS[0]}"' in project
    assert f'dependencies = ["kazoo>={KAZOOS[0]},<3"]' in project


def test_of_the_pythons_that_pyenv_has_the_newest_comes_first(tmp_path: Path) -> None:
    for version in ("3.9.2", "3.9.18", "3.13.0"):
        program = tmp_path / "versions" / version / "bin" / f"python{version.rpartition('.')[0]}"
        program.parent.mkdir(parents=True)
        program.touch()
    found = [Path(path).parts[-3] for path in candidates("3.9", tmp_path) if path.startswith(str(tmp_path))]
    assert found == ["3.9.18", "3.9.2"]


def test_a_missing_python_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"there is no Python 3\.1 on PATH"):
        environments.interpreter("3.1")


def test_an_environment_for_other_requirements_is_recreated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[list[str]] = []

    def uv(command: list[str], **_options: object) -> None:
        made.append(command)
        (tmp_path / "one").mkdir(exist_ok=True)

    monkeypatch.setattr(environments, "PLACE", tmp_path)
    monkeypatch.setattr(environments, "interpreter", lambda version: f"python{version}")
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", uv)
    for requirement in ("kazoo==2.9.*", "kazoo==2.9.*", "kazoo==2.10.*"):
        assert environment("one", "3.9", requirement) == tmp_path / "one" / "bin"
    assert [command[-1] for command in made if command[1] == "pip"] == ["kazoo==2.9.*", "kazoo==2.10.*"]


def test_a_gate_without_its_interpreter_is_skipped_and_one_whose_tool_fails_has_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unavailable() -> Outcome:
        raise UnavailableError

    def failing() -> Outcome:
        raise subprocess.CalledProcessError(2, ["uv"])

    checks = {"a": unavailable, "b": failing, "c": lambda: Outcome(passed=4, skipped=1), "d": Outcome}
    monkeypatch.setattr(gates, "RESULTS", tmp_path)
    monkeypatch.setattr(gates, "gates", lambda: iter(checks.items()))
    assert gates.run([]) == Outcome(passed=1, failed=2, skipped=1)
    rows = (tmp_path / "gates.md").read_text().splitlines()[2:]
    assert [re.split(r" \| ", row)[:3] for row in rows] == [
        ["| b", "1 failed", "0"],
        ["| c", "passed", "4"],
        ["| d", "nothing was run", "0"],
    ]


def test_the_results_of_other_gates_stay_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checks = {"first": lambda: Outcome(passed=1), "second": lambda: Outcome(passed=2)}
    monkeypatch.setattr(gates, "RESULTS", tmp_path)
    monkeypatch.setattr(gates, "gates", lambda: iter(checks.items()))
    gates.run(["second"])
    gates.run(["first"])
    assert re.findall(r"^\| (first|second) \| passed", (tmp_path / "gates.md").read_text(), re.MULTILINE) == list(
        checks
    )


def test_the_table_says_what_was_run_when() -> None:
    last = table({"sanity": Record("passed", 39, 210, "2026-11-30")}).splitlines()[-1]
    assert last == "| sanity | passed | 39 | 210 | 2026-11-30 |"


def test_a_warning_of_the_importer_is_a_complaint() -> None:
    assert complaints("Loading role watcher\nWARNING: no changelog\nERROR: x\nno WARNING here\n") == [
        "WARNING: no changelog",
        "ERROR: x",
    ]


@pytest.mark.parametrize(
    ("name", "text", "is_script"),
    [
        ("run", "#!/usr/bin/env bash\n", True),
        ("run.sh", "#!/bin/sh\nset -e\n", True),
        ("completion", "# Copyright\n# shellcheck shell=bash\n", True),
        ("run.py", "#!/usr/bin/env python\nbash\n", False),
        ("hook.j2", "#!/bin/sh\n{% if x %}\n", False),
        ("page.md", "Write `#!/bin/sh`\n", False),
        ("program.py", '"""Text."""\nSCRIPT = """\\\n#!/bin/sh\n"""\n', False),
    ],
)
def test_a_shell_script_is_known_by_its_first_lines(tmp_path: Path, name: str, text: str, is_script: bool) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert shell_scripts([path]) == [str(path)] * is_script
