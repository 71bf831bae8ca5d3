# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Jinja2 expression for many hosts, compiled once.

Since 2.19, ansible-core compiles an expression again for each host, which costs ten times its evaluation. Here one
template loops over all rows instead. It gives a value only if that can't differ from the one that Ansible gives for a
single host; for any other row it gives `ASK`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from ansible.errors import AnsibleError
from ansible.plugins.loader import filter_loader, test_loader
from ansible.template import Templar
from jinja2 import Environment, TemplateError, nodes
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.tests import TESTS

try:
    from ansible.template import is_trusted_as_template, trust_as_template
except ImportError:  # ansible-core 2.18 and earlier, where a single expression is not slow
    CAN_BULK = False
else:
    CAN_BULK = True

BLOCK = 64
"""If a template over all rows fails, it is tried again over this many at a time."""


class NoValue(Enum):
    """A placeholder for a value."""

    ASK = "Ansible has to be asked for this host"
    FAILS = "undefined, omitted or an error"


ASK, FAILS = NoValue.ASK, NoValue.FAILS

_BUILTIN = "ansible.builtin."
_ROWS, _VALUES, _VALUE, _UNUSED = "zk_rows__", "zk_values__", "zk_value__", "zk_unused__"
_OWN = frozenset({_ROWS, _VALUES, _VALUE, _UNUSED})
_DELIMITERS = ("{{", "{%", "{#", "#jinja2:")
_GLOBALS = frozenset(
    {"caller", "cycler", "dict", "finalize", "joiner", "kwargs", "lipsum", "lookup", "loop", "namespace", "now", "omit"}
    | {"q", "query", "range", "self", "super", "undef", "varargs", "vars"}
)
"""Names that mean something other than a host's variable, in a template or inside a loop."""
_HARMLESS_GLOBALS = frozenset({"dict", "namespace", "range", "undef"})
"""Those of them with the same meaning in both, as long as no host has a variable of that name."""


class BulkExpression(NamedTuple):
    """An expression that can be evaluated for many hosts at once, and the names that it refers to."""

    expression: str
    names: tuple[str, ...]


def bulk_expression(expression: object) -> BulkExpression | None:
    """How to evaluate `expression` in bulk; None if it has to be done host by host."""
    if not CAN_BULK or not isinstance(expression, str) or not is_trusted_as_template(expression):
        return None
    if any(mark in expression for mark in _DELIMITERS):
        return None
    tree = _parse(expression)
    if tree is None or any(_is_foreign(node.name) for node in _plugins(tree)):
        return None
    names = {node.name for node in tree.find_all(nodes.Name)}
    if names & (_GLOBALS - _HARMLESS_GLOBALS) or names & _OWN:
        return None
    return BulkExpression(expression, tuple(sorted(names)))


def _parse(expression: str) -> nodes.Template | None:
    """The syntax tree of a string that is exactly one expression, so that it can't close the tag around it."""
    environment = Environment()  # noqa: S701 - nothing is rendered with it
    try:
        parser = Parser(environment, expression, state="variable")
        parsed = parser.parse_expression()
        if not parser.stream.eos:
            return None
    except (TemplateError, RecursionError):
        return None
    tree = nodes.Template([nodes.Output([parsed], lineno=1)], lineno=1)
    tree.set_environment(environment)
    return tree


def syntax_mistake(expression: object) -> str:
    """What is wrong with an expression or a template, for any host; empty if nothing is known to be.

    Nothing is known about statements: extensions may add further ones.
    """
    if not isinstance(expression, str) or "{%" in expression or expression.startswith("#jinja2:"):
        return ""
    is_template = any(mark in expression for mark in _DELIMITERS)
    source = expression if is_template else f"{{{{ {expression} }}}}"
    try:
        tree = Environment().parse(source)  # noqa: S701 - nothing is rendered with it
    except TemplateError as exc:
        return str(exc.message)
    unknown = [f"no {kind} named {node.name}" for kind, node in _asked(tree) if not _is_known(kind, node.name)]
    return ", ".join(dict.fromkeys(unknown))


def _asked(tree: nodes.Node) -> Iterator[tuple[str, Any]]:
    """The filters and tests that run for each host: not those of a branch, which may never be taken."""
    if isinstance(tree, nodes.CondExpr):
        return
    if isinstance(tree, (nodes.Filter, nodes.Test)):
        yield "filter" if isinstance(tree, nodes.Filter) else "test", tree
    for child in tree.iter_child_nodes():
        yield from _asked(child)


