"""The linters and the type checker, each counted as one test."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from suites.outcome import ROOT, Outcome
from suites.tool import run_tool

CODE = ["plugins", "extensions", "roles/watcher/files", "roles/git_hook/files", "roles/zookeeper/files"]
"""The code that runs on other people's Python."""

SHELL = re.compile(rb"\A#!.*\b(?:ba|da)?sh$|^# shellcheck shell=", re.MULTILINE)
"""Matches in the first lines of a shell script."""

LINTERS = {
    "ruff check": ["ruff", "check"],
    "ruff format": ["ruff", "format", "--check"],
    "vermin": ["vermin", "--target=3.9-", "--violations", "--no-tips", *CODE],
    "mypy, collection": [
        "mypy",
        *("-p", "ansible_collections.zoo.deploy.plugins"),
        *("-p", "ansible_collections.zoo.deploy.extensions"),
        *("-p", "zoo_watcher"),
        *("-p", "zoo_git_hook"),
    ],
    "mypy, tests": ["mypy", "tests"],
    "ansible-lint": ["env", "ANSIBLE_COLLECTIONS_PATH=collections", "ansible-lint", "--nocolor"],
    "antsibull-docs": ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", "."],
    "antsibull-changelog": ["antsibull-changelog", "lint"],
    "documentation": ["python", "docs/site/build.py"],
    "reuse": ["reuse", "lint", "--lines"],
}


def run(words: list[str]) -> Outcome:
    """Run every linter, or those whose name contains one of `words`; all of them run, whatever fails."""
    linters = {**LINTERS, "shellcheck": ["shellcheck", *shell_scripts(tracked())]}
    chosen = [name for name in linters if not words or any(word in name for word in words)]
    return sum((_lint(name, linters[name]) for name in chosen), Outcome())


def tracked() -> list[Path]:
    """The files that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def shell_scripts(files: list[Path]) -> list[str]:
    """The shell scripts among the files, whatever their names. A template is not one before it is rendered."""
    return [str(path) for path in files if path.is_file() and path.suffix != ".j2" and _is_shell(path)]


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return SHELL.search(file.read(400)) is not None


def _lint(name: str, command: list[str]) -> Outcome:
    print(f"--- {name}", flush=True)
    return Outcome(passed=1) if run_tool(command) == 0 else Outcome(failed=1)
