"""`compose`, `groups` and `keyed_groups` in bulk give what Ansible's own methods give, host by host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.template import Templar
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory import expressions
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.constructed import BulkConstructable
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import (
    ASK,
    FAILS,
    bulk_expression,
    evaluate,
)

if expressions.CAN_BULK:
    from ansible.template import is_trusted_as_template, trust_as_template
else:
    pytest.skip("this ansible-core has no trusted templates: nothing is done in bulk", allow_module_level=True)


class Options(BaseInventoryPlugin):
    """A plugin whose options are given, not loaded."""

    def __init__(self, options: dict[str, Any], extra: dict[str, Any]) -> None:
        super().__init__()
        self.given = {"leading_separator": True, "use_extra_vars": False, "strict": False, **options}
        self.loader = DataLoader()
        self.inventory = InventoryData()
        self._vars = extra

    def get_option(self, option: str, hostvars: Any = None) -> Any:  # noqa: ARG002 - as Ansible has it
        """The option as it was given."""
        return self.given.get(option)


class Ours(Options, BulkConstructable):
    """A plugin that constructs in bulk."""


class Theirs(Options, Constructable):
    """Host by host, as the inventory plugins of Ansible's own collections do it."""

    def construct(self, names: Sequence[str]) -> None:
        """Call the three methods for each host."""
        for name in names:
            variables = self.inventory.get_host(name).get_vars()
            strict = self.get_option("strict")
            self._set_composite_vars(self.get_option("compose"), variables, name, strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict)


def constructed(plugin: Any, hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything that is visible in the inventory afterwards, and the error if there was one."""
    for name, variables in hosts.items():
        plugin.inventory.add_host(name)
        for key, value in variables.items():
            plugin.inventory.get_host(name).set_variable(key, value)
    error = None
    try:
        plugin.construct(list(hosts))
    except Exception as exc:  # noqa: BLE001 - whatever it is, both must raise it
        error = f"{type(exc).__name__}: {exc}"
    return {
        "error": error,
        "hosts": {} if error else {name: typed(host.vars) for name, host in plugin.inventory.hosts.items()},
        "groups": {
            name: ([host.name for host in group.hosts], [child.name for child in group.child_groups], typed(group.vars))
            for name, group in plugin.inventory.groups.items()
        },
    }


def typed(value: Any) -> Any:
    """A value with what `==` does not distinguish: 1 is not True, and a template is not a string."""
    if isinstance(value, dict):
        return {key: typed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [typed(one) for one in value]
    kind = next(kind for kind in (bool, int, float, str, type(None), object) if isinstance(value, kind))
    return (kind.__name__, value, isinstance(value, str) and is_trusted_as_template(value))


def trusted(value: Any) -> Any:
    """The same value with every string a trusted template, as it is in an inventory file."""
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


NAMES = [
    "zk_port",
    "zk_id",
    "zk_address",
    "zk_service",
    "zk_service.name",
    "zk_service['rack']",
    "zk_service.n.m",
    "zk_list",
]
NAMES += [
    "missing",
    "missing.x",
    "inventory_hostname",
    "group_names",
    "templated",
    "nested.template",
    "extra",
    "extra_template",
    "c1",
    "c2",
]
ODD = [
    "omit",
    "vars.zk_port",
    "lookup('env', 'HOME')",
    "query('env', 'NOPE')",
    "range(3) | list",
    "undef('x')",
    "range",
    "zk_rows__",
]
LITERALS = [
    "0",
    "1",
    "-3",
    "2.5",
    "true",
    "none",
    "''",
    "'a'",
    "'%}'",
    "'}}'",
    "'{{ zk_port }}'",
    r"'\\1'",
    "'ü'",
    "[]",
    "{}",
    "'a-b'",
]
leaves = st.sampled_from(NAMES + NAMES + LITERALS + ODD)
FILTERS = [
    "default('d')",
    "default('', true)",
    "int",
    "string",
    "upper",
    "length",
    "first",
    "list",
    "to_json",
    "bool",
    "sort",
    "lower",
]
FILTERS += [
    r"regex_replace('^(.)(.*)$', '\\2\\1')",
    "ansible.builtin.b64encode",
    "nope",
    "community.general.nope",
    "mandatory",
    "default(omit)",
]


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Larger expressions from smaller ones."""
    return st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "//", "%", "~", "==", "!=", "<", "and", "or", "in"]), inner
        ).map(lambda parts: f"({parts[0]} {parts[1]} {parts[2]})"),
        st.tuples(inner, st.sampled_from(FILTERS)).map(" | ".join),
        st.tuples(
            inner, st.sampled_from(["defined", "undefined", "none", "string", "number", "mapping", "match('a')"])
        ).map(" is ".join),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"[{parts[0]}, {parts[1]}]"),
        st.tuples(inner, inner).map(lambda parts: f"{{'k': {parts[0]}, 'l': {parts[1]}}}"),
        inner.map(lambda one: f"not {one}"),
        inner.map(lambda one: f"({one}).split('-')"),
        inner.map(lambda one: f" {one} "),
        inner.map(lambda one: f"{one} %}}x{{% if 1"),
        inner.map(lambda one: f"{one}, 1"),
        inner.map(lambda one: f"({one}"),
    )


