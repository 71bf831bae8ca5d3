"""What `zoo_watcher check` reports about a connection before any server is contacted."""

from __future__ import annotations

import errno
import json
import re
import ssl
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from kazoo.protocol.connection import ConnectionHandler

from zoo_watcher.config.config import Connection
from zoo_watcher.errors import ConfigError
from zoo_watcher.host.shortage import comes_of_shortage
from zoo_watcher.zookeeper import kazoo_client
from zoo_watcher.zookeeper.kazoo_client import check_connection, new_client


def mistakes(hosts: str = "zk1:2181", **given: Any) -> list[str]:
    """The mistakes of a connection, for which a client is refused too."""
    connection = Connection(hosts, **given)
    with pytest.raises(ConfigError) as raised:
        check_connection(connection)
    with pytest.raises(ConfigError) as refused:
        new_client(connection, None)
    assert refused.value.mistakes == raised.value.mistakes
    assert not any("\n" in mistake for mistake in raised.value.mistakes)
    return raised.value.mistakes


def test_each_tls_file_that_is_wrong_has_a_line_of_its_own(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no certificate")
    authority, certificate = mistakes(tls=True, tls_ca=str(nonsense), tls_cert=str(nonsense))
    assert authority.startswith(f"tls_ca: no certificates in PEM form in {nonsense}: ")
    assert certificate.startswith("tls_cert, tls_key or tls_key_password: can't be read, or don't match: ")
    missing = str(tmp_path / "missing.pem")
    assert mistakes(tls=True, tls_ca=missing, tls_cert=str(nonsense), tls_key=missing) == [
        f"tls_ca: no file at {missing}",
        f"tls_key: no file at {missing}",
    ]


def test_a_tls_file_that_cannot_be_opened_now_counts_as_a_lack_of_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(_context: ssl.SSLContext, path: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files", path)

    (tmp_path / "ca.pem").touch()
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", starve)
    with pytest.raises(ConfigError) as raised:
        check_connection(Connection("zk1:2181", tls=True, tls_ca=str(tmp_path / "ca.pem"), tls_cert="/none"))
    assert comes_of_shortage(raised.value)
    assert len(raised.value.mistakes) == 2


def test_tls_options_without_tls_are_refused() -> None:
    assert mistakes(tls_ca="/none", tls_verify=False) == [
        "tls_ca, tls_verify: given without tls, so nothing would be encrypted; set tls: true"
    ]


def test_an_impossible_login_is_noticed_before_a_server_refuses_it() -> None:
    assert mistakes(sasl_mechanism="DIGEST-MD5", sasl_username="agent") == [
        "sasl_username and sasl_password: DIGEST-MD5 needs both"
    ]


@pytest.mark.parametrize(
    ("hosts", "line"),
    [
        ("a:1/x,b:2", "hosts: expected one chroot, after the last member, got 'a:1/x,b:2'"),
        ("zk1:2181/../x", "hosts: relative paths not allowed"),
        ("/chroot", "hosts: expected a member before the chroot, got '/chroot'"),
        (":2181", "hosts: bad hostname"),
        ("zk1:2181,zk2:0/x", "hosts: expected host:port with a port from 1 to 65535, got 'zk2:0'"),
        ("[::1]:0", "hosts: expected host:port with a port from 1 to 65535, got '[::1]:0'"),
        ("zk1:65536", "hosts: expected host:port with a port from 1 to 65535, got 'zk1:65536'"),
        ("zk1:-1", "hosts: expected host:port with a port from 1 to 65535, got 'zk1:-1'"),
        ("zk1:one", "hosts: expected host:port with a port from 1 to 65535, got 'zk1:one'"),
        ("zk1:2181,zk..2:2181", "hosts: 'zk..2:2181' is not a host name"),
        (f"{'z' * 64}:2181", f"hosts: '{'z' * 64}:2181' is not a host name"),
    ],
)
def test_hosts_that_would_end_kazoos_thread_are_refused(hosts: str, line: str) -> None:
    assert mistakes(hosts) == [line]


def test_without_kazoo_there_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "agent.json"
    config.write_text(json.dumps({"hosts": "zk1:2181", "base": str(tmp_path)}))
    hide = "import sys; sys.modules['kazoo'] = None; import runpy; runpy.run_module('zoo_watcher', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", hide, "check", "--config", str(config)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"{config}: the Python library kazoo is missing; install it for {sys.executable}\n")


def test_the_command_prints_the_mistakes_and_no_secret(tmp_path: Path) -> None:
    config = tmp_path / "agent.json"
    key = tmp_path / "agent.key"
    key.write_text("no key")
    tls = {"tls": True, "tls_ca": "/none/ca.pem", "tls_cert": str(key), "tls_key_password": "sesame"}
    config.write_text(json.dumps({"hosts": "zk1:2181", "base": str(tmp_path), **tls}))
    done = subprocess.run(
        [sys.executable, "-m", "zoo_watcher", "check", "--config", str(config)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "tls_ca",
        "tls_cert, tls_key or tls_key_password",
    ]
    assert "sesame" not in done.stderr


def test_a_kazoo_that_lacks_what_the_agent_uses_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ConnectionHandler, "_expand_client_hosts")
    lacks = f"kazoo {version('kazoo')} lacks _connection._expand_client_hosts, which the agent needs"
    assert mistakes() == [f"{lacks}; install kazoo>=2.8,<3"]


def test_what_a_client_lacks_is_named_even_if_it_has_no_connection() -> None:
    missing = kazoo_client.missing_attributes(object())
    assert missing == [
        ".".join(filter(None, [owner, name])) for owner, names in kazoo_client.PRIVATE.items() for name in names
    ]


def test_every_private_attribute_of_kazoos_that_is_used_is_checked() -> None:
    used = set()
    for path in Path(kazoo_client.__file__).parent.glob("*.py"):
        used |= set(re.findall(r"(?:\bclient|_handler|\bconnection)\.(_[a-z]\w+)", path.read_text()))
    assert used - {name for names in kazoo_client.PRIVATE.values() for name in names} == set()


def test_the_versions_that_are_installed_are_among_those_that_work() -> None:
    root = Path(__file__).resolve().parents[4]
    for place in ("pyproject.toml", "roles/watcher/defaults/main.yml"):
        assert f"kazoo>=2.9,{kazoo_client.KAZOO_RANGE.split(',')[1]}" in (root / place).read_text()