def _is_known(kind: str, name: str) -> bool:
    """Whether Ansible or Jinja2 has a filter or test of this name, as far as can be known."""
    loader, own = (filter_loader, FILTERS) if kind == "filter" else (test_loader, TESTS)
    plain = name.removeprefix(_BUILTIN)
    try:
        return plain in own or loader.get_with_context(name).object is not None
    except KeyError:  # there is no such collection
        return False
    except AnsibleError:  # it exists, but was removed or can't be loaded
        return True


def _plugins(tree: nodes.Template) -> Iterator[Any]:
    """The filters and tests in a syntax tree."""
    return tree.find_all((nodes.Filter, nodes.Test))


def _is_foreign(plugin: str) -> bool:
    """Whether a filter or test is from another collection, and so may read the host's variables on its own."""
    return "." in plugin and not plugin.startswith(_BUILTIN)


def evaluate(templar: Templar, bulk: BulkExpression | None, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The expression's value for each row of variables, or a `NoValue`."""
    results: list[Any] = [ASK] * len(rows)
    if bulk is None:
        return results
    for names, indexes in _alike(bulk, rows).items():
        for index, value in zip(indexes, _values(templar, bulk, names, [rows[index] for index in indexes])):
            results[index] = value
    return results


def _alike(bulk: BulkExpression, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], list[int]]:
    """The rows grouped by the names they have: a missing one stays undefined, as for a single host."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        names = tuple([name for name in bulk.names if name in row])
        if all(_is_plain(row[name]) for name in names):
            groups.setdefault(names, []).append(index)
    return {names: indexes for names, indexes in groups.items() if _GLOBALS.isdisjoint(names)}


def _is_plain(value: Any) -> bool:
    """Whether a value means the same inside a row: not a template itself, and not computed on access."""
    if value is None or isinstance(value, (int, float)):
        return True
    if isinstance(value, str):
        return not ("{" in value or value.startswith("#jinja2:")) or not is_trusted_as_template(value)
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(inner) for key, inner in value.items())
    return isinstance(value, list) and all(_is_plain(inner) for inner in value)


def _values(
    templar: Templar, bulk: BulkExpression, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[Any]:
    table = _table(names, rows)
    values = _render(templar, _fast_template(bulk.expression, names), table)
    if values is not None:
        return values
    template = _careful_template(bulk.expression, names)
    results = _render(templar, template, table)
    if results is None:
        blocks = (table[start : start + BLOCK] for start in range(0, len(table), BLOCK))
        results = [result for block in blocks for result in _render(templar, template, block) or [None] * len(block)]
    return [ASK if result is None else result[0] if result else FAILS for result in results]


def _table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the template loops over: a value for each row if there is one name, otherwise a tuple for each."""
    if len(names) == 1:
        return [row[names[0]] for row in rows]
    return [tuple([row[name] for name in names]) for row in rows]


def _fast_template(expression: str, names: Sequence[str]) -> str:
    """For the common case: a row that is undefined or omitted is missing from the list, which its length shows."""
    return _template(names, f"{{% set {_UNUSED} = {_VALUES}.append(({expression})) %}}")


def _careful_template(expression: str, names: Sequence[str]) -> str:
    """A list for each row: empty if it is undefined or omitted."""
    return _template(
        names,
        f"{{% set {_VALUE} = ({expression}) %}}"
        f"{{% set {_UNUSED} = {_VALUES}.append([{_VALUE}] if {_VALUE} is defined else []) %}}",
    )


def _template(names: Sequence[str], body: str) -> str:
    targets = ", ".join(names) or _UNUSED
    template: str = trust_as_template(
        f"{{% set {_VALUES} = [] %}}{{% for {targets} in {_ROWS} %}}{body}{{% endfor %}}{{{{ {_VALUES} }}}}"
    )
    return template


def _render(templar: Templar, template: str, table: Sequence[Any]) -> list[Any] | None:
    """A result for each row, or None if the template failed as a whole."""
    templar.available_variables = {_ROWS: table}
    try:
        results = templar.template(template)
    except (AnsibleError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        return None
    return results if isinstance(results, list) and len(results) == len(table) else None