texts = st.recursive(leaves, grown, max_leaves=5)
values = st.one_of(
    st.integers(-2, 99),
    st.booleans(),
    st.none(),
    st.sampled_from(["", "a", "a-b", "10.0.0.1", "{{ 1 + 1 }}", "é", "x y"]),
)
services = st.fixed_dictionaries(
    {}, optional={"name": values, "rack": values, "n": st.dictionaries(st.just("m"), values), "items": values}
)
hosts = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "zk_port": st.integers(0, 65535) | st.none(),
            "zk_id": st.sampled_from(["a-1", "b", "{{ zk_port }}"]),
            "zk_address": st.sampled_from(["10.0.0.1", "::1"]),
            "zk_service": services | st.lists(values, max_size=2),
            "zk_list": st.lists(values, max_size=3),
            "templated": st.sampled_from(["{{ zk_port }}", "{{ zk_id is defined }}", "{{ missing }}", "plain"]).map(
                trust_as_template
            ),
            "nested": st.just({"template": trust_as_template("{{ zk_port | default(7) }}")}),
            "range": st.just(5),
        },
    ),
    min_size=1,
    max_size=5,
).map(lambda rows: {f"host{number}.example.com": row for number, row in enumerate(rows)})
keyed = st.lists(
    st.fixed_dictionaries(
        {"key": texts},
        optional={
            "prefix": st.sampled_from(["", "p", "a b"]),
            "separator": st.sampled_from(["", "_", "-"]),
            "parent_group": st.sampled_from(["parent", "{{ zk_port }}", "{{ omit }}", "", "pa rent"]),
            "default_value": st.sampled_from(["none", ""]),
            "trailing_separator": st.booleans(),
        },
    )
    | st.just("no mapping"),
    max_size=2,
)
options = st.fixed_dictionaries(
    {
        "compose": st.dictionaries(
            st.sampled_from(["c1", "c2", "zk_port", "zk_service"]), texts | st.just(5), max_size=2
        ),
        "groups": st.dictionaries(
            st.sampled_from(["g1", "g 2", "host0.example.com"]), texts | st.booleans(), max_size=2
        ),
        "keyed_groups": keyed,
        "strict": st.booleans(),
        "leading_separator": st.booleans(),
        "use_extra_vars": st.booleans(),
    }
)
TEMPLATES: dict[str, dict[str, Any]] = {
    "host0.example.com": {
        "zk_port": 80,
        "zk_id": "a",
        "zk_address": "10.0.0.1",
        "templated": trust_as_template("{{ zk_port }}"),
        "nested": {"template": trust_as_template("{{ zk_port | default(7) }}")},
    }
}
"""A host with variables of an earlier inventory source, which may be templates over its other variables."""
EXTRA = {"extra": "x", "extra_template": trust_as_template("{{ zk_port }}"), "zk_address": "192.0.2.1"}


