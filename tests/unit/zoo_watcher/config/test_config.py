"""The agent's configuration file: what is accepted, what is refused, and what the `check` command prints."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.agent import SOURCE
from zoo_watcher.config.config import Config
from zoo_watcher.errors import ConfigError

SMALLEST = {"hosts": "zk1:2181", "base": "/srv"}
SERVICE = {"path": "/service/web", "port": 80}
KEPT = {"znode": "/a", "dest": "/etc/a"}
KEYS = (
    *("hosts", "base", "name", "app", "services", "allowed_schemes", "allowed_urls", "keep_releases", "health_timeout"),
    *("fetch_timeout", "log_level", "session_timeout", "digest_username", "digest_password", "tls", "tls_ca"),
    *("files", "znode", "dest", "mode", "owner", "validate", "restart_units", "on_delete", "min_interval"),
    *("sasl_mechanism", "sasl_password", "path", "id", "port", "address", "format", "check", "type", "rise", "body"),
)
TEXT = st.one_of(
    st.text(), st.sampled_from(("/a", "/a/../b", "/", "a:1,b:2/c", "tcp", "http", "file", "\x00", "\ud800", "\n"))
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXT), inner, max_size=6)
    ),
    max_leaves=20,
)
OBJECTS = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(KEYS), TEXT), JSON, max_size=10),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4).map(lambda document: {**SMALLEST, **document}),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4).map(
        lambda document: {**SMALLEST, "services": [{**SERVICE, "check": document, **document}]}
    ),
    st.lists(st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4), max_size=3).map(
        lambda document: {**SMALLEST, "files": [{**KEPT, **entry} for entry in document]}
    ),
)


def mistakes(**changes: Any) -> list[str]:
    """The mistakes that are reported for the smallest configuration with these changes."""
    with pytest.raises(ConfigError) as refused:
        Config.from_object({**SMALLEST, **changes})
    return refused.value.mistakes


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """Run the `check` command on a file."""
    return run("check", path)


def run(command: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the agent's commands on a configuration file."""
    return subprocess.run(
        [sys.executable, "-m", "zoo_watcher", command, "--config", str(path)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_hosts_and_base_are_enough() -> None:
    config = Config.from_object(SMALLEST)
    assert config.name == socket.gethostname()
    assert config.app.root == "/app/business"
    assert config.services == ()
    assert (config.allowed_schemes, config.allowed_urls) == (("https", "ssh"), ())


def test_a_list_of_hosts_is_one_connection_string() -> None:
    config = Config.from_object({**SMALLEST, "hosts": ["a:1", "b:2", "c:3/chroot"]})
    assert config.connection.hosts == "a:1,b:2,c:3/chroot"


def test_a_service_is_checked_on_its_own_port_and_named_after_the_host_unless_told_otherwise() -> None:
    plain, full = Config.from_object(
        {
            **SMALLEST,
            "name": "web1",
            "services": [SERVICE, {**SERVICE, "id": "other", "check": {"type": "http", "port": 81, "path": "/up"}}],
        }
    ).services
    assert (plain.id, plain.format, plain.check.type, plain.check.port) == ("web1", "seed", "tcp", 80)
    assert (full.id, full.check.type, full.check.port, full.check.path) == ("other", "http", 81, "/up")


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"hosts": None}, "hosts", "missing"),
        ({"hosts": " , "}, "hosts", "missing"),
        ({"hosts": 2181}, "hosts", "2181"),
        ({"hosts": ["a", 1]}, "hosts", "list of strings"),
        ({"base": None}, "base", "missing"),
        ({"base": "srv/app"}, "base", "absolute"),
        ({"base": "/"}, "base", "root directory"),
        ({"base": "//srv/.."}, "base", "root directory"),
        ({"app": "app/business"}, "app", "begins with /"),
        ({"app": "/"}, "app", "/app/business"),
        ({"app": "/a//b"}, "app", "/a//b"),
        ({"app": "/a/../b"}, "app", ".."),
        ({"name": "a/b"}, "name", "a/b"),
        ({"name": ".."}, "name", ".."),
        ({"name": 7}, "name", "a string"),
        ({"allowed_schemes": ["ext"]}, "allowed_schemes", "ext"),
        ({"allowed_schemes": []}, "allowed_schemes", "https"),
        ({"allowed_schemes": "https"}, "allowed_schemes", "a list"),
        ({"allowed_urls": []}, "allowed_urls", "or no such key"),
        ({"allowed_urls": "https://git.example.org/"}, "allowed_urls", "a list of beginnings of addresses"),
        ({"allowed_urls": [7]}, "allowed_urls", "a list of beginnings of addresses"),
        ({"allowed_urls": [""]}, "allowed_urls", "a list of beginnings of addresses"),
        ({"allowed_urls": ["https://a/../b"]}, "allowed_urls", 'no ".." in its path'),
        ({"allowed_urls": ["https://a/", "git://a/"]}, "allowed_urls", "git is not in allowed_schemes"),
        ({"allowed_urls": ["https://token@a/"]}, "allowed_urls", "carries a user name, perhaps a token"),
        ({"allowed_urls": ["https://a\n"]}, "allowed_urls", "no control character"),
        ({"allow_outside_symlinks": "yes"}, "allow_outside_symlinks", "true or false"),
        ({"keep_releases": 1}, "keep_releases", "from 2"),
        ({"keep_releases": True}, "keep_releases", "true"),
        ({"keep_releases": 2.5}, "keep_releases", "2.5"),
        ({"health_timeout": "30"}, "health_timeout", "seconds"),
        ({"health_timeout": float("nan")}, "health_timeout", "NaN"),
        ({"healthy_for": -1}, "healthy_for", "-1"),
        ({"fetch_timeout": 0}, "fetch_timeout", "0"),
        ({"session_timeout": -1}, "session_timeout", "-1"),
        *(
            ({"metrics_address": address}, "metrics_address", "expected an IP address")
            for address in ("localhost", "monitoring.example.com", "127.0.0.1:9464", "\u0661.0.0.1", "::1\0")
        ),
        ({"log_level": "loud"}, "log_level", "debug, info"),
        ({"tls": "yes"}, "tls", "true or false"),
        ({"sasl_mechanism": "PLAIN"}, "sasl_mechanism", "DIGEST-MD5"),
        ({"digest_username": "agent"}, "digest_username", "digest_password"),
        ({"services": {}}, "services", "a list of objects"),
        ({"services": ["web"]}, "services", "a list of objects"),
        ({"services": [{"port": 80}]}, "services[0].path", "missing"),
        ({"services": [SERVICE, {"path": "/x"}]}, "services[1].port", "missing"),
        ({"services": [{**SERVICE, "port": 65536}]}, "services[0].port", "65536"),
        ({"services": [{**SERVICE, "port": "80"}]}, "services[0].port", '"80"'),
        ({"services": [{**SERVICE, "path": "web"}]}, "services[0].path", "begins with /"),
        ({"services": [{**SERVICE, "id": "a/b"}]}, "services[0].id", "a/b"),
        ({"services": [{**SERVICE, "address": "web 1"}]}, "services[0].address", "an IP address"),
        ({"services": [{**SERVICE, "address": "192.0.2.7\n"}]}, "services[0].address", "an IP address"),
        ({"services": [{**SERVICE, "address": "[2001:db8::1]"}]}, "services[0].address", "an IP address"),
        ({"services": [{**SERVICE, "address": "a" * 256}]}, "services[0].address", "an IP address"),
        *(
            (
                {"services": [{**SERVICE, "check": {"type": kind, "path": path}}]},
                "services[0].check.path",
                "begins with /",
            )
            for kind, path in (
                ("http", "up"),
                ("https", "/a b"),
                ("http", "/\u00fc"),
                ("http", "/a\r\nX: y"),
                ("http", "*"),
            )
        ),
        ({"services": [{**SERVICE, "format": "xml"}]}, "services[0].format", "nerve"),
        ({"services": [{**SERVICE, "chek": {}}]}, "services[0].chek", "no such key"),
        ({"services": [{**SERVICE, "check": "tcp"}]}, "services[0].check", "an object"),
        ({"services": [{**SERVICE, "check": {"type": "udp"}}]}, "services[0].check.type", "tcp, http"),
        ({"services": [{**SERVICE, "check": {"tls_server_name": "web"}}]}, "services[0].check.tls_server_name", "tcp"),
        ({"services": [{**SERVICE, "check": {"rise": 0}}]}, "services[0].check.rise", "0"),
        ({"services": [SERVICE, SERVICE]}, "services", "two with the path /service/web"),
        *(
            ({"services": [{**SERVICE, "path": path, "id": "web1"}]}, "services", f"belongs to the {name}")
            for name in ("config", "history", "policy", "rollouts", "bad", "agents", "roster", "lock")
            for path in (f"/app/business/{name}", f"/app/business/{name}/7")
        ),
        ({"services": [{**SERVICE, "path": "/app/business", "id": "lock"}]}, "services", "belongs to the lock"),
        ({"services": [{**SERVICE, "path": "/app", "id": "business"}]}, "services", "of the application itself"),
        ({"services": [{**SERVICE, "path": "/", "id": "app"}]}, "services", "/app is above /app/business"),
        ({"services": [{**SERVICE, "path": "/zookeeper"}]}, "services", "belongs to ZooKeeper itself; choose another"),
        ({"app": "/zookeeper"}, "app", "/zookeeper belongs to ZooKeeper itself"),
        ({"files": {}}, "files", "a list"),
        ({"files": [KEPT] * 1001}, "files", "at most 1000"),
        ({"files": ["/etc/a"]}, "files", "objects"),
        ({"files": [{"dest": "/etc/a"}]}, "files[0].znode", "missing"),
        ({"files": [{"znode": "/a"}]}, "files[0].dest", "missing"),
        ({"files": [{**KEPT, "znode": "a"}]}, "files[0].znode", "begins with /"),
        ({"files": [{**KEPT, "znode": "/a/../b"}]}, "files[0].znode", ".."),
        ({"files": [{**KEPT, "dest": "etc/a"}]}, "files[0].dest", "absolute"),
        ({"files": [{**KEPT, "dest": "/etc/../a"}]}, "files[0].dest", "normalised"),
        ({"files": [{**KEPT, "dest": "/etc/a/"}]}, "files[0].dest", "normalised"),
        ({"files": [{**KEPT, "dest": "/etc/a\nb"}]}, "files[0].dest", "control"),
        ({"files": [{**KEPT, "dest": "/"}]}, "files[0].dest", "absolute"),
        ({"files": [{**KEPT, "dest": "/srv/.zoo/status.json"}]}, "files[0].dest", "agent's own directory"),
        ({"files": [{**KEPT, "dest": "/srv", "format": "directory"}]}, "files[0].dest", "agent's own directory"),
        (
            {"base": "/srv/./x//", "files": [{**KEPT, "dest": "/srv/x/.zoo/y"}]},
            "files[0].dest",
            "agent's own directory",
        ),
        ({"base": "//srv", "files": [{**KEPT, "dest": "/srv/.zoo/y"}]}, "files[0].dest", "agent's own directory"),
        ({"files": [{**KEPT, "dest": "//srv/.zoo/y"}]}, "files[0].dest", "agent's own directory"),
        ({"files": [KEPT, KEPT]}, "files[1].dest", "of another file too"),
        ({"files": [{**KEPT, "format": "directory"}, {**KEPT, "dest": "/etc/a/b"}]}, "files[1].dest", "in the other"),
        ({"files": [{**KEPT, "format": "xml"}]}, "files[0].format", "directory"),
        ({"files": [{**KEPT, "mode": "644 "}]}, "files[0].mode", '"0640"'),
        ({"files": [{**KEPT, "mode": 420}]}, "files[0].mode", "as a string"),
        ({"files": [{**KEPT, "mode": "04755"}]}, "files[0].mode", '"0640"'),
        ({"files": [{**KEPT, "owner": 0}]}, "files[0].owner", "a string"),
        ({"files": [{**KEPT, "validate": "nginx -t"}]}, "files[0].validate", "list of words"),
        ({"files": [{**KEPT, "validate": ["nginx", "-t"]}]}, "files[0].validate", "%s"),
        ({"files": [{**KEPT, "on_change": []}]}, "files[0].on_change", "list of words"),
        ({"files": [{**KEPT, "restart_units": ["nginx"]}]}, "files[0].restart_units", "nginx.service"),
        ({"files": [{**KEPT, "on_delete": "drop"}]}, "files[0].on_delete", "keep, remove"),
        ({"files": [{**KEPT, "min_interval": -1}]}, "files[0].min_interval", "seconds"),
        ({"files": [{**KEPT, "znodes": "/a"}]}, "files[0].znodes", "no such key"),
        (
            {"name": "me", "files": [{**KEPT, "znode": "/app/business", "format": "json"}]},
            "files[0].znode",
            "own status",
        ),
        ({"git_mirrors": ["https://a/"]}, "git_mirrors", "an object of mirrors"),
        ({"git_mirrors": {"https://a/": "https://token@b/"}}, "git_mirrors", "carries a user name, perhaps a token"),
        ({"git_mirrors": {"https://a/": "ssh://u:pw@b/"}}, "git_mirrors", "carries a password"),
        ({"git_mirrors": {"https://a/": "-x"}}, "git_mirrors", "no leading dash"),
        ({"git_mirrors": {"https://a/": "SSH://b/"}}, "git_mirrors", "expected ssh:// as git has it"),
        ({"git_mirrors": {"https://a/": "http://b/"}}, "git_mirrors", "http is not in allowed_schemes"),
        ({"labels": ["zone"]}, "labels", "an object of at most 64 one-line strings"),
        ({"labels": {"rack": 17}}, "labels", 'such as {"zone": "a"}'),
        ({"labels": {"zone": ""}}, "labels", "one-line strings"),
        ({"labels": {"": "a"}}, "labels", "one-line strings"),
        ({"labels": {"zone": "a\nb"}}, "labels", "one-line strings"),
        ({"labels": {"zone": "a" * 256}}, "labels", "one-line strings"),
        ({"labels": {str(number): "a" for number in range(65)}}, "labels", "at most 64"),
        ({"keep_relases": 3}, "keep_relases", "no such key"),
        ({"two\nlines": 3}, '"two\\nlines"', "no such key"),
    ],
)
def test_a_mistake_is_named_by_its_key(changes: dict[str, Any], key: str, text: str) -> None:
    (mistake,) = mistakes(**changes)
    assert mistake.startswith(f"{key}: ")
    assert text in mistake
    assert "\n" not in mistake


