"""The table of variables in each role's README, generated from its `meta/argument_specs.yml`.

`PYTHONPATH=tests uv run python -m support.role_tables` rewrites the tables. Existing cells of the column "Default" are
kept: they may state what the specification does not, such as the agent's own default.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from support.documents import ROOT

ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
HEAD = "| Variable | Default | Type | What it is |\n|---|---|---|---|\n"
ROWS = re.compile(r"^\| Variable \| Default \|.*\n\|[-|]+\|\n(?:\|.*\n)*", re.MULTILINE)
DEFAULT = re.compile(r"^\| `(\w+)` \| ([^|]*) \|", re.MULTILINE)
MARKUP = re.compile(r"\b[CEIMOPV]\(((?:[^()\\]|\\.|\([^)]*\))*)\)")


def options(role: str) -> dict[str, dict[str, Any]]:
    """The options of a role's argument specification."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return dict(specs["argument_specs"]["main"]["options"])


def with_table(role: str, readme: str) -> str:
    """A README with its table regenerated. Raises AssertionError if it has none."""
    rows = ROWS.search(readme)
    assert rows, f"the README of {role} has no table of variables"
    defaults = dict(DEFAULT.findall(rows[0]))
    table = "".join(
        row(name, option, _first_sentence(option["description"]), defaults.get(name))
        for name, option in options(role).items()
    )
    return readme[: rows.start()] + HEAD + table + readme[rows.end() :]


def row(name: str, option: dict[str, Any], text: str, default: str | None = None) -> str:
    """An option's row; its default is that of the specification unless one is given."""
    elements = option.get("elements", "raw")
    kind = option["type"] if elements == "raw" else f"{option['type']} of {elements}"
    return f"| `{name}` | {default or _default(option)} | {kind} | {as_markdown(text)} |\n"


def as_markdown(text: str) -> str:
    """Ansible's markup converted to Markdown, on one line of a table."""
    return MARKUP.sub(lambda match: f"`{match[1].partition('#')[0]}`", " ".join(text.split())).replace("|", "\\|")


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    return "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _first_sentence(description: str | list[str]) -> str:
    text = description if isinstance(description, str) else description[0]
    return re.split(r"(?<=[.]) ", " ".join(text.split()))[0].removesuffix(".")


def main() -> None:
    """Rewrite all tables."""
    for role in ROLES:
        path = ROOT / "roles" / role / "README.md"
        path.write_text(with_table(role, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
