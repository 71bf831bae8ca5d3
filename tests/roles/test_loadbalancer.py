"""playbooks/loadbalancer.yml with real servers, found in a real ensemble, a real nginx and a real HAProxy."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import ipaddress
import json
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient

from support.ensemble import Ensemble
from support.many_hosts import run_on_hosts
from support.playbook import Run, run_playbook
from support.ports import free_ports
from support.waiting import wait_for

PLAYBOOK = Path(__file__).resolve().parents[2] / "playbooks" / "loadbalancer.yml"
PATTERNS = Path(__file__).resolve().parents[2] / "roles" / "loadbalancer" / "vars" / "main.yml"
UPSTREAM = "web"
SEARCH_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

NGINX = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/upstreams/*.conf;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://web;
            proxy_next_upstream off;  # a server that is gone shall be seen
        }}
    }}
}}
"""

HAPROXY = """
global
    pidfile {directory}/haproxy.pid
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend web
    bind 127.0.0.1:{port}
    default_backend web
"""


class Backend:
    """A small web server on its own port that answers with its name."""

    def __init__(self, name: str, registry: str) -> None:
        self.path = f"{registry}/{name}"
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler(name.encode()))
        self.server.daemon_threads = False  # requests in progress are answered before the server ends
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @staticmethod
    def _handler(name: bytes) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer with the name."""
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name)

            def log_message(self, *words: Any) -> None:
                """Log nothing."""

        return Handler

    def register(self, zk: KazooClient) -> None:
        """Register it, for as long as the session lasts."""
        zk.create(self.path, json.dumps(["127.0.0.1", str(self.port)]).encode(), ephemeral=True, makepath=True)

    def stop(self) -> None:
        """Finish the requests in progress, then end the server; a second call has no effect."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Traffic:
    """Requests one after the other, each on its own connection, while the block lasts; every answer is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:  # noqa: PYI034  # typing.Self came with 3.11
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.005):
            try:
                self.answers.append(get(self.port))
            except (OSError, http.client.HTTPException) as exc:
                self.failures.append(repr(exc))

    def served_by(self, count: int = 60) -> Counter[str]:
        """The servers that gave the next `count` answers."""
        begin = len(self.answers)
        wait_for(lambda: len(self.answers) >= begin + count, f"{count} more answers; failures: {self.failures[:3]}")
        return Counter(self.answers[begin : begin + count])


def get(port: int) -> str:
    """Return the body of a balancer's answer; raises OSError if its status is not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise OSError(f"status {answer.status}: {body[:80]}")
        return body