@settings(max_examples=150)
@given(options, hosts)
@example(
    {
        "compose": {"zk_port": "zk_port + 1"},
        "groups": {"g1": "zk_port == 81"},
        "keyed_groups": [{"key": "'p' ~ zk_port"}],
        "strict": True,
    },
    {"host0.example.com": {"zk_port": 80}, "host1.example.com": {"zk_port": 81}},
)
@example(
    {
        "compose": {"c1": "lookup('env', 'HOME')", "c2": "zk_port"},
        "groups": {"g1": "c1 is string"},
        "keyed_groups": [{"key": "c2 | string"}],
    },
    {"host0.example.com": {"zk_port": 80}},
)
@example(
    {"compose": {"zk_service": "{'a': 1}"}, "keyed_groups": [{"key": "zk_service"}]},
    {"host0.example.com": {"zk_service": {"b": 2}}},
)
@example(
    {"groups": {"g1": True, "g2": "group_names | length == 1"}, "keyed_groups": [{"key": "group_names"}]},
    {"host0.example.com": {}},
)
@example(
    {"groups": {"host0.example.com": "true"}, "compose": {"c1": "1"}},
    {"host0.example.com": {}, "host1.example.com": {}},
)
@example(
    {"compose": {"c1": "zk_port", "c2": "omit"}, "strict": True},
    {"host0.example.com": {"zk_port": 1}, "host1.example.com": {}},
)
@example({"groups": {"g1": True, "g2": "group_names is undefined"}}, {"host0.example.com": {}})
@example({"compose": {"c1": "group_names"}}, {"host0.example.com": {}})
@example(
    {"compose": {"inventory_hostname": "'z'"}, "keyed_groups": [{"key": "inventory_hostname"}]},
    {"host0.example.com": {}, "host1.example.com": {}},
)
@example({"compose": {"c1": "templated", "c2": "nested"}, "groups": {"g1": "templated == 80"}}, TEMPLATES)
@example(
    {"compose": {"c1": "zk_list", "c2": "range"}, "groups": {"g1": "range == 5"}}, {"host0.example.com": {"range": 5}}
)
@example({"keyed_groups": [{"key": "extra"}, {"key": "zk_address"}], "use_extra_vars": True}, TEMPLATES)
@example({"compose": {"c1": "extra_template", "c2": "zk_address"}, "use_extra_vars": True}, TEMPLATES)
@example({"groups": {"g1": "zk_address == '10.0.0.1'"}, "use_extra_vars": True}, TEMPLATES)
@example({"keyed_groups": [{"key": "zk_id", "parent_group": "{{ zk_id }}_all"}]}, TEMPLATES)
def test_the_outcome_is_the_one_of_ansibles_own_methods(
    chosen: dict[str, Any], variables: dict[str, dict[str, Any]]
) -> None:
    outcomes = [constructed(kind(trusted(chosen), EXTRA), variables) for kind in (Ours, Theirs)]
    assert outcomes[0] == outcomes[1]


@settings(max_examples=150)
@given(texts.map(trust_as_template), hosts)
def test_a_value_that_is_known_in_bulk_is_the_one_for_the_host_alone(
    expression: str, variables: dict[str, dict[str, Any]]
) -> None:
    rows = list(variables.values())
    for row, found in zip(rows, evaluate(Templar(), bulk_expression(expression), rows)):
        if found is not ASK:
            assert typed(found) == typed(alone(expression, row))


def alone(expression: str, row: dict[str, Any]) -> Any:
    try:
        return Templar(variables=row).evaluate_expression(expression)
    except Exception:  # noqa: BLE001 - whatever it is, there is no value
        return FAILS


COMMON = [
    "zk_port",
    "zk_port + 1",
    "zk_address ~ ':' ~ zk_port",
    "zk_service.name | upper",
    "zk_service.rack | default('none')",
    "zk_port in [80, 443]",
    "zk_id.split('-')[0]",
    "inventory_hostname is match('a')",
    "'x' if zk_port > 5 else 'y'",
    r"zk_id | regex_replace('^(\w+)-(\d+)$', '\\2')",
    "zk_service.items() | list",
    "{'port': zk_port}",
]


