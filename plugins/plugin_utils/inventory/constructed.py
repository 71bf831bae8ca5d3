# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`compose`, `groups` and `keyed_groups` for all hosts at once, with the results of Ansible's own methods.

First every expression is evaluated for all hosts, while nothing changes. Then hosts are processed in their order, and
the options in theirs, so that groups are added and errors raised as in Ansible: a value is applied, and where there is
none, Ansible's own method is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.vars import combine_vars

from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import (
    ASK,
    FAILS,
    BulkExpression,
    bulk_expression,
    evaluate,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.hosts import unused_group_name

_CHANGING = "group_names"
"""The variable that changes while groups are added."""
_MAGIC = frozenset({"inventory_hostname", "inventory_hostname_short"})


class BulkConstructable(Constructable):
    """A `Constructable` for many hosts at a time."""

    _key_value: Any = ASK

    def construct(self, names: Sequence[str]) -> None:
        """Set the variables and add the groups that the options ask for, for the hosts of these names, in this order.

        Raises what Ansible's own methods raise: an `AnsibleError` if `strict` is set and an expression fails.
        """
        plan = _Plan(self)
        if plan.is_empty:
            return
        for name, values in zip(names, plan.values(names)):
            self._construct_from(plan, name, values)

    def _construct_from(self, plan: _Plan, name: str, values: Sequence[Any]) -> None:
        host = self.inventory.get_host(name)
        left = iter(values)
        before = host.get_vars() if ASK in values else {}
        for variable, expression in plan.compose.items():
            self._compose_one(plan, name, variable, expression, next(left), before)
        after = combine_vars(before, host.get_vars()) if ASK in values else {}
        for group, condition in plan.groups.items():
            self._group_one(plan, name, group, condition, next(left), after)
        for entry in plan.keyed_groups:
            self._key_one(plan, name, entry, next(left), before)

    def _compose_one(self, plan: _Plan, name: str, variable: str, expression: Any, value: Any, variables: Any) -> None:
        if value is ASK:
            self._set_composite_vars({variable: expression}, variables, name, strict=plan.strict)
        elif value is not FAILS:
            self.inventory.set_variable(name, variable, value)

    def _group_one(self, plan: _Plan, name: str, group: str, condition: Any, value: Any, variables: Any) -> None:
        if value is ASK:
            self._add_host_to_composed_groups({group: condition}, variables, name, plan.strict, fetch_hostvars=False)
        elif value is True:
            self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(group)), name)

    def _key_one(self, plan: _Plan, name: str, entry: Any, value: Any, variables: Any) -> None:
        if value is FAILS:
            return
        self._key_value = value
        try:
            self._add_host_to_keyed_groups([entry], variables, name, plan.strict, fetch_hostvars=value is ASK)
        finally:
            self._key_value = ASK

    def _compose(self, template: Any, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """The value of a keyed group's key if it has been evaluated; otherwise as in Ansible."""
        if self._key_value is not ASK:
            return self._key_value
        return super()._compose(template, variables, *args, **kwargs)


class Constructor(BaseInventoryPlugin, BulkConstructable):
    """Constructs for another plugin, with that plugin's options, and so is needed only if they ask for it.

    `clashes` are the groups that get another name, because a host has theirs. `problems` are messages about hosts
    whose value is no group name: it depends on what somebody has registered, so it is fatal only with `strict`.
    """

    def __init__(self, plugin: Any) -> None:
        super().__init__()
        self._plugin = plugin
        self.inventory, self.templar, self._vars = plugin.inventory, plugin.templar, plugin._vars
        self.clashes: set[str] = set()
        self.problems: list[str] = []
        self._refused: dict[str, list[tuple[str, Exception]]] = {}
        self._parent: Any = None

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        """The other plugin's option."""
        return self._plugin.get_option(option, hostvars)

    def construct(self, names: Sequence[str]) -> None:
        """As documented there; also raises an `AnsibleError` if a keyed group's value fails as a name for all hosts."""
        super().construct(names)
        for key, refused in self._refused.items():
            name, exc = refused[0]
            if {one for one, _exc in refused} == set(names):
                raise AnsibleError(f"keyed_groups: {key}: {exc}") from exc
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            self.problems.append(f"keyed_groups: {key}: not every group of {name}{more} could be made: {exc}")

    def _key_one(self, plan: _Plan, name: str, entry: Any, value: Any, variables: Any) -> None:
        key = str(entry.get("key") if isinstance(entry, dict) else entry)
        self._parent = entry.get("parent_group") if isinstance(entry, dict) else None
        try:
            super()._key_one(plan, name, entry, value, variables)
        except Exception as exc:  # Ansible raises exactly this for a group that would be its own parent
            if plan.strict:
                raise
            self._refused.setdefault(key, []).append((name, exc))
        finally:
            self._parent = None

    def _sanitize_group_name(self, name: Any) -> str:
        """A safe name for a group that no host has: Ansible would take the host for the group."""
        if name == "all" and self._parent not in (None, "all"):  # Ansible would find that loop later, and exit
            raise AnsibleError(f"all can't be a group in {self._parent}")
        safe = str(super()._sanitize_group_name(name))
        unused = unused_group_name(safe, self.inventory)
        if unused != safe:
            self.clashes.add(safe)
        return unused


class _Plan:
    """The options of Ansible's `constructed` fragment, and how far each expression can be evaluated in bulk."""

    def __init__(self, plugin: Constructable) -> None:
        self.compose: Mapping[str, Any] = _of_type(plugin.get_option("compose"), dict)
        self.groups: Mapping[str, Any] = _of_type(plugin.get_option("groups"), dict)
        self.keyed_groups: Sequence[Any] = _of_type(plugin.get_option("keyed_groups"), list)
        self.strict: bool = plugin.get_option("strict")
        self._templar = plugin.templar
        self._inventory = plugin.inventory
        self._extra: Mapping[str, Any] = plugin._vars if plugin.get_option("use_extra_vars") else {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.compose or self.groups or self.keyed_groups)

    def values(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """For every host the value of every expression, in the order of the options, or FAILS, or ASK."""
        composed = [_unchanging(bulk_expression(expression)) for expression in self.compose.values()]
        conditions = [_unchanging(bulk_expression(condition)) for condition in self.groups.values()]
        keys = [_unchanging(_bulk_key(self._templar, entry)) for entry in self.keyed_groups]
        rows = self._rows(names, {name for bulk in (*composed, *conditions, *keys) if bulk for name in bulk.names})
        columns = self._columns(composed, self._with_extra(rows))
        for variable, column in zip(self.compose, columns):
            if variable not in _MAGIC:  # which take precedence over a host's own
                _overlay(rows, variable, column)
        columns += [_booleans(column) for column in self._columns(conditions, rows)]
        columns += self._columns(keys, self._with_extra(rows))
        return list(zip(*columns))

    def _columns(
        self, expressions: Sequence[BulkExpression | None], rows: Sequence[Mapping[str, Any]]
    ) -> list[list[Any]]:
        """The values of each expression. If errors are to be raised, Ansible is asked to raise them."""
        columns = [evaluate(self._templar, bulk, rows) for bulk in expressions]
        if self.strict:
            columns = [[ASK if value is FAILS else value for value in column] for column in columns]
        return columns

    def _rows(self, names: Sequence[str], variables: set[str]) -> list[dict[str, Any]]:
        """For every host those of `variables` that it has."""
        rows = []
        for name in names:
            host = self._inventory.get_host(name)
            row = {key: host.vars[key] for key in variables if key in host.vars}
            if variables & _MAGIC:
                magic = host.get_magic_vars()
                row.update((key, magic[key]) for key in variables & _MAGIC)
            rows.append(row)
        return rows

    def _with_extra(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows, overlaid with the extra variables if the options ask for that."""
        if not self._extra:
            return rows
        covered = [dict(row) for row in rows]
        for variable, value in self._extra.items():
            _overlay(covered, variable, [value] * len(covered))
        return covered


def _of_type(value: Any, expected: type) -> Any:
    """`value`, or an empty one if it is of another type: Ansible's own methods skip such an option."""
    return value if isinstance(value, expected) else expected()


def _unchanging(bulk: BulkExpression | None) -> BulkExpression | None:
    return None if bulk is None or _CHANGING in bulk.names else bulk


def _bulk_key(templar: Any, entry: Any) -> BulkExpression | None:
    """How to evaluate a keyed group's key; not in bulk if the name of its parent is a template."""
    if not isinstance(entry, dict) or templar.is_possibly_template(entry.get("parent_group")):
        return None
    return bulk_expression(entry.get("key"))


def _overlay(rows: Sequence[dict[str, Any]], variable: str, values: Sequence[Any]) -> None:
    """Set a variable in all rows. Two mappings may have to be merged, and ASK stays ASK."""
    for row, value in zip(rows, values):
        if isinstance(value, Mapping) and isinstance(row.get(variable), Mapping):
            row[variable] = ASK
        elif value is not FAILS:
            row[variable] = value


def _booleans(column: Sequence[Any]) -> list[Any]:
    """Values of conditions; one that is not a boolean is an error or a deprecated habit, for Ansible to judge."""
    return [value if isinstance(value, bool) or value is FAILS else ASK for value in column]
