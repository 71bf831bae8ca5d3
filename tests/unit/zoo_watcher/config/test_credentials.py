"""Credentials that systemd passes to the agent replace keys of its configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.errors import ConfigError

NAMES = "digest_password, sasl_password, tls_key_password, tls_cert, tls_key"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the unit's credentials."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def read(credentials: Any, **keys: Any) -> Config:
    """The configuration with these credentials and keys."""
    return Config.from_object({"hosts": "zk1:2181", "base": "/srv/shop", "credentials": credentials, **keys})


def mistakes(credentials: Any, **keys: Any) -> list[str]:
    """What is wrong with the configuration with these credentials and keys."""
    with pytest.raises(ConfigError) as raised:
        read(credentials, **keys)
    return str(raised.value).splitlines()


@pytest.mark.parametrize("name", ["digest_password", "sasl_password", "tls_key_password"])
def test_a_secret_is_what_its_file_holds_without_a_newline_at_the_end(directory: Path, name: str) -> None:
    (directory / name).write_text("s3cret wörd \n")
    connection = read([name], digest_username="agent" if name == "digest_password" else None).connection
    assert getattr(connection, name) == "s3cret wörd "
    assert "s3cret" not in repr(connection)


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_a_file_is_read_where_systemd_has_put_it(directory: Path, name: str) -> None:
    (directory / name).write_bytes(b"PEM")
    assert getattr(read([name], tls=True).connection, name) == str(directory / name)


def test_without_credentials_no_directory_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert read([]).connection.digest_password is None
    said = "credentials: CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential="
    assert said in mistakes(["tls_key"])


def test_a_missing_credential_is_named_with_its_path(directory: Path) -> None:
    assert f"credentials: {directory}/tls_key: No such file or directory" in mistakes(["tls_key"])


def test_a_fifo_in_place_of_a_credential_is_named_and_not_waited_for(directory: Path) -> None:
    os.mkfifo(directory / "tls_key_password")
    said = f"credentials: {directory}/tls_key_password: not a regular file"
    assert said in mistakes(["tls_key_password"])


def test_a_credential_that_is_empty_or_not_text_is_refused_and_not_shown(directory: Path) -> None:
    (directory / "sasl_password").write_bytes(b"\n")
    assert "sasl_password: expected a string" in mistakes(["sasl_password"])
    (directory / "sasl_password").write_bytes(b"\xff\xfes3cret")
    assert f"credentials: {directory}/sasl_password: not UTF-8" in mistakes(["sasl_password"])


def test_a_credential_that_the_configuration_also_has_is_refused(directory: Path) -> None:
    (directory / "sasl_password").write_text("s3cret")
    said = mistakes(["sasl_password"], sasl_password="another")
    assert said == ["sasl_password: given here, and among the credentials; leave one of them out"]


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("given", ["tls_key", ["hosts"], [7], ["ssh_key"], {"tls_key": "/etc/key"}])
def test_nothing_else_can_be_a_credential(given: Any) -> None:
    assert mistakes(given)[0].startswith(f"credentials: expected a list of {NAMES}, got ")