class Balancer:
    """The playbook with the options of one balancer, whose files are all in `directory`."""

    def __init__(self, directory: Path, kind: str, registry: str, hosts: str) -> None:
        self.directory, self.kind, self.registry = directory, kind, registry
        (self.port,) = free_ports(1)
        (directory / "upstreams").mkdir()
        self.main_config = directory / f"{kind}.conf"
        self.main_config.write_text(
            {"nginx": NGINX, "haproxy": HAPROXY}[kind].format(directory=directory, port=self.port)
        )
        self.file = directory / "upstreams" / ("web.conf" if kind == "nginx" else "web.cfg")
        self.reload_log = directory / "reloads"
        self.inventory(hosts)

    def inventory(self, hosts: str) -> None:
        """Write the inventory: the services of the registry are the group `web`."""
        source = {
            "plugin": "zoo.deploy.zk_services",
            "hosts": hosts,
            "connect_timeout": 5,
            "registries": [{"path": self.registry, "group": UPSTREAM}],
        }
        (self.directory / "zk_services.yml").write_text(yaml.safe_dump(source))

    def services(self, *services: tuple[Any, Any]) -> None:
        """Write an inventory that names addresses and ports itself, as no plugin of ours would."""
        hosts = {
            f"h{number}": {"zk_services": [{"address": address, "port": port, "path": f"{self.registry}/h{number}"}]}
            for number, (address, port) in enumerate(services)
        }
        (self.directory / "zk_services.yml").write_text(json.dumps({"all": {"children": {UPSTREAM: {"hosts": hosts}}}}))

    def told(self) -> dict[str, Any]:
        """The role's variables."""
        return {
            "loadbalancer_kind": self.kind,
            "loadbalancer_group": UPSTREAM,
            "loadbalancer_file": str(self.file),
            "loadbalancer_main_config": str(self.main_config),
            "loadbalancer_reload_command": f"sh -c 'echo reloaded >> {self.reload_log}'",
        }

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the playbook; unless `loadbalancer_reload_command` is given, reloads are only counted."""
        variables = {**self.told(), **options}
        inventory = str(self.directory / "zk_services.yml")
        return run_playbook(PLAYBOOK, "-i", inventory, "-e", json.dumps(variables), *words, env={"PATH": SEARCH_PATH})

    def apply(self, **options: Any) -> str:
        """Run the playbook, which must succeed, and return what it printed."""
        done = self.run(**options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refuse(self, **options: Any) -> str:
        """Run the playbook, which must fail and leave the file as it is, and return the message of the failed task."""
        before = self.state
        done = self.run(**options)
        assert done.returncode == 2, done.stdout + done.stderr
        assert self.state == before
        return fatal_message(done.stdout)

    @property
    def state(self) -> tuple[str, int] | None:
        """The file's content and when it was written; None if there is none."""
        return (self.file.read_text(), self.file.stat().st_mtime_ns) if self.file.exists() else None

    @property
    def servers(self) -> list[str]:
        """The addresses in the file, in their order."""
        place = {"nginx": 1, "haproxy": 2}[self.kind]
        return [
            line.split()[place].rstrip(";")
            for line in self.file.read_text().splitlines()
            if line.startswith("    server ")
        ]

    @property
    def reloads(self) -> int:
        """The number of times that it was told to reload."""
        return len(self.reload_log.read_text().splitlines()) if self.reload_log.exists() else 0


def fatal_message(printed: str) -> str:
    """The message of the last task that failed."""
    return str(json.loads(re.findall(r"^fatal: \[\w+\]: FAILED! => (.*)$", printed, re.MULTILINE)[-1])["msg"])


class Nginx:
    """A running nginx."""

    def __init__(self, balancer: Balancer) -> None:
        self.command = ["nginx", "-e", f"{balancer.directory}/error.log", "-c", str(balancer.main_config)]
        self.reload_command = " ".join([*self.command, "-s", "reload"])
        self.process = subprocess.Popen(self.command, env={**os.environ, "PATH": SEARCH_PATH})
        wait_for(lambda: (balancer.directory / "nginx.pid").exists() and self.workers, "nginx is up")

    @property
    def workers(self) -> set[int]:
        """The IDs of its worker processes, including those that are finishing their requests."""
        return {
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        }

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def registry(app: str) -> str:
    """A registry's path that no other test uses."""
    return f"{app}/web"


@pytest.fixture
def balancer(tmp_path: Path, registry: str, ensemble: Ensemble) -> Balancer:
    """The playbook for an nginx."""
    return Balancer(tmp_path, "nginx", registry, ensemble.hosts)


