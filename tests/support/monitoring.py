"""The metrics and labels in docs/monitoring.md, its alert rules and its dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "monitoring.md"
ALERTS = DOCS / "monitoring" / "alerts.yml"
DASHBOARD = DOCS / "monitoring" / "dashboard.json"

ROW = re.compile(r"^\| `(zoo_watcher_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
NOT_METRICS = (
    re.compile(r'"[^"]*"'),
    re.compile(r"\{[^}]*\}"),
    re.compile(r"\[[^\]]*\]"),
    re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)"),
    re.compile(r"\b(?:and|or|unless|bool|offset)\b"),
)
"""Patterns of words that are not names of metrics, in the order in which they are removed from an expression."""
LABELS = (
    re.compile(r"(?<=[{,])\s*(\w+)\s*(?==|!=|=~|!~)"),
    re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}"),
)
"""Patterns of a label's name: in a matcher, a legend or an annotation."""
GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
NAME = re.compile(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()")

Table = dict[str, tuple[str, tuple[str, ...]]]


def documented() -> Table:
    """The table of the page: type and labels of each metric."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def alert_rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def expressions(content: Any, keys: tuple[str, ...] = ("expr",)) -> Iterator[str]:
    """Every string under one of the `keys`, at any depth, and the queries of the dashboard's variables."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in keys:
                yield value
            elif key == "query" and isinstance(value, str) and value.startswith("label_values("):
                yield value.removeprefix("label_values(").rpartition(",")[0]
            else:
                yield from expressions(value, keys)
    elif isinstance(content, list):
        for value in content:
            yield from expressions(value, keys)


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in a PromQL expression."""
    for pattern in NOT_METRICS:
        expression = pattern.sub(" ", expression)
    return set(NAME.findall(expression))


def labels_in(text: str) -> set[str]:
    """The names of labels in a PromQL expression, a legend or an annotation."""
    grouped = {name for names in GROUPING.findall(text) for name in re.findall(r"\w+", names)}
    return grouped | {name for pattern in LABELS for name in pattern.findall(text)}
