"""The table of options in the reference of the event source, generated from its documentation.

`PYTHONPATH=tests uv run python -m support.source_table` rewrites it.
"""

from __future__ import annotations

import re
import runpy
from typing import Any

import yaml

from support.documents import ROOT
from support.role_tables import row

FILE = ROOT / "extensions" / "eda" / "plugins" / "event_source" / "zk_watch.py"
PAGE = ROOT / "extensions" / "eda" / "README.md"
HEAD = "| Option | Default | Type | What it is |\n|---|---|---|---|\n"
ROWS = re.compile(r"^\| Option \| Default \|.*\n\|[-|]+\|\n(?:\|.*\n)*", re.MULTILINE)


def documented() -> dict[str, Any]:
    """The documentation in the event source's file: its `options`, and `examples`, a string."""
    source = runpy.run_path(str(FILE))
    examples = str(source["EXAMPLES"]).strip()
    return {"options": yaml.safe_load(source["DOCUMENTATION"])["options"], "examples": examples}


def with_table(page: str) -> str:
    """The page with its table regenerated."""
    options = documented()["options"]
    table = "".join(row(name, option, _text(option["description"])) for name, option in options.items())
    return ROWS.sub(lambda _old: HEAD + table, page)


def _text(description: str | list[str]) -> str:
    return description if isinstance(description, str) else " ".join(description)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
