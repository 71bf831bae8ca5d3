"""Mistakes inside the variables of a role, one line each."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.zoo.deploy.plugins.filter.variable_mistakes import FilterModule, variable_mistakes
from support.playbook import ROOT

SPECIFICATIONS: dict[str, Any] = {
    name: option
    for role in ("watcher", "git_hook", "zookeeper", "loadbalancer")
    for name, option in yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())[
        "argument_specs"
    ]["main"]["options"].items()
}
SERVICE = {"path": "/service/x", "port": 80}
FILE = {"znode": "/x", "dest": "/srv/x"}


@pytest.mark.parametrize(
    ("variable", "value", "mistakes"),
    [
        ("watcher_services", [SERVICE, {**SERVICE, "port": "80", "check": {"type": "http", "command": ["a", 1]}}], []),
        ("watcher_services", [], []),
        ("watcher_services", None, []),
        ("watcher_hooks", {"after_activate": ["true"], "before_activate": None}, []),
        ("watcher_files", [FILE], []),
        ("watcher_hosts", {"a": 1}, ['watcher_hosts: expected a value of the type list, got {"a": 1}']),
        ("watcher_hosts", "zk1:2181,zk2:2181", []),
        ("watcher_log_level", "loud", ['watcher_log_level: expected one of debug, info, warning, error, got "loud"']),
        (
            "watcher_allowed_schemes",
            ["ssh", "ftp"],
            ['watcher_allowed_schemes: expected some of https, ssh, git, http, file, got ["ssh", "ftp"]'],
        ),
        ("zookeeper_sasl_users", "hidden", ["zookeeper_sasl_users: expected a value of the type dict"]),
        (
            "watcher_services",
            [{"pth": "/service/x", "port": 80}],
            [
                'watcher_services[0]: no such key "pth"; did you mean path',
                "watcher_services[0]: the key path is missing",
            ],
        ),
        (
            "watcher_services",
            [{**SERVICE, "check": {"zzz": 1}}],
            [
                'watcher_services[0].check: no such key "zzz"; expected one of '
                + ", ".join(sorted(SPECIFICATIONS["watcher_services"]["options"]["check"]["options"]))
            ],
        ),
        ("watcher_services", SERVICE, ['watcher_services: expected a list, got {"path": "/service/x", "port": 80}']),
        ("watcher_services", ["a"], ['watcher_services[0]: expected a dictionary, got "a"']),
        ("watcher_hooks", ["true"], ['watcher_hooks: expected a dictionary, got ["true"]']),
        (
            "watcher_services",
            [{**SERVICE, "port": "http"}],
            ['watcher_services[0].port: expected a value of the type int, got "http"'],
        ),
        (
            "watcher_files",
            [{**FILE, "format": "ini"}],
            ['watcher_files[0].format: expected one of value, directory, json, yaml, properties, env, got "ini"'],
        ),
        ("git_hook_branches", False, ["git_hook_branches: expected a list, got false"]),
        ("watcher_hooks", [], ["watcher_hooks: expected a dictionary, got []"]),
        (
            "watcher_files",
            [FILE, {**FILE, "validate": {"a": 1}}],
            ['watcher_files[1].validate: expected a value of the type list, got {"a": 1}'],
        ),
        (
            "git_hook_branches",
            [{"brnch": "main", "app": "/a", "relative_path": "x"}],
            [
                'git_hook_branches[0]: no such key "brnch"; did you mean branch',
                "git_hook_branches[0]: the key branch is missing",
            ],
        ),
    ],
)
def test_each_mistake_is_a_line_that_names_the_place(variable: str, value: Any, mistakes: list[str]) -> None:
    assert variable_mistakes({variable: value}, {variable: SPECIFICATIONS[variable]}) == mistakes


def test_a_required_variable_that_is_not_set_is_reported_as_missing() -> None:
    assert variable_mistakes({}, SPECIFICATIONS) == ["git_hook_repository is missing"]


@pytest.mark.parametrize(
    "value", [None, "", "text", "7", "no", "a=1", 7, 7.5, True, [], ["a", 1], [{}], {}, {"a": 1}], ids=repr
)
def test_what_ansible_would_refuse_is_refused_before_and_nothing_else_is(value: Any) -> None:
    for name, option in SPECIFICATIONS.items():
        if "options" not in option and not (value is None and option.get("required")):
            refused = ArgumentSpecValidator({name: option}).validate({name: value}).error_messages
            assert bool(variable_mistakes({name: value}, {name: option})) == bool(refused), (name, refused)


def test_what_has_options_of_its_own_is_not_checked_by_ansible_which_would_print_all_of_the_specification() -> None:
    nested = [option for option in SPECIFICATIONS.values() if "options" in option]
    assert len(nested) == 5
    assert {option.get("elements", option["type"]) for option in nested} == {"raw"}


@pytest.mark.parametrize("value", ["hook:secret", ["hook:secret"]])
def test_a_value_that_may_contain_a_secret_is_not_shown_if_it_is_not_a_dictionary(value: Any) -> None:
    option = {"type": "list", "elements": "raw", "options": {"password": {"type": "str", "no_log": True}}}
    (mistake,) = variable_mistakes({"hook_acl": value}, {"hook_acl": option})
    assert mistake in {"hook_acl: expected a list", "hook_acl[0]: expected a dictionary"}


def test_ansible_finds_it_by_its_name() -> None:
    assert FilterModule().filters() == {"variable_mistakes": variable_mistakes}
