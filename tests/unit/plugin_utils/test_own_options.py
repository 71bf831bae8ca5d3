"""The connection options of lookup and inventory: how templates and empty strings are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, ZooKeeperError
from ansible_collections.zoo.deploy.plugins.plugin_utils.own_options import converted
from support.inventory import run

DEFAULTS = {name: spec.get("default") for name, spec in CONNECTION_OPTIONS.items()}
VARIABLES = ["-e", "directory=/srv/no-such-directory", "-e", '{"members": ["a.invalid:1", "b.invalid:2"], "number": 5}']
NOWHERE = "/srv/no-such-directory/ca.pem"


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_an_empty_path_is_none_and_another_is_absolute(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    for given, path in (
        ("", None),
        (None, None),
        ("/a/b", "/a/b"),
        ("~/a", "/home/somebody/a"),
        ("a", f"{Path.cwd()}/a"),
    ):
        assert converted({**DEFAULTS, name: given})[name] == path
    with pytest.raises(ZooKeeperError, match=rf"^{name}: expected the path of a file, got 7$"):
        converted({**DEFAULTS, name: 7})


def test_a_number_is_a_string_where_one_is_expected() -> None:
    given = {"digest_username": "ci", "digest_password": 12345, "sasl_password": 1.5, "tls_key_password": "x"}
    found = converted({**DEFAULTS, **given})
    assert {name: found[name] for name in given} == {name: str(value) for name, value in given.items()}
    for value in (True, ["a"], {"a": 1}):
        with pytest.raises(ZooKeeperError, match=r"^digest_password: expected a string$"):
            converted({**DEFAULTS, "digest_password": value})


def read(directory: Path, **options: Any) -> str:
    """Return what is printed about an inventory file whose ensemble does not exist."""
    file = directory / "web.zk_services.yml"
    given = {"plugin": "zoo.deploy.zk_services", "hosts": "a.invalid:1", "connect_timeout": 0.1, "registries": ["/web"]}
    file.write_text(yaml.safe_dump({**given, **options}))
    return " ".join(run("ansible-inventory", "-i", str(file), "--list", *VARIABLES).stderr.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tls": True, "tls_ca": "{{ directory }}/ca.pem"}, f"tls_ca: no file at {NOWHERE}"),
        ({"tls": True, "tls_ca": "{{ '' }}"}, "can't reach ZooKeeper at a.invalid:1 within 0.1 s"),
        ({"tls": True, "tls_ca": ""}, "can't reach ZooKeeper at a.invalid:1 within 0.1 s"),
        ({"hosts": "{{ members }}"}, "can't reach ZooKeeper at a.invalid:1,b.invalid:2 within 0.1 s"),
        (
            {"hosts": "{{ lookup('ansible.builtin.env', 'NOT_SET', default='c.invalid:3') }}"},
            "can't reach ZooKeeper at c.invalid:3 within 0.1 s",
        ),
        (
            {"digest_username": "ci", "digest_password": "{{ number }}"},
            "can't reach ZooKeeper at a.invalid:1 within 0.1 s",
        ),
        ({"hosts": "{{ number }}"}, "hosts: expected host:port, or a list of such, got 5"),
    ],
)
def test_an_option_of_an_inventory_file_may_be_a_template_or_empty(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    found = read(tmp_path, **options)
    errors = [text for text in found.split("web.zk_services.yml: ") if said in text]
    assert errors
    assert all(text.startswith(said) and text.count(said) == 1 for text in errors), found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tls_ca=directory ~ '/ca.pem'", f"tls_ca: no file at {NOWHERE}"),
        ("tls_ca=''", "can't reach ZooKeeper at a.invalid:1 within 0.1 s"),
        ("tls_ca=none", "can't reach ZooKeeper at a.invalid:1 within 0.1 s"),
    ],
)
def test_an_option_of_a_lookup_may_be_a_template_or_empty(given: str, said: str) -> None:
    lookup = f"lookup('zoo.deploy.zk_znode', '/a', hosts='a.invalid:1', connect_timeout=0.1, tls=true, {given})"
    done = run("ansible", "localhost", "-m", "ansible.builtin.debug", "-a", f"msg={{{{ {lookup} }}}}", *VARIABLES)
    assert said in " ".join((done.stdout + done.stderr).split())
