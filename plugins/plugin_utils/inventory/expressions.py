# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Jinja2 expression for many hosts, compiled once.

Since 2.19, ansible-core compiles an expression anew for each host, which costs ten times its evaluation. Here one
template loops over all rows instead. It answers only where the answer can't differ from the one that Ansible gives for
a host on its own; for any other row it says `ASK`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from ansible.errors import AnsibleError
from ansible.template import Templar
from jinja2 import Environment, TemplateError, nodes
from jinja2.parser import Parser

try:
    from ansible.template import is_trusted_as_template, trust_as_template
except ImportError:  # ansible-core 2.18 and earlier, where an expression by itself is not slow
    CAN_BULK = False
else:
    CAN_BULK = True

BLOCK = 64
"""Where a template over all rows fails, it is tried again over this many at a time."""


class Outcome(Enum):
    """What may come in place of a value."""

    ASK = "Ansible has to be asked for this host"
    FAILS = "undefined, omitted or an error"


ASK, FAILS = Outcome.ASK, Outcome.FAILS

_ROWS, _FOUND, _VALUE, _UNUSED = "zk_rows__", "zk_found__", "zk_value__", "zk_unused__"
_OWN = frozenset({_ROWS, _FOUND, _VALUE, _UNUSED})
_DELIMITERS = ("{{", "{%", "{#", "#jinja2:")
_GLOBALS = frozenset(
    {"caller", "cycler", "dict", "finalize", "joiner", "kwargs", "lipsum", "lookup", "loop", "namespace", "now", "omit"}
    | {"q", "query", "range", "self", "super", "undef", "varargs", "vars"}
)
"""Names that mean something else than a host's variable, in a template or inside a loop."""
_HARMLESS_GLOBALS = frozenset({"dict", "namespace", "range", "undef"})
"""Those of them that mean the same in both, as long as no host has a variable of that name."""


class Bulk(NamedTuple):
    """An expression that can be evaluated for many hosts at once, and the names that it refers to."""

    expression: str
    names: tuple[str, ...]


def bulk(expression: object) -> Bulk | None:
    """How to evaluate `expression` in bulk; None where it has to be done host by host."""
    if not CAN_BULK or not isinstance(expression, str) or not is_trusted_as_template(expression):
        return None
    if any(mark in expression for mark in _DELIMITERS):
        return None
    tree = _parse(expression)
    if tree is None or any("." in one.name and not one.name.startswith("ansible.builtin.") for one in _plugins(tree)):
        return None
    names = {one.name for one in tree.find_all(nodes.Name)}
    if names & (_GLOBALS - _HARMLESS_GLOBALS) or names & _OWN:
        return None
    return Bulk(expression, tuple(sorted(names)))


def _parse(expression: str) -> nodes.Template | None:
    """The syntax tree of a text that is exactly one expression, so that it can't end the tag that it is put into."""
    environment = Environment()  # noqa: S701 - nothing is rendered with it
    try:
        parser = Parser(environment, expression, state="variable")
        found = parser.parse_expression()
        if not parser.stream.eos:
            return None
    except (TemplateError, RecursionError):
        return None
    tree = nodes.Template([nodes.Output([found], lineno=1)], lineno=1)
    tree.set_environment(environment)
    return tree


def _plugins(tree: nodes.Template) -> Iterator[Any]:
    """The filters and tests in a syntax tree; one of a collection may look at the host's variables by itself."""
    return tree.find_all((nodes.Filter, nodes.Test))


def evaluate(templar: Templar, how: Bulk | None, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The expression's value for each row of variables, or an `Outcome`."""
    results: list[Any] = [ASK] * len(rows)
    if how is None:
        return results
    for names, indexes in _alike(how, rows).items():
        for index, value in zip(indexes, _values(templar, how, names, [rows[index] for index in indexes])):
            results[index] = value
    return results


def _alike(how: Bulk, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[int]]:
    """The rows by which of the names they have: one that is missing stays undefined, as it is for a host on its own."""
    found: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        names = tuple([name for name in how.names if name in row])
        if all(_is_plain(row[name]) for name in names):
            found.setdefault(names, []).append(index)
    return {names: indexes for names, indexes in found.items() if _GLOBALS.isdisjoint(names)}


def _is_plain(value: Any) -> bool:
    """Whether a value means the same inside a row: no template of its own, nothing that is made on access."""
    if value is None or isinstance(value, (int, float)):
        return True
    if isinstance(value, str):
        return not ("{" in value or value.startswith("#jinja2:")) or not is_trusted_as_template(value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(one) for key, one in value.items())
    return isinstance(value, list) and all(_is_plain(one) for one in value)


def _values(templar: Templar, how: Bulk, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    table = _table(names, rows)
    found = _render(templar, _fast_template(how.expression, names), table)
    if found is not None:
        return found
    template = _careful_template(how.expression, names)
    found = _render(templar, template, table)
    if found is None:
        blocks = (table[start : start + BLOCK] for start in range(0, len(table), BLOCK))
        found = [one for block in blocks for one in _render(templar, template, block) or [None] * len(block)]
    return [ASK if one is None else one[0] if one else FAILS for one in found]


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the template loops over: a value for each row where there is one name, else a tuple for each."""
    if len(names) == 1:
        return [row[names[0]] for row in rows]
    return [tuple([row[name] for name in names]) for row in rows]


def _fast_template(expression: str, names: Sequence[str]) -> str:
    """For the common case: a row that is undefined, or omitted, is missing in the list, so that its length tells."""
    return _template(names, f"{{% set {_UNUSED} = {_FOUND}.append(({expression})) %}}")


def _careful_template(expression: str, names: Sequence[str]) -> str:
    """A list for each row: empty where it is undefined or omitted."""
    return _template(
        names,
        f"{{% set {_VALUE} = ({expression}) %}}"
        f"{{% set {_UNUSED} = {_FOUND}.append([{_VALUE}] if {_VALUE} is defined else []) %}}",
    )


def _template(names: Sequence[str], body: str) -> str:
    targets = ", ".join(names) or _UNUSED
    return trust_as_template(
        f"{{% set {_FOUND} = [] %}}{{% for {targets} in {_ROWS} %}}{body}{{% endfor %}}{{{{ {_FOUND} }}}}"
    )


def _render(templar: Templar, template: str, table: Sequence[Any]) -> list[Any] | None:
    """An answer for each row, or None where the template failed as a whole."""
    templar.available_variables = {_ROWS: table}
    try:
        found = templar.template(template)
    except (AnsibleError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and len(found) == len(table) else None