@pytest.mark.parametrize("expression", COMMON)
def test_what_people_write_is_done_in_bulk(expression: str) -> None:
    rows = [
        {
            "zk_port": number,
            "zk_id": f"a-{number}",
            "zk_address": "::1",
            "zk_service": {"name": "n"},
            "inventory_hostname": "a",
        }
        for number in range(200)
    ]
    found = evaluate(Templar(), bulk_expression(trust_as_template(expression)), rows)
    assert [typed(one) for one in found] == [typed(alone(trust_as_template(expression), row)) for row in rows]


@pytest.mark.parametrize(
    "expression",
    [
        "lookup('env', 'HOME')",
        "vars.zk_port",
        "'{{ zk_port }}'",
        "zk_port | a.b.c",
        "1 +",
        "zk_rows__",
        "zk_port %}{{ 1 }}{% if 1",
        "loop",
        5,
    ],
)
def test_what_may_differ_in_bulk_is_left_to_ansible(expression: Any) -> None:
    text = trust_as_template(expression) if isinstance(expression, str) else expression
    assert bulk_expression(text) is None
    assert evaluate(Templar(), bulk_expression(text), [{}, {}]) == [ASK, ASK]


def test_an_untrusted_expression_is_left_to_ansible() -> None:
    assert bulk_expression("zk_port + 1") is None


@pytest.mark.parametrize(
    ("expression", "mistake"),
    [
        ("zk_id == 'web1'", ""),
        ("zk_port, zk_id", ""),
        ("zk_id | ansible.builtin.regex_search('a}')", ""),
        ("{{ zk_id }}-{{ zk_port }}", ""),
        ("{% do zk_id %}", ""),
        (True, ""),
        ("zk_id | upper is match('WEB')", ""),
        ("zk_id | ansible.builtin.upper is ansible.builtin.defined", ""),
        ("(zk_id | nowhere) if zk_port is nothing else 1", ""),
        ("zk_id is mtach('web1')", "no test named mtach"),
        ("{{ zk_id | lwoer }}-{{ zk_port | lwoer }}", "no filter named lwoer"),
        ("zk_id | no.such.filter", "no filter named no.such.filter"),
        ("zk_service.dc = 'fra'", "expected token 'end of print statement', got '='"),
        ("zk_id ==", "unexpected 'end of print statement'"),
        ("{{ zk_id }", "unexpected '}'"),
        ("", "Expected an expression, got 'end of print statement'"),
    ],
)
def test_what_fails_for_every_host_is_known_beforehand(expression: Any, mistake: str) -> None:
    assert expressions.syntax_mistake(expression) == mistake


def test_one_host_that_fails_does_not_slow_down_the_others() -> None:
    rows = [{"zk_port": number} for number in range(1000)]
    found = evaluate(Templar(), bulk_expression(trust_as_template("1 // (zk_port - 700)")), rows)
    asked = [number for number, one in enumerate(found) if one is ASK]
    assert 700 in asked
    assert len(asked) <= expressions.BLOCK


def test_a_composed_variable_counts_for_the_groups_of_the_same_run() -> None:
    chosen = {
        "compose": {"rack": "zk_id[0]"},
        "groups": {"in_a": "rack == 'a'"},
        "keyed_groups": [{"key": "rack", "prefix": "rack"}],
    }
    plugin = Ours(trusted(chosen), {})
    constructed(plugin, {"h1": {"zk_id": "a1"}, "h2": {"zk_id": "b1"}})
    groups = {name: [host.name for host in group.hosts] for name, group in plugin.inventory.groups.items()}
    assert (groups["in_a"], groups["rack_a"], groups["rack_b"]) == (["h1"], ["h1"], ["h2"])


def test_nothing_is_evaluated_host_by_host_unless_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("a host was evaluated on its own")

    monkeypatch.setattr(Templar, "evaluate_expression", refuse)
    monkeypatch.setattr(Templar, "evaluate_conditional", refuse)
    chosen = {
        "compose": {"c1": "zk_port + 1"},
        "groups": {"g1": "c1 > 5"},
        "keyed_groups": [{"key": "'p' ~ c1"}],
        "strict": True,
    }
    plugin = Ours(trusted(chosen), {})
    found = constructed(plugin, {f"h{number}": {"zk_port": number} for number in range(10)})
    assert found["error"] is None
    assert len(found["groups"]["g1"][0]) == 5
