"""A function fits on a screen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES = 45
SOURCES = [
    path.relative_to(ROOT)
    for directory in ("extensions", "playbooks", "plugins", "roles", "tests")
    for path in sorted((ROOT / directory).rglob("*.py"))
]


@pytest.mark.parametrize("directory", sorted({path.parts[0] for path in SOURCES}))
def test_no_function_is_longer_than_a_screen(directory: str) -> None:
    long = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        if path.parts[0] == directory
        for node in ast.walk(ast.parse((ROOT / path).read_bytes()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
        if node.end_lineno - node.lineno >= LINES
    }
    assert long == {}