def test_all_mistakes_are_reported_together() -> None:
    lines = mistakes(base="here", keep_releases=0, nonsense=1, services=[{"port": 0, "check": {"fall": "x"}}])
    assert [mistake.split(":")[0] for mistake in lines] == [
        "base",
        "services[0].path",
        "services[0].port",
        "services[0].check.fall",
        "keep_releases",
        "nonsense",
    ]


@pytest.mark.parametrize("key", ["digest_password", "sasl_password", "tls_key_password"])
def test_no_mistake_and_no_repr_shows_a_password(key: str) -> None:
    assert "secret" not in "".join(mistakes(**{key: ["secret"]}))
    config = Config.from_object({**SMALLEST, "digest_username": "agent", "digest_password": "x", key: "secret"})
    assert "secret" not in repr(config)


@pytest.mark.parametrize("base", ["/srv/\x00", "/srv/\ud800"])
def test_a_base_that_no_file_system_can_have_is_a_mistake(base: str) -> None:
    (mistake,) = mistakes(base=base)
    assert mistake.startswith("base: ")


@pytest.mark.parametrize("hosts", ["zk1:port", "zk1:99999999"])
def test_an_invalid_port_of_the_ensemble_is_a_mistake(hosts: str) -> None:
    (mistake,) = mistakes(hosts=hosts)
    assert mistake.startswith("hosts: ")


