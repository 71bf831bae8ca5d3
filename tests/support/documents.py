"""The pages of the documentation and their fenced blocks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),  # generated from the fragments
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("extensions/**/README.md"),
        *ROOT.glob("playbooks/*.md"),
        *ROOT.glob("roles/*/README.md"),
        *ROOT.glob("tests/**/README.md"),
        *ROOT.glob(".github/**/*.md"),
    ]
)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language in a document."""
    return [body for found, body in FENCED.findall(path.read_text(encoding="utf-8")) if found == language]
