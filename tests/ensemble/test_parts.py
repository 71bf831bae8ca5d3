"""Every part of the collection has the same connection options; modules and plugins also read the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kazoo.security import make_acl, make_digest_acl_credential

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, environment_variable
from support.certificates import PASSWORD, Certificates
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.parts import CONFIGURED, PARTS, by_module
from support.playbook import ROOT

LOGINS = {
    "digest": {"digest_username": "reader", "digest_password": "sesame"},
    "sasl": {"sasl_mechanism": "DIGEST-MD5", "sasl_username": "reader", "sasl_password": "sesame"},
}
REFUSALS = {"digest": "permission denied (NoAuth)", "sasl": "refused the credentials"}


@pytest.fixture
def combined(certificates: Certificates, tmp_path: Path) -> dict[str, Any]:
    """The TLS options of a client whose certificate and encrypted key are in one file."""
    both = tmp_path / "both.pem"
    both.write_text(certificates.client.read_text() + certificates.locked_key.read_text())
    return {"tls": True, "tls_ca": str(certificates.ca), "tls_cert": str(both), "tls_key_password": PASSWORD}


def error_of(part: str, options: Mapping[str, Any], directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The error of a part with these options, in its configuration or in the environment."""
    if part in CONFIGURED:
        return PARTS[part](options, directory)
    for name, value in options.items():
        monkeypatch.setenv(environment_variable(name), str(value))
    return PARTS[part]({}, directory)


@pytest.mark.parametrize("part", PARTS)
def test_it_speaks_tls_with_certificate_and_key_in_one_file(
    part: str, tls_ensemble: Ensemble, combined: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"hosts": tls_ensemble.secure_hosts, **combined}
    assert error_of(part, options, tmp_path, monkeypatch) == ""


@pytest.mark.parametrize("part", PARTS)
def test_it_checks_the_host_name_unless_told_otherwise(
    part: str, tls_ensemble: Ensemble, combined: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = tls_ensemble.secure_hosts.replace("localhost", "127.0.0.1")
    assert "not valid for '127.0.0.1'" in error_of(part, {"hosts": address, **combined}, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def sasl_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A server where `reader` can log in by SASL."""
    with Ensemble.with_sasl(tmp_path_factory.mktemp("sasl-ensemble"), {"reader": "sesame"}) as servers:
        yield servers


@pytest.mark.parametrize("scheme", LOGINS)
@pytest.mark.parametrize("part", PARTS)
def test_it_logs_in(
    part: str, scheme: str, sasl_ensemble: Ensemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"hosts": sasl_ensemble.hosts, **LOGINS[scheme]}
    assert error_of(part, options, tmp_path, monkeypatch) == ""


@pytest.mark.parametrize("scheme", LOGINS)
def test_a_login_from_the_environment_is_used(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ensemble.with_sasl(tmp_path / "zk", {"reader": "sesame"}) as servers, connected(servers.hosts) as zk:
        for name, value in {"hosts": servers.hosts, **LOGINS[scheme]}.items():
            monkeypatch.setenv(environment_variable(name), value)
        identity = make_digest_acl_credential("reader", "sesame") if scheme == "digest" else "reader"
        zk.create("/kept", acl=[make_acl(scheme, identity, read=True)])
        assert by_module("zk_znode_info", {}, path="/kept") == ""
        monkeypatch.setenv(environment_variable(f"{scheme}_password"), "another-word")
        told = by_module("zk_znode_info", {}, path="/kept")
        assert REFUSALS[scheme] in told
        assert "another-word" not in told


@pytest.mark.parametrize("name", ["tls", "tls_verify", "connect_timeout", "sasl_mechanism"])
def test_a_variable_with_an_invalid_value_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment_variable(name), "perhaps")
    told = run_module(ROOT / "plugins" / "modules" / "zk_znode_info.py", hosts="localhost:1", path="/")["msg"]
    assert name in told
    assert "\n" not in told


@pytest.mark.parametrize("name", ["tls", "tls_verify", "tls_check_hostname"])
@pytest.mark.parametrize("part", ["lookup", "inventory"])
def test_a_plugin_accepts_only_a_boolean_for_a_boolean_option(
    part: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = f"{name}: expected true or false, got 'perhaps'"
    assert refusal in error_of(part, {"hosts": "localhost:1", name: "perhaps"}, tmp_path, monkeypatch)
    monkeypatch.setenv(environment_variable(name), "true")
    assert refusal in PARTS[part]({name: "perhaps"}, tmp_path)


def test_an_inventory_takes_a_boolean_from_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY", "ture")
    template = "{{ lookup('ansible.builtin.env', 'VERIFY') }}"
    options = {"hosts": "localhost:1", "tls": "{{ 1 == 1 }}", "tls_verify": template}
    assert "tls_verify: expected true or false, got 'ture'" in PARTS["inventory"](options, tmp_path)
    monkeypatch.setenv("VERIFY", "no")
    assert "can't reach ZooKeeper at localhost:1" in PARTS["inventory"](options, tmp_path)


@pytest.mark.parametrize("part", [part for part in PARTS if part not in CONFIGURED | {"zk_ensemble_info"}])
def test_an_empty_variable_counts_as_unset(
    part: str, tls_ensemble: Ensemble, combined: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = dict.fromkeys(CONNECTION_OPTIONS.keys() - {"hosts", *combined}, "")
    given = {**empty, **combined, "hosts": tls_ensemble.secure_hosts}
    assert error_of(part, given, tmp_path, monkeypatch) == ""
    elsewhere = {**given, "hosts": tls_ensemble.secure_hosts.replace("localhost", "127.0.0.1")}
    assert "not valid for '127.0.0.1'" in error_of(part, elsewhere, tmp_path, monkeypatch)
