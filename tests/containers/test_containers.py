"""The article's servers as containers, built from `examples/container` and run by podman."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.client import connected
from support.ensemble import Ensemble
from support.git_server import git_daemon
from support.inventory import Inventory
from support.playbook import ROOT, Run, run_playbook
from support.podman import Podman
from support.ports import free_ports
from support.relay import Relay
from support.repository import GitRepository
from support.waiting import wait_for

REGISTRY = "/service/business/what"
SESSION = "4"
"""The session timeout in seconds, after which a killed server's registration is deleted."""
ENDS = {
    "nginx": "kill -KILL $(cat /run/nginx.pid)",
    "agent": "kill -KILL $(grep -lzx run /proc/[0-9]*/cmdline | cut -d / -f 3)",
    "quit": "nginx -s quit",
}
"""Shell commands that each end one part of a server from inside its container."""


@dataclass
class Article:
    """The article's ensemble (a chroot of the shared one), repository and servers."""

    podman: Podman
    zk: KazooClient
    hosts: str
    """The ensemble as this machine reaches it."""
    seen_hosts: str
    """The ensemble as containers reach it."""
    repository: GitRepository
    url: str
    ports: list[int] = field(default_factory=lambda: free_ports(6))

    def serve(self, name: str, port: int, *options: str, command: tuple[str, ...] = ()) -> None:
        """Run a server as the article does: `-e URL= -e PORT= -p PORT:80`."""
        settings = {
            "ZK_HOSTS": self.seen_hosts,
            "ZK_SESSION_TIMEOUT": SESSION,
            "URL": self.podman.address,
            "PORT": str(port),
            "ALLOWED_SCHEMES": '["git"]',
        }
        given = [f"--env={key}={value}" for key, value in settings.items()]
        words = [f"--name={name}", f"--network={self.podman.network}", f"--publish={port}:80", *given, *options]
        self.podman.run("run", "--detach", *words, "zoo-nginx", *command)

    def registered(self) -> set[int]:
        """The ports of the servers that are registered."""
        if not self.zk.exists(REGISTRY):
            return set()
        return {int(name.rpartition("-")[2]) for name in self.zk.get_children(REGISTRY)}

    def wait_registered(self, *ports: int) -> None:
        """Wait until just these servers are registered."""
        wait_for(lambda: self.registered() == set(ports), f"registered are {ports}", 60)

    def get(self, port: int, path: str = "/") -> str:
        """Return what a server answers: the body, the status code of an error, or an empty string for no answer."""
        try:
            with urllib.request.urlopen(f"http://{self.podman.address}:{port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except OSError as exc:
            return str(exc.code) if isinstance(exc, urllib.error.HTTPError) else ""

    def deploy(self, *words: str) -> Run:
        """Publish what `main` points at, and wait for it."""
        given = {"zoo_hosts": self.hosts, "zoo_url": self.url, "zoo_ref": "main", "zoo_relative_path": "site"}
        extra = [f"-e{key}={value}" for key, value in given.items()]
        return Run.of(run_playbook(ROOT / "playbooks" / "deploy.yml", *extra, *words))

    def discovered(self, directory: Path) -> set[int]:
        """The ports of the registry's servers in the inventory."""
        outcome = Inventory(directory, self.hosts).read(registries=[REGISTRY])
        return {outcome.hosts[name]["zk_port"] for name in outcome.groups["what"]}


@pytest.fixture
def article(ensemble: Ensemble, podman: Podman, tmp_path: Path) -> Iterator[Article]:
    """The article's ensemble and repository, reachable from containers. The test's containers are removed after it."""
    chroot = f"/containers-{uuid.uuid4().hex[:12]}"
    with ExitStack() as stack:
        client = stack.enter_context(connected(ensemble.hosts))
        client.create(chroot)
        relays = [Relay(member.client_port, podman.machine) for member in ensemble.members]
        for relay in relays:
            stack.callback(relay.close)
        repository = GitRepository.create(tmp_path / "site")
        url = stack.enter_context(git_daemon(repository, None, f"--listen={podman.machine}"))
        stack.callback(podman.clear)
        yield Article(
            podman=podman,
            zk=stack.enter_context(connected(f"{ensemble.hosts}{chroot}")),
            hosts=f"{ensemble.hosts}{chroot}",
            seen_hosts=",".join(relay.hosts for relay in relays) + chroot,
            repository=repository,
            url=url.replace("127.0.0.1", podman.machine),
        )


def test_the_articles_five_servers_are_discovered_come_and_go_and_take_what_is_published(
    article: Article, tmp_path: Path
) -> None:
    *five, sixth = article.ports
    for number, port in enumerate(five, 1):
        article.serve(f"yrt{number}", port)
    article.wait_registered(*five)
    assert article.discovered(tmp_path) == set(five)

    done = article.deploy("-ezoo_min_agents=5")
    assert done.failed == 0, done.output
    assert [article.get(port) for port in five] == ["one\n"] * 5

    article.podman.run("kill", "yrt1")
    article.wait_registered(*five[1:])
    assert article.discovered(tmp_path) == set(five[1:])

    article.serve("yrt6", sixth)
    article.wait_registered(*five[1:], sixth)
    wait_for(lambda: article.get(sixth) == "one\n", "the server that was added has what is published")

    article.repository.commit({"index.html": "two\n"})
    done = article.deploy("-ezoo_min_agents=5")
    assert done.failed == 0, done.output
    assert [article.get(port) for port in (*five[1:], sixth)] == ["two\n"] * 5


def test_a_server_that_is_stopped_leaves_the_registry_before_it_stops_serving(article: Article) -> None:
    port = article.ports[0]
    article.serve("stopped", port, "--env=DRAIN_SECONDS=5")
    article.wait_registered(port)
    stop = article.podman.start("stop", "--time=60", "stopped")
    article.wait_registered()
    assert article.get(port, "/health") == "ok\n"
    assert stop.wait(60) == 0
    assert article.podman.status("stopped") == "exited 0"
    assert article.get(port, "/health") == ""


def test_a_stopped_server_finishes_the_response_it_is_sending(article: Article) -> None:
    port, size = article.ports[0], 50_000_000
    article.serve("sending", port, "--env=DRAIN_SECONDS=0")
    article.repository.commit({"large": "x" * size})
    done = article.deploy()
    assert done.failed == 0, done.output
    with urllib.request.urlopen(f"http://{article.podman.address}:{port}/large", timeout=60) as answer:
        got = len(answer.read(1000))
        stop = article.podman.start("stop", "--time=60", "sending")
        wait_for(lambda: article.get(port, "/health") == "", "it takes no new requests")
        assert stop.poll() is None
        got += len(answer.read())
    assert got == size
    assert stop.wait(60) == 0
    assert article.podman.status("sending") == "exited 0"


def test_an_orphaned_process_is_reaped(article: Article) -> None:
    port = article.ports[0]
    article.serve("reaping", port)
    inside = partial(article.podman.run, "exec", "reaping", "sh", "-c")
    orphan = inside("(sleep 2 > /dev/null 2>&1 & echo $!)").stdout.strip()
    assert inside(f"cut -d ' ' -f 4 /proc/{orphan}/stat").stdout.strip() == "1", "process 1 has it now"
    wait_for(lambda: orphan not in inside("ls /proc").stdout.split(), "it is reaped")


@pytest.mark.parametrize(("ended", "status"), [("nginx", 137), ("agent", 137), ("quit", 1)])
def test_a_container_ends_when_one_of_its_parts_ends(article: Article, ended: str, status: int) -> None:
    port = article.ports[0]
    article.serve("ending", port)
    article.wait_registered(port)
    article.podman.run("exec", "ending", "sh", "-c", ENDS[ended], check=False)
    wait_for(lambda: article.podman.status("ending").startswith("exited"), "the container ends")
    assert article.podman.status("ending") == f"exited {status}"
    article.wait_registered()


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("URL=", "run.sh: URL: expected the address to register, as 127.0.0.1, got ''"),
        ("PORT=http", "run.sh: PORT: expected the port to register, as 9099, got 'http'"),
        ("ZK_HOSTS=", "hosts: missing"),
    ],
)
def test_a_container_reports_what_is_wrong_with_its_environment(article: Article, wrong: str, line: str) -> None:
    article.serve("wrong", article.ports[0], f"--env={wrong}")
    wait_for(lambda: article.podman.status("wrong") == "exited 2", "the container ends")
    log = article.podman.run("logs", "wrong").stdout
    assert line in log
    assert "Traceback" not in log


def test_an_agent_beside_an_application_deploys_into_a_shared_volume_and_registers_it(article: Article) -> None:
    port = article.ports[0]
    # An application in a container of its own: the nginx, without the agent.
    podman, volume = article.podman, "--volume=releases:/srv/business"
    shared = [f"--network={podman.network}", f"--publish={port}:80", f"{volume}:ro", "--entrypoint=nginx"]
    article.podman.run("run", "--detach", "--name=application", *shared, "zoo-nginx")
    settings = [f"--env=ZK_HOSTS={article.seen_hosts}", f"--env=URL={podman.address}", f"--env=PORT={port}"]
    words = ["--name=sidecar", "--network=container:application", volume, *settings, '--env=ALLOWED_SCHEMES=["git"]']
    podman.run("run", "--detach", *words, "zoo-watcher")
    article.wait_registered(port)
    done = article.deploy()
    assert done.failed == 0, done.output
    assert article.get(port) == "one\n"
    podman.run("stop", "--time=30", "sidecar")
    assert podman.status("sidecar") == "exited 0"
    article.wait_registered()
    assert article.get(port) == "one\n"
