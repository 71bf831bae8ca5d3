"""The ports git needs, what is hidden from it, and that a host which can't confine it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.host import landlock
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import apply_process
from zoo_watcher.releases.confinement import confine, connected_ports

WEB = {53, 80, 443}
PORTS: list[tuple[list[str], dict[str, str], set[int] | None]] = [
    ([], {}, set()),
    (["file:///srv/site.git", "/srv/site.git"], {}, set()),
    (["https://git.example.org/site.git"], {}, WEB),
    (["http://git.example.org:8080/site.git"], {}, WEB | {8080}),
    (["https://mirror.example.org:8443/site.git", "git://git.example.org/site.git"], {}, WEB | {8443, 9418}),
    (["git://git.example.org:9419/site.git"], {}, {53, 9419}),
    (["git://git.example.org/site.git"], {"GIT_PROXY_COMMAND": "connect"}, None),
    (["https://git.example.org/site.git"], {"https_proxy": "http://proxy.example.org:3128"}, WEB | {3128}),
    (["https://git.example.org/site.git"], {"ALL_PROXY": "proxy.example.org", "no_proxy": "localhost:1"}, WEB | {1080}),
    (["https://git.example.org/site.git"], {"https_proxy": "http://proxy.example.org:port"}, None),
    (["https://git.example.org:port/site.git"], {}, None),
    (["ftp://git.example.org/site.git"], {}, None),
    (["ssh://git@git.example.org/site.git"], {}, {22, 53}),
    (["ssh://git@git.example.org:2222/site.git"], {}, {53, 2222}),
    (["git@git.example.org:site.git"], {}, {22, 53}),
    (["short:site.git"], {}, {53, 2200}),
    (["ssh://short/site.git", "https://git.example.org/site.git"], {}, WEB | {2200}),
    (["ssh://inner/site.git"], {}, None),
    (["ssh://tunnel/site.git"], {}, None),
]
SSH = """\
Host short
    HostName git.example.org
    Port 2200
Host inner
    ProxyJump gate
Host tunnel
    ProxyCommand connect %h
"""


@pytest.mark.parametrize(("addresses", "environment", "ports"), PORTS)
def test_git_needs_the_ports_of_its_servers_and_proxies(
    tmp_path: Path, addresses: list[str], environment: dict[str, str], ports: set[int] | None
) -> None:
    (tmp_path / "config").write_text(SSH)
    assert connected_ports(addresses, f"ssh -F {tmp_path}/config", environment) == ports


def test_any_port_is_allowed_where_ssh_does_not_report_its_port() -> None:
    assert connected_ports(["git@git.example.org:site.git"], "false", {}) is None
    assert connected_ports(["git@git.example.org:site.git"], "/nowhere/ssh", {}) is None


def test_credentials_session_and_configuration_are_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*apply_process.NOT_FOR_GIT, "KRB5CCNAME", "KRB5_CLIENT_KTNAME"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "agent.json"
    file.write_text(f'{{"hosts": "zk1", "base": "{tmp_path}/base"}}')
    (tmp_path / "agent.json.old").touch()
    config = Config.from_file(str(file))
    assert apply_process.secrets(config) == [str(file), f"{file}.old"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/agent")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/agent")
    monkeypatch.setenv("ZK_DIGEST_PASSWORD_FILE", "/run/secrets/zookeeper")
    named = ["/run/credentials/agent", "/run/agent", "/run/secrets/zookeeper"]
    assert apply_process.secrets(config) == [*named, str(file), f"{file}.old"]
    assert not set(apply_process.NOT_FOR_GIT) & apply_process._environment().keys()


def test_a_secret_is_hidden_even_where_its_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current directory of the apply process is the root, and not the agent's."""
    monkeypatch.chdir(tmp_path)
    for name in apply_process.NOT_FOR_GIT:
        monkeypatch.delenv(name, raising=False)
    keys = {"hosts": "zk1", "base": "/srv/app", "tls": True, "tls_cert": "agent.pem"}
    monkeypatch.setenv("ZK_DIGEST_PASSWORD_FILE", "password")
    config = Config.from_object({**keys, "digest_username": "agent", "digest_password": "x"})
    assert apply_process.secrets(config) == [str(tmp_path / "password"), str(tmp_path / "agent.pem")]


def test_keys_and_tickets_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in apply_process.NOT_FOR_GIT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KRB5CCNAME", "FILE:/run/tickets")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", "/etc/agent.keytab")
    monkeypatch.setattr("os.getuid", lambda: 990)
    keys = {"hosts": "zk1", "base": "/srv/app", "tls": True, "tls_cert": "/etc/agent.pem", "tls_key": "/etc/agent.key"}
    monkeypatch.setattr("zoo_watcher.config.config.os.path.isfile", lambda _path: True)
    assert apply_process.secrets(Config.from_object(keys)) == ["/etc/agent.pem", "/etc/agent.key"]
    kerberos = Config.from_object({**keys, "sasl_mechanism": "GSSAPI"})
    tickets = ["/run/tickets", "/etc/agent.keytab", "/tmp/krb5cc_990"]
    assert apply_process.secrets(kerberos) == [*tickets, "/etc/agent.pem", "/etc/agent.key"]


def test_what_the_kernel_cannot_confine_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    monkeypatch.setattr(landlock, "confine", lambda *words: taken.append(words))
    answers = {}
    for present in (0, 3, 4):
        monkeypatch.setattr(landlock, "version", lambda present=present: present)
        answers[present] = [confine(Layout(tmp_path), [], [], ports) for ports in (None, {443})]
    none = "the kernel has no Landlock (from 5.19 on, where it is on), so git could read what the agent may read"
    no_ports = "the kernel's Landlock knows no ports (from 6.7 on), so git could connect to any server"
    assert answers == {0: [none, none], 3: ["", no_ports], 4: ["", ""]}
    assert len(taken) == 4


def test_what_an_apply_process_reports_about_its_rights_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    apply_process._note_unconfined.cache_clear()
    for why in ("no Landlock", "no Landlock"):
        apply_process._note_unconfined(why)
    assert caplog.messages == ["the apply process keeps more rights than it needs: no Landlock"]
    apply_process._note_unconfined.cache_clear()