@pytest.fixture
def backends(registry: str) -> Iterator[Any]:
    """A function that starts a backend by its name; each is stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Backend:
            backend = Backend(name, registry)
            stack.callback(backend.stop)
            return backend

        yield start


def register(zk: KazooClient, registry: str, *addresses: str) -> None:
    """Register servers that do not run, under the names a, b, c..., with these addresses and port 8080."""
    zk.ensure_path(registry)
    for number, address in enumerate(addresses):
        zk.create(f"{registry}/{chr(97 + number)}", json.dumps([address, "8080"]).encode(), ephemeral=True)


def test_no_request_fails_while_servers_come_and_go(balancer: Balancer, backends: Any, zk: KazooClient) -> None:
    first, second = backends("first"), backends("second")
    first.register(zk)
    second.register(zk)
    balancer.apply()
    nginx = Nginx(balancer)
    try:
        with Traffic(balancer.port) as traffic:
            assert set(traffic.served_by()) == {"first", "second"}

            third, fourth = backends("third"), backends("fourth")
            third.register(zk)
            fourth.register(zk)
            apply_and_settle(balancer, nginx)
            assert set(traffic.served_by()) == {"first", "second", "third", "fourth"}

            for leaving, left in (first, {"second", "third", "fourth"}), (third, {"second", "fourth"}):
                zk.delete(leaving.path)
                apply_and_settle(balancer, nginx)
                leaving.stop()
                assert set(traffic.served_by()) == left

            fifth = backends("fifth")
            fifth.register(zk)
            apply_and_settle(balancer, nginx)
            assert set(traffic.served_by()) == {"second", "fourth", "fifth"}
    finally:
        nginx.stop()
    assert traffic.failures == []
    assert len(traffic.answers) >= 300


def apply_and_settle(balancer: Balancer, nginx: Nginx) -> None:
    """Run the playbook and wait until no previous worker is left: only then may a server that has left stop."""
    before = nginx.workers
    balancer.apply(loadbalancer_reload_command=nginx.reload_command)
    wait_for(lambda: nginx.workers and not nginx.workers & before, "the old workers have ended")


def test_a_second_run_changes_nothing_and_reloads_nothing(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(zk, registry, "10.0.0.2", "10.0.0.1")
    balancer.apply()
    state = balancer.state
    assert "changed=0" in balancer.apply()
    assert (balancer.state, balancer.reloads) == (state, 1)


def test_check_mode_shows_the_difference_and_writes_nothing(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(zk, registry, "10.0.0.1")
    balancer.apply()
    state = balancer.state
    zk.create(f"{registry}/z", b'["10.0.0.9", "8080"]', ephemeral=True)
    done = balancer.run("--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+    server 10.0.0.9:8080;" in done.stdout
    assert (balancer.state, balancer.reloads) == (state, 1)


def test_the_order_depends_on_the_addresses_alone_and_ipv6_is_bracketed(
    balancer: Balancer, zk: KazooClient, registry: str
) -> None:
    register(zk, registry, "fd00::1", "10.0.0.2", "localhost", "10.0.0.1")
    balancer.apply()
    assert balancer.servers == ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080", "localhost:8080"]


def test_nothing_discovered_keeps_the_last_good_file(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(zk, registry, "10.0.0.1", "10.0.0.2")
    balancer.apply()
    for name in "ab":
        zk.delete(f"{registry}/{name}")
    assert "no usable server" in balancer.refuse()
    assert "no usable server" in balancer.refuse(loadbalancer_shrink_limit=100)


def test_an_ensemble_that_is_down_keeps_the_last_good_file(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(zk, registry, "10.0.0.1", "10.0.0.2")
    balancer.apply()
    balancer.inventory(f"127.0.0.1:{free_ports(1)[0]}")
    assert "no usable server" in balancer.refuse()


def test_a_drop_beyond_the_limit_keeps_the_last_good_file_until_it_is_allowed(
    balancer: Balancer, zk: KazooClient, registry: str
) -> None:
    register(zk, registry, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    balancer.apply()
    zk.delete(f"{registry}/a")
    zk.delete(f"{registry}/b")
    assert "from 3 servers to 1, by more than 50 %" in balancer.refuse()
    balancer.apply(loadbalancer_shrink_limit=100)
    assert balancer.servers == ["10.0.0.3:8080"]


def test_a_candidate_that_is_not_valid_never_replaces_the_file(
    balancer: Balancer, zk: KazooClient, registry: str
) -> None:
    register(zk, registry, "10.0.0.1")
    assert 'unknown directive "evil"' in balancer.refuse(loadbalancer_snippet="evil;")
    assert not balancer.file.exists()
    balancer.apply(loadbalancer_snippet="least_conn;\nkeepalive 4;")
    assert 'unknown directive "evil"' in balancer.refuse(loadbalancer_snippet="evil;")
    assert balancer.reloads == 1


def test_a_file_that_breaks_the_rest_of_the_configuration_is_reverted(
    balancer: Balancer, zk: KazooClient, registry: str
) -> None:
    register(zk, registry, "10.0.0.1")
    balancer.apply()
    (balancer.directory / "upstreams" / "other.conf").write_text("upstream other { server 10.1.1.1; }\n")
    text = balancer.file.read_text()
    done = balancer.run(loadbalancer_upstream="other")
    assert done.returncode == 2
    assert 'duplicate upstream \\"other\\"' in done.stdout
    assert (balancer.file.read_text(), balancer.reloads) == (text, 1)


def test_a_reload_that_failed_is_made_up_for_by_the_next_run(
    balancer: Balancer, zk: KazooClient, registry: str
) -> None:
    register(zk, registry, "10.0.0.1")
    assert balancer.run(loadbalancer_reload_command="false").returncode == 2
    assert balancer.servers == ["10.0.0.1:8080"]
    balancer.apply()
    balancer.apply()
    assert balancer.reloads == 1


def test_somebody_elses_file_is_not_replaced(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(zk, registry, "10.0.0.1")
    balancer.file.write_text("upstream web { server 10.9.9.9; }\n")
    assert "was not written by this role" in balancer.refuse()


def test_a_registration_cannot_inject_configuration(balancer: Balancer, zk: KazooClient, registry: str) -> None:
    register(
        zk, registry, "10.0.0.1", "1.2.3.4; evil;", "{{ lookup('pipe', 'id') }}", "no-such-host.invalid", "10.0.0.256"
    )
    zk.create(f"{registry}/y", b'["10.0.0.2", "80; evil"]', ephemeral=True)
    balancer.apply()
    assert balancer.servers == ["10.0.0.1:8080"]


def test_anything_but_an_address_and_a_port_is_left_out_with_a_warning(balancer: Balancer, registry: str) -> None:
    balancer.services(
        ("10.0.0.1", 8080),
        *[("10.0.0.2", port) for port in ("80;", 65536, None, "80\n", 0)],
        *[(address, 80) for address in ("", None, "1.2.3.4; evil;", "10.0.0.256", "fd00::1%lo", "a b", "$host", "-x")],
        ("no-such-host.invalid", 80),
    )
    printed = balancer.apply()
    assert balancer.servers == ["10.0.0.1:8080"]
    warned = re.findall(rf'WARNING: \\"{registry}/(h\d+)\\" is left out', printed)
    assert sorted(warned) == sorted(f"h{number}" for number in range(1, 15))


def test_only_the_given_registries_count_where_a_host_is_in_several(
    balancer: Balancer, registry: str, app: str
) -> None:
    services = [
        {"address": "10.0.0.1", "port": port, "path": f"{app}/{name}/h"} for name, port in (("web", 80), ("db", 5432))
    ]
    inventory = {"all": {"children": {UPSTREAM: {"hosts": {"h": {"zk_services": services}}}}}}
    (balancer.directory / "zk_services.yml").write_text(json.dumps(inventory))
    assert f"{app}/db, {app}/web" in balancer.refuse()
    balancer.apply(loadbalancer_registries=registry)
    assert balancer.servers == ["10.0.0.1:80"]


WRONG: list[tuple[str, object, str]] = [
    ("loadbalancer_kind", "apache", 'expected nginx or haproxy, got "apache"'),
    ("loadbalancer_group", "", "name the inventory group"),
    ("loadbalancer_upstream", "web; evil", "expected a name of letters"),
    ("loadbalancer_file", "../web.conf", "expected a file's absolute path"),
    ("loadbalancer_shrink_limit", 101, "expected a percentage from 0 to 100"),
]


@pytest.fixture(scope="module")
def wrongly_told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Balancer, Run]]:
    """A balancer for each of `WRONG`, by the option's name, and the role's run on it; applied to all at once."""
    balancers, told = {}, {}
    root = tmp_path_factory.mktemp("wrong")
    for option, value, _message in WRONG:
        (root / option).mkdir()
        balancers[option] = Balancer(root / option, "nginx", "/none", "127.0.0.1:1")
        told[option] = {**balancers[option].told(), option: value}
    runs = run_on_hosts(root, {"roles": ["zoo.deploy.loadbalancer"]}, told)
    return {option: (balancer, runs[option]) for option, balancer in balancers.items()}


@pytest.mark.parametrize(("option", "value", "message"), WRONG)
def test_a_wrong_option_is_named(
    wrongly_told: dict[str, tuple[Balancer, Run]], option: str, value: object, message: str
) -> None:
    balancer, run = wrongly_told[option]
    assert (run.failed, balancer.state) == (1, None), f"{value}: {run.output}"
    assert fatal_message(run.output).startswith(f"{option}: {message}")


def test_haproxy_serves_what_is_registered_and_keeps_its_last_good_file(
    tmp_path: Path, registry: str, ensemble: Ensemble, backends: Any, zk: KazooClient
) -> None:
    if shutil.which("haproxy", path=SEARCH_PATH) is None:
        pytest.skip("haproxy is not installed")
    balancer = Balancer(tmp_path, "haproxy", registry, ensemble.hosts)
    backends("first").register(zk)
    zk.create(f"{registry}/v6", b'["::1", "9"]', ephemeral=True)
    balancer.apply(loadbalancer_snippet="balance first")
    assert balancer.servers[1] == "[::1]:9"
    assert "unknown keyword" in balancer.refuse(loadbalancer_snippet="evil")
    process = subprocess.Popen(["/usr/sbin/haproxy", "-db", "-f", str(balancer.main_config), "-f", str(balancer.file)])
    try:
        assert wait_for(lambda: answer_of(balancer.port), "HAProxy serves") == "first"
    finally:
        process.kill()
        process.wait()


def answer_of(port: int) -> str:
    """Return what a balancer answers; empty while it does not."""
    try:
        return get(port)
    except OSError:
        return ""


def pattern(name: str) -> re.Pattern[str]:
    """A pattern of the role, with the patterns that it refers to filled in."""
    variables = yaml.safe_load(PATTERNS.read_text())
    text = variables[name]
    while "{{" in text:
        text = re.sub(r"\{\{ (\w+) \}\}", lambda found: variables[found.group(1)], text)
    return re.compile(text)


IS_IP, IS_SERVER = pattern("_loadbalancer_ip"), pattern("_loadbalancer_server")
NEARLY_IPV6 = st.lists(st.sampled_from(["", "0", "1", "ab", "FFFF", "12345", "g", ":", "::"]), max_size=10).map(
    ":".join
)
NEARLY_IPV4 = st.lists(st.integers(-1, 300).map(str), min_size=3, max_size=5).map(".".join)


@settings(max_examples=1000)
@given(st.one_of(st.ip_addresses().map(str), NEARLY_IPV6, NEARLY_IPV4, st.text("01fg:.%/ \n", max_size=12)))
@example(":: ")
def test_an_address_passes_exactly_when_it_is_one(text: str) -> None:
    try:
        is_address = ipaddress.ip_address(text).version > 0
    except ValueError:
        is_address = False
    unusual = ":" in text and ("." in text or "%" in text or text.count(":") > 7)  # sometimes valid, always left out
    server = f"{text} 80"
    # The role tests whether it is an address only if it may be a server.
    assert bool(IS_SERVER.match(server) and IS_IP.match(server)) == (is_address and not unusual)


@settings(max_examples=1000)
@given(st.text(max_size=30), st.text(max_size=6))
@example("\N{KELVIN SIGN}", "80")
@example("\N{LATIN SMALL LETTER LONG S}", "80")
@example("10.0.0.1", "80\n")
def test_nothing_that_passes_could_end_a_directive(address: str, port: str) -> None:
    if IS_SERVER.match(f"{address} {port}"):
        assert re.fullmatch(r"[\w.:-]+", address, re.ASCII)
        assert 1 <= int(port) <= 65535
