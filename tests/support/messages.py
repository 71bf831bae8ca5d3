"""The messages that the code can print, extracted from its source, with `…` for each variable part.

A message is a string of more than one word in an exception, a log line, a warning or an answer to a person; elsewhere
a string of at least four words, or of two with a variable part. Documentation, the help of options and metrics, and
the reports of states (`NO_TROUBLE`) do not count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from support.documents import ROOT

VARIES = "…"
NO_TROUBLE = {
    "meta",
    "doc_fragments",
    "page",
    "progress",
    "command_line.py",
    "metric.py",
    "rollout_preview.py",
    "status_report.py",
}
"""Directories and files that only describe or report states, not problems."""
PRINTS = {"critical", "error", "exit", "exception", "fail_json", "info", "print", "say", "warn", "warning"}
"""Names of functions that print a message."""
KNOWS = {"_format", "add_parser", "compile", "encode", "says"}
"""Functions that take a description, or a pattern that recognizes another program's message."""
DOCUMENTATION = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
HELP = {"description", "epilog", "help", "metavar", "usage"}
FOR_PROGRAMS = ("!f() {", "Signing data on", "[core]", "batch no-tty", "could not verify signature", "find ", "{% set")
"""Beginnings of strings that are for git, GnuPG, OpenSSH, a shell or Jinja."""
PLACEHOLDER = re.compile(r"%[-\d.]*[sdrgx]|\{\w*\}")
TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
WORD = re.compile(r"(?<!\S)[(`]?[A-Za-z][\w'-]*[.,;:)?`]*(?!\S)")


@dataclass(frozen=True, order=True)
class Message:
    """A message, with its file and line, such as `plugins/modules/zk_lock.py:185`."""

    text: str
    place: str


def find_messages() -> list[Message]:
    """All messages of the collection."""
    found: set[Message] = set()
    for suffix, read in ((".py", in_program), (".yml", in_tasks)):
        for below in ("extensions", "playbooks", "plugins", "roles"):
            for path in (ROOT / below).rglob(f"*{suffix}"):
                place = path.relative_to(ROOT)
                if not path.is_symlink() and not {"collections", "quickstart", *NO_TROUBLE} & set(place.parts):
                    found |= {Message(text, f"{place}:{line}") for text, line in read(path.read_text(encoding="utf-8"))}
    return sorted(found)


def in_program(code: str) -> Iterator[tuple[str, int]]:
    """The messages of a program, each with its line."""
    tree = ast.parse(code)
    passed_over = set(_no_messages(tree))
    printed = set(_printed(tree))
    for node in ast.walk(tree):
        text = None if node in passed_over else _text(node)
        if text and _has_words(text, is_printed=node in printed) and not text.startswith(FOR_PROGRAMS):
            yield text, getattr(node, "lineno", 0)


def _text(node: ast.AST) -> str | None:
    """The text of a literal in one line; None for anything else."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else VARIES for part in node.values]
        return " ".join("".join(map(str, parts)).split())
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(PLACEHOLDER.sub(VARIES, node.value).split())
    return None


def _has_words(text: str, *, is_printed: bool) -> bool:
    """Whether a text is long enough to be a message in its place."""
    elsewhere = 2 if VARIES in text else 4
    return " " in text and len(WORD.findall(text)) >= (1 if is_printed else elsewhere)


def _printed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes in a raised exception or in the arguments of a function that prints."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc:
            yield from ast.walk(node.exc)
        elif isinstance(node, ast.Call) and _name(node.func) in PRINTS:
            yield from ast.walk(node)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _no_messages(tree: ast.Module) -> Iterator[ast.AST]:
    """Docstrings, documentation, help, parts of f-strings, and patterns that recognize other programs' messages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and _is_documentation(node)):
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg in HELP:
            yield from ast.walk(node.value)
        elif isinstance(node, ast.JoinedStr):
            for part in node.values:
                yield part
                yield from ast.walk(getattr(part, "format_spec", None) or part)
        elif isinstance(node, ast.Call) and _name(node.func) in KNOWS:
            yield from ast.walk(node)
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.List, ast.Set, ast.Tuple)):
            yield from ast.walk(statement.value)


def _is_documentation(assignment: ast.Assign) -> bool:
    return not DOCUMENTATION.isdisjoint(map(_name, assignment.targets))


def in_tasks(text: str) -> Iterator[tuple[str, int]]:
    """The messages of a file of plays, tasks or handlers. Their line is always given as 1."""
    for message in _of_tasks(yaml.safe_load(text)):
        one_line = " ".join(TEMPLATE.sub(VARIES, message).split())
        if len(WORD.findall(one_line)) > 1:
            yield one_line, 1


def _of_tasks(node: Any) -> Iterator[str]:
    """The values of `msg` and `fail_msg`, wherever they are."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        texts = value if isinstance(value, list) else [value]
        if key in {"msg", "fail_msg"} and all(isinstance(text, str) for text in texts):
            yield from texts
        else:
            yield from _of_tasks(value)
