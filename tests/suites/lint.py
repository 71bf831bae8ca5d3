"""The linters and the type checker, each counted as one test."""

from __future__ import annotations

from suites.outcome import Outcome
from suites.tool import run_tool

CODE = ["plugins", "extensions", "roles/watcher/files", "roles/git_hook/files", "roles/zookeeper/files"]
"""What runs on other people's Python."""

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
    "documentation": ["python", "docs/site/build.py"],
    "shellcheck": ["sh", "-c", "git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck"],
}


def run(words: list[str]) -> Outcome:
    """Run every linter, or those whose name contains one of `words`; all of them run, whatever fails."""
    chosen = [name for name in LINTERS if not words or any(word in name for word in words)]
    return sum((_lint(name) for name in chosen), Outcome())


def _lint(name: str) -> Outcome:
    print(f"--- {name}", flush=True)
    return Outcome(passed=1) if run_tool(LINTERS[name]) == 0 else Outcome(failed=1)