@pytest.mark.parametrize("hosts", ["zk1", "zk1:2181, zk2:2181/chroot", "[::1]:2181", "[::1]", "::1", "10.0.0.1:1"])
def test_every_form_of_an_ensembles_address_is_accepted(hosts: str) -> None:
    assert Config.from_object({**SMALLEST, "hosts": hosts}).connection.hosts == hosts


@given(OBJECTS)
def test_every_json_object_yields_a_configuration_or_its_mistakes(document: dict[str, Any]) -> None:
    config, problems = taken(document)
    assert (config is None) == bool(problems)
    assert all("\n" not in mistake for mistake in problems)
    if config is not None:
        assert config.base.is_absolute()
        assert config.connection.hosts


def taken(document: dict[str, Any]) -> tuple[Config | None, list[str]]:
    """The configuration in an object, or its mistakes."""
    try:
        return Config.from_object(document), []
    except ConfigError as exc:
        return None, exc.mistakes


def test_check_says_that_a_valid_file_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({**SMALLEST, "name": "web1"}))
    done = check(file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{file}: valid, app=/app/business base=/srv name=web1\n"


def test_check_names_every_mistake_on_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"base": "here", "nonsense": 1}))
    done = check(file)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [[str(file), key] for key in ("base", "hosts", "nonsense")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file or directory"),
        (b"{'hosts': 1}", "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 10_000, "not JSON"),
    ],
)
def test_a_file_that_is_not_a_configuration_gives_one_line_and_exit_status_2(
    tmp_path: Path, content: bytes | None, text: str
) -> None:
    file = tmp_path / "agent.json"
    if content is not None:
        file.write_bytes(content)
    for command in ("check", "run"):
        done = run(command, file)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert text in line


def test_a_base_that_cannot_be_created_gives_one_line_and_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({**SMALLEST, "base": str(tmp_path / "file" / "base")}))
    done = run("run", file)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "file") in line
