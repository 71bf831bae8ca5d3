"""Everything that connects to an ensemble has the same connection options."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, environment_variable
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import _SPEC as SOURCE_SPEC
from support.inventory import run
from zoo_watcher.config.config import Connection

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
PLUGINS = [("inventory", "zk_services"), ("lookup", "zk_znode")]
RULEBOOKS = sorted((ROOT / "extensions" / "eda" / "rulebooks").glob("*.yml"))
PLAYBOOKS = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "extensions" / "eda" / "playbooks").glob("*.yml")]
AGENT = {"session_timeout", *CONNECTION_OPTIONS} - {"connect_timeout"}
"""An agent waits for its ensemble indefinitely; instead it has the timeout of its session."""
ROLE_TYPES = {"list": "raw"}
"""A role also accepts the members as a string."""
PLUGIN_TYPES = {"bool": "raw", "path": "raw"}
"""A plugin checks booleans and paths strictly itself; Ansible would treat a mistake as false."""


@functools.cache
def documented(kind: str) -> dict[str, dict[str, Any]]:
    """The options of the plugins of a kind, by name, as `ansible-doc` prints them."""
    names = MODULES if kind == "module" else [name for of, name in PLUGINS if of == kind]
    done = run("ansible-doc", "-t", kind, "--json", *(f"zoo.deploy.{name}" for name in names))
    return {name: json.loads(done.stdout)[f"zoo.deploy.{name}"]["doc"]["options"] for name in names}


def role_options(role: str) -> dict[str, Any]:
    """The options of a role's argument specification, without the role's name as their prefix."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    return {name.removeprefix(f"{role}_"): option for name, option in options.items()}


def plays(path: Path) -> list[dict[str, Any]]:
    """The plays in a file; none if it holds tasks or variables."""
    document = yaml.safe_load(path.read_text())
    entries = document if isinstance(document, list) else []
    return [entry for entry in entries if isinstance(entry, dict) and "hosts" in entry]


def test_the_options_cover_every_way_to_log_in() -> None:
    assert {"digest_username", "digest_password"} <= CONNECTION_OPTIONS.keys()
    assert CONNECTION_OPTIONS["sasl_mechanism"]["choices"] == ["DIGEST-MD5", "GSSAPI"]
    assert {f"sasl_{part}" for part in ("username", "password", "service", "principal")} <= CONNECTION_OPTIONS.keys()
    assert {f"tls_{part}" for part in ("ca", "cert", "key", "key_password")} <= CONNECTION_OPTIONS.keys()
    assert CONNECTION_OPTIONS["tls_verify"]["default"] is True
    assert CONNECTION_OPTIONS["tls_check_hostname"]["default"] is True


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_each_option_with_its_environment_variable(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.zoo.deploy.plugins.modules.{name}")
    spec = module.argument_spec()
    for option, expected in CONNECTION_OPTIONS.items():
        found = dict(spec[option])
        fallback, variables = found.pop("fallback")
        assert (found, fallback.__name__, variables) == (expected, "from_environment", [environment_variable(option)])
    assert documented("module")[name].keys() >= CONNECTION_OPTIONS.keys()


def test_every_module_is_in_the_group_of_module_defaults() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())
    assert runtime["action_groups"]["zookeeper"] == MODULES


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_has_each_option_with_its_environment_variable_and_its_variable(kind: str, name: str) -> None:
    options = documented(kind)[name]
    for option, expected in CONNECTION_OPTIONS.items():
        found = options[option]
        assert found["env"] == [{"name": environment_variable(option)}]
        assert found["vars"] == [{"name": f"zk_{option}"}]
        shape = {key: value for key, value in found.items() if key not in {"description", "env", "vars"}}
        kind = PLUGIN_TYPES.get(expected["type"], expected["type"])
        assert shape == {key: value for key, value in {**expected, "type": kind}.items() if key != "no_log"}


def test_no_other_plugin_of_the_controller_connects() -> None:
    files = [path for kind in ("inventory", "lookup") for path in (ROOT / "plugins" / kind).glob("*.py")]
    connecting = {(path.parent.name, path.stem) for path in files if "connection import" in path.read_text()}
    assert connecting == set(PLUGINS)


def test_the_event_source_has_each_option_with_its_environment_variable() -> None:
    for option, expected in CONNECTION_OPTIONS.items():
        found = dict(SOURCE_SPEC[option])
        fallback, variables = found.pop("fallback")
        assert (found, fallback.__name__, variables) == (expected, "from_environment", [environment_variable(option)])


@pytest.mark.parametrize("path", RULEBOOKS, ids=lambda path: path.stem)
def test_a_rulebook_takes_every_option_in_a_variable(path: Path) -> None:
    for rulebook in yaml.safe_load(path.read_text()):
        for source in rulebook["sources"]:
            given = source["zoo.deploy.zk_watch"]
            assert (given["hosts"], given["connection"]) == ("{{ zk_hosts }}", "{{ zk_connection | default({}) }}")


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_playbook_takes_every_option_in_a_variable(path: Path) -> None:
    for play in plays(path):
        tasks = json.dumps(play)
        if any(f'"zoo.deploy.{name}":' in tasks for name in MODULES):
            assert "_connection" in json.dumps(play.get("module_defaults", tasks))


def test_the_agent_and_its_role_have_each_option() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Connection)}
    assert fields.keys() == AGENT
    shared = AGENT - {"hosts", "session_timeout"}
    expected = {name: CONNECTION_OPTIONS[name].get("default") for name in shared}
    assert {name: fields[name] for name in shared} == expected
    _check_role("watcher", AGENT)


def test_the_git_hook_and_its_role_have_each_option() -> None:
    sys.path.insert(0, str(ROOT / "roles" / "git_hook" / "files" / "program"))
    options = importlib.import_module("zoo_git_hook.config").OPTIONS
    assert {name: options[name] for name in CONNECTION_OPTIONS} == CONNECTION_OPTIONS
    _check_role("git_hook", set(CONNECTION_OPTIONS))


def _check_role(role: str, names: set[str]) -> None:
    options = role_options(role)
    variables = yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text())
    assert names <= set(variables[f"_{role}_keys"])
    for name in names & CONNECTION_OPTIONS.keys():
        kind = CONNECTION_OPTIONS[name]["type"]
        assert options[name]["type"] in {kind, ROLE_TYPES.get(kind, kind)}, name
        assert options[name].get("choices") == CONNECTION_OPTIONS[name].get("choices")
        assert options[name].get("no_log", False) == CONNECTION_OPTIONS[name].get("no_log", False), name
