"""The article's scenario: five servers behind one nginx, and what may happen to them under constant requests.

The tests are one story: each relies on those before it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[4]
LAB = os.environ["LAB"]
DIRECTORY = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
HOSTS = json.loads((DIRECTORY / "inventory" / "lab.json").read_text())["all"]
BALANCER = HOSTS["hosts"]["balancer"]["ansible_host"]
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(DIRECTORY / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "GIT_SSH_COMMAND": f"ssh {HOSTS['vars']['ansible_ssh_common_args']}",
}
INVENTORIES = ["-i", str(DIRECTORY / "inventory"), "-i", str(DIRECTORY / "business.zk_services.yml")]


def run(*words: str, directory: Path = ROOT) -> str:
    """Return what a command on the controller prints, standard error included."""
    done = subprocess.run(
        words,
        cwd=directory,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def play(name: str, *words: str) -> str:
    """Return what one of the collection's playbooks prints, run on the hosts and what is registered."""
    return run("ansible-playbook", *INVENTORIES, f"playbooks/{name}.yml", *words)


def lab(*words: str) -> None:
    """Run a command of the lab, such as `crash` with the names of hosts."""
    run(sys.executable, "-m", "hosts.lab", words[0], LAB, *words[1:])


def discovered() -> set[str]:
    """The servers found in ZooKeeper."""
    found = json.loads(run("ansible-inventory", "-i", str(DIRECTORY / "business.zk_services.yml"), "--list"))
    return set(found.get("business", {}).get("hosts", []))


def balanced() -> set[str]:
    """Bring the balancer up to date, and return the servers that then answer behind it."""
    play("loadbalancer", "-e", "loadbalancer_group=business")
    return set(Counter(ask()[0] for _time in range(60)))


def ask() -> tuple[str, str]:
    """Return the server that answers behind the balancer, and its answer, over a new connection."""
    with urllib.request.urlopen(f"http://{BALANCER}/", timeout=10) as answer:
        return answer.headers["X-Server"], answer.read().decode()


class Visitor:
    """Sends requests to the balancer continuously."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str]] = []
        self.failures: list[str] = []
        self.ended = threading.Event()

    def visit(self) -> None:
        """Send requests until `ended` is set."""
        while not self.ended.is_set():
            try:
                self.answers.append(ask())
            except OSError as exc:
                self.failures.append(f"{time.strftime('%X')} {exc!r}")
            self.ended.wait(0.01)


@contextmanager
def visited() -> Iterator[Visitor]:
    """Send requests while the block lasts; none of them may fail."""
    visitor = Visitor()
    threads = [threading.Thread(target=visitor.visit) for _one in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield visitor
    finally:
        visitor.ended.set()
        for thread in threads:
            thread.join()
    assert visitor.failures == []
    assert len(visitor.answers) > 20


NEWCOMERS = {f"web{number}" for number in range(6, 16)}


@pytest.fixture(scope="module")
def servers() -> set[str]:
    """The article's five servers."""
    return {f"web{number}" for number in range(1, 6)}


def test_the_five_servers_are_discovered_and_balanced(servers: set[str]) -> None:
    assert discovered() == servers
    play("loadbalancer", "-e", "loadbalancer_group=business", "-e", "loadbalancer_reload_command=true")
    run(
        "ansible", *INVENTORIES, "balancer", "-m", "ansible.builtin.systemd_service", "-a", "name=nginx state=restarted"
    )
    assert balanced() == servers
    assert ask()[1] == "one\n"


def test_a_push_reaches_every_server_without_a_failed_request(servers: set[str]) -> None:
    with visited() as visitor:
        (DIRECTORY / "site" / "index.html").write_text("two\n")
        run(
            "git",
            "-c",
            "user.name=lab",
            "-c",
            "user.email=lab@example.org",
            "commit",
            "-qam",
            "two",
            directory=DIRECTORY / "site",
        )
        said = run("git", "push", "git@balancer:/srv/git/site.git", "main", directory=DIRECTORY / "site")
        done = len(visitor.answers)
        wait_for(lambda: len(visitor.answers) > done + 20, "there were answers since")
        # The two that were in flight may have got the previous page.
        assert {page for _server, page in visitor.answers[done + 2 :]} == {"two\n"}
    assert "5 of 5 have proved it" in said
    assert "is published to /app/business by git@balancer" in said
    assert {ask() for _time in range(40)} == {(server, "two\n") for server in servers}


def test_a_killed_server_fails_no_request_and_leaves_discovery(servers: set[str]) -> None:
    with visited():
        lab("crash", "web3")
        wait_for(lambda: discovered() == servers - {"web3"}, "the killed one has left", 30)
        assert balanced() == servers - {"web3"}


def test_ten_new_servers_are_up_to_date_registered_and_discovered_when_the_play_ends(servers: set[str]) -> None:
    with visited():
        said = play("scale_out", "-l", "newcomers")
        for server in NEWCOMERS:
            assert f"{server:<24} active" in said
            assert f"/service/business/what/{server}" in said
        assert discovered() == servers - {"web3"} | NEWCOMERS
        assert balanced() == servers - {"web3"} | NEWCOMERS
    assert {ask() for _time in range(60)} == {(server, "two\n") for server in servers - {"web3"} | NEWCOMERS}


def test_a_server_is_removed_without_a_failed_request(servers: set[str]) -> None:
    left = servers - {"web1", "web3"} | NEWCOMERS
    with visited():
        said = play(
            "scale_in",
            "-l",
            "web1",
            "-e",
            "zoo_drain_seconds=1",
            "-e",
            "zoo_stop_units=nginx.service",
            "-e",
            "zoo_remove=true",
        )
        assert "13 servers are left at /service/business/what" in said
        assert discovered() == left
        assert balanced() == left


def test_a_dead_server_can_be_removed_but_the_last_ones_cannot() -> None:
    assert "the host is unreachable, and no agent of this name is live" in play(
        "scale_in", "-l", "web3", "-e", "zoo_drain_seconds=0"
    )
    with pytest.raises(AssertionError, match="would be left with fewer than 1 servers; nothing is"):
        play("scale_in", "-l", "web")
    assert len(discovered()) == 13


def test_a_killed_server_comes_back_by_itself() -> None:
    lab("start", "web3")
    wait_for(lambda: "web3" in discovered(), "web3 is back", 60)
    assert "web3" in balanced()
