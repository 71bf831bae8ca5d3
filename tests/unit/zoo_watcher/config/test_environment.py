"""The environment sets those options of the connection that the configuration leaves out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.connection import CONNECTION_OPTIONS, environment_variable
from zoo_watcher.config.config import Config, Connection
from zoo_watcher.config.environment import FILE_VARIABLES, SECRET_VARIABLES, WORDS, variable
from zoo_watcher.errors import ConfigError
from zoo_watcher.host.command import NOT_INHERITED

SECRETS = ["digest_password", "sasl_password", "tls_key_password"]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ZK_ variables that a test sets are set."""
    for name in list(os.environ):
        if name.startswith("ZK_"):
            monkeypatch.delenv(name)


def connection(**keys: Any) -> Connection:
    """The connection of a configuration with these keys."""
    return Config.from_object({"base": "/srv/shop", **keys}).connection


def mistakes(**keys: Any) -> list[str]:
    """What is wrong with a configuration with these keys."""
    with pytest.raises(ConfigError) as raised:
        connection(**keys)
    return str(raised.value).splitlines()


def test_every_option_has_the_same_variable_as_in_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        **{field.name: f"given-{field.name}" for field in dataclasses.fields(Connection)},
        "hosts": "zk1:2181,zk2:2181/shop",
        "session_timeout": "2.5",
        "sasl_mechanism": "GSSAPI",
        "tls": "yes",
        "tls_verify": "False",
        "tls_check_hostname": "0",
    }
    for name, value in given.items():
        monkeypatch.setenv(variable(name), value)
    expected = {**given, "session_timeout": 2.5, "tls": True, "tls_verify": False, "tls_check_hostname": False}
    assert dataclasses.asdict(connection()) == expected
    shared = CONNECTION_OPTIONS.keys() & given.keys()
    assert len(shared) == len(given) - 1
    assert [variable(name) for name in shared] == [environment_variable(name) for name in shared]


def test_the_configuration_takes_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"hosts": "zk9:2181", "tls": "perhaps", "session_timeout": "long"}.items():
        monkeypatch.setenv(variable(name), value)
    found = connection(hosts="zk1:2181", tls=False, session_timeout=7)
    assert (found.hosts, found.tls, found.session_timeout) == ("zk1:2181", False, 7)
    assert connection(hosts=None, tls=False, session_timeout=7).hosts == "zk9:2181"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in dataclasses.fields(Connection):
        monkeypatch.setenv(variable(field.name), "")
    for name in FILE_VARIABLES:
        monkeypatch.setenv(name, "")
    assert connection(hosts="zk1:2181") == Connection("zk1:2181")
    assert mistakes() == ["hosts: missing: expected the members of the ensemble as host:port,..., here or in ZK_HOSTS"]


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_true_or_false_as_in_ansible(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible.module_utils.parsing.convert_bool import boolean  # noqa: PLC0415

    monkeypatch.setenv("ZK_TLS", word.upper())
    assert connection(hosts="zk1:2181").tls is boolean(word)


@pytest.mark.parametrize(("name", "expected"), [("tls", "true or false"), ("session_timeout", "seconds")])
def test_a_variable_with_an_invalid_value_is_named(name: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable(name), "perhaps")
    assert mistakes(hosts="zk1:2181") == [f'{variable(name)}: expected {expected}, got "perhaps"']


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file_that_a_variable_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret wörd \n")
    monkeypatch.setenv(f"{variable(name)}_FILE", str(file))
    keys = {"hosts": "zk1:2181", "digest_username": "agent" if name == "digest_password" else None}
    assert getattr(connection(**keys), name) == "s3cret wörd "
    monkeypatch.setenv(variable(name), "another")
    assert getattr(connection(**keys), name) == "another"
    assert getattr(connection(**keys, **{name: "third"}), name) == "third"


def test_a_file_without_a_usable_secret_is_named_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    monkeypatch.setenv("ZK_SASL_PASSWORD_FILE", str(file))
    assert mistakes(hosts="zk1:2181") == [f"ZK_SASL_PASSWORD_FILE: {file}: No such file or directory"]
    file.write_text("\n")
    assert mistakes(hosts="zk1:2181") == [f"ZK_SASL_PASSWORD_FILE: {file} is empty"]
    file.write_bytes(b"\xff\xfes3cret")
    assert mistakes(hosts="zk1:2181") == [f"ZK_SASL_PASSWORD_FILE: {file}: not UTF-8"]
    file.unlink()
    os.mkfifo(file)
    assert mistakes(hosts="zk1:2181") == [f"ZK_SASL_PASSWORD_FILE: {file}: not a regular file"]


def test_a_missing_credential_is_taken_from_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("ZK_SASL_PASSWORD", "s3cret")
    assert [text.partition(":")[0] for text in mistakes(hosts="zk1:2181", credentials=["sasl_password"])] == [
        "credentials"
    ]


def test_no_secret_is_inherited_by_the_agents_commands() -> None:
    assert set(SECRET_VARIABLES) <= set(NOT_INHERITED)
