"""The README's first command, run for real: in its own directory, on its own ports, over a running one, and `down`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from kazoo.client import KazooClient

from support.client import connected
from support.console import commands, missing
from support.console import run as run_line
from support.documents import blocks
from support.merged import run_merged
from support.ports import free_ports
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "playbooks/quickstart.sh"
SERVERS = [f"server{number}" for number in range(1, 6)]
TOUR = ROOT / "docs" / "guides" / "tour.md"
NOT_RUN = (f"bash {SCRIPT}", ". .quickstart/env", "rm -rf")
"""Prefixes of the tour's commands that other tests run, or that would have no effect in a process of their own."""
COMMITTER = {f"GIT_{who}_{what}": "ann@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
DEADLINE = 600
"""Seconds after which a quickstart that hangs is killed; its downloads come on top of its own three minutes."""


@dataclass
class Quickstart:
    """A quickstart's directory and ports, the modules that its Ansible has packed, and the tree that it runs from."""

    directory: Path
    zk_ports: list[int]
    web_ports: list[int]
    modules: Path
    root: Path = ROOT

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `bash playbooks/quickstart.sh words` in the tree's directory, and return its result."""
        surroundings = {
            **os.environ,
            "QUICKSTART_DIR": str(self.directory),
            "QUICKSTART_ZK_PORTS": " ".join(map(str, self.zk_ports)),
            "QUICKSTART_WEB_PORTS": " ".join(map(str, self.web_ports)),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "support" / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "kept_modules",
            "ZOO_TESTS_MODULES": str(self.modules),
            **environment,
        }
        return run_merged(["bash", SCRIPT, *words], DEADLINE, cwd=self.root, env=surroundings)

    def as_on_the_page(self, line: str, link: Path) -> tuple[int, str]:
        """Run a page's command, and return its exit status and its output, with the names and ports of the page."""
        place = {".quickstart/": f"{link}/"}
        ports = {f"127.0.0.1:{9095 + number}": f"127.0.0.1:{port}" for number, port in enumerate(self.web_ports)}
        for theirs, ours in {**place, **ports}.items():
            line = line.replace(theirs, ours)
        done = run_line(f". {link}/env; {line}", self.root, COMMITTER, 180)
        output = done.stdout
        for theirs, ours in {**place, **ports}.items():
            output = output.replace(ours, theirs)
        return done.returncode, output.replace(f'"zk_port": {self.web_ports[0]}', '"zk_port": 9095')

    @property
    def processes(self) -> dict[int, str]:
        """The command lines of its processes, by process ID."""
        found = {}
        for process in psutil.process_iter(["cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            if f"{self.directory}/" in line and process.info["status"] != psutil.STATUS_ZOMBIE:
                found[process.pid] = line
        return found

    def git(self, *words: str) -> str:
        """Return what git prints in the repository that the servers fetch from."""
        command = ["git", "-C", str(self.directory / "repository.git"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    """A quickstart in a directory with a blank in its name, stopped at the end."""
    ports = free_ports(8)
    modules = tmp_path_factory.mktemp("modules")
    made = Quickstart(tmp_path_factory.mktemp("quick start"), ports[:3], ports[3:], modules)
    try:
        yield made
    finally:
        made.run("down")


@pytest.fixture(scope="module")
def first(quickstart: Quickstart) -> subprocess.CompletedProcess[str]:
    """The first run."""
    return quickstart.run()


@pytest.fixture
def zk(quickstart: Quickstart) -> Iterator[KazooClient]:
    """A client of the quickstart's ensemble."""
    with connected(",".join(f"127.0.0.1:{port}" for port in quickstart.zk_ports)) as client:
        yield client


def assert_came_out(quickstart: Quickstart, zk: KazooClient) -> None:
    """Check the outcome without the quickstart's own tools."""
    desired = json.loads(zk.get("/app/business/config")[0])
    assert desired["commitId"] == quickstart.git("rev-parse", "main")
    for server, port in zip(SERVERS, quickstart.web_ports):
        status = json.loads(zk.get(f"/app/business/agents/{server}")[0])
        assert (status["state"], status["commitId"]) == ("active", desired["commitId"])
        assert json.loads(zk.get(f"/service/business/what/{server}")[0]) == ["127.0.0.1", str(port)]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/galaxy.yml", timeout=5) as answer:
            assert answer.read().decode().strip() == quickstart.git("show", "main:galaxy.yml")
    assert sorted(zk.get_children("/service/business/what")) == SERVERS
    assert len(list(quickstart.directory.glob("**/*.pid"))) == 13 + len(SERVERS)  # nginx writes one of its own too


@pytest.mark.smoke
def test_it_ends_with_five_servers_that_serve_the_published_commit(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str], zk: KazooClient
) -> None:
    assert first.returncode == 0, first.stdout
    assert_came_out(quickstart, zk)


def test_it_shows_one_leader_the_inventory_without_the_stopped_server_and_the_time_of_each_step(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str]
) -> None:
    said = first.stdout
    assert said.count(" leader ") == 1
    assert said.count(" follower ") == 2
    graphs = [part.split("done in")[0].count("|--server") for part in said.split("--graph\n")[1:]]
    assert graphs == [4, 3, 5]
    assert said.count("done in") == 9
    assert all(f"127.0.0.1:{port}" in said for port in quickstart.zk_ports)


def test_its_members_have_the_configuration_of_the_article(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 0
    lines = (quickstart.directory / "zk2" / "zoo.cfg").read_text().splitlines()
    keys = [line.partition("=")[0] for line in lines]
    article = "tickTime initLimit syncLimit dataDir dataLogDir clientPort server.1 server.2 server.3"
    assert [key for key in keys if key != "clientPortAddress"] == article.split()
    assert {"tickTime=2000", "initLimit=10", "syncLimit=5"} < set(lines)


def test_it_runs_again_over_a_running_one_and_leaves_its_ensemble_alone(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str], zk: KazooClient
) -> None:
    assert first.returncode == 0
    members = {pid for pid, line in quickstart.processes.items() if "QuorumPeerMain" in line}
    again = quickstart.run()
    assert again.returncode == 0, again.stdout
    assert {pid for pid, line in quickstart.processes.items() if "QuorumPeerMain" in line} == members
    wait_for(lambda: len(zk.get_children("/app/business/agents")) == 5, "the fifth agent of the first run is replaced")
    assert_came_out(quickstart, zk)


def test_the_commands_of_the_tour_print_what_the_page_shows(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert first.returncode == 0
    # A name without a blank, like the page's.
    link = tmp_path / "quickstart"
    link.symlink_to(quickstart.directory)
    (link / "tour").mkdir()
    (vars_file,) = blocks(TOUR, "yaml")
    (link / "tour" / "vars.yml").write_text(vars_file)
    try:
        for command in commands(TOUR):
            if not command.line.startswith(NOT_RUN):
                status, output = quickstart.as_on_the_page(command.line, link)
                assert (status == 0, missing(command.shown, output)) == (command.succeeds, []), output
    finally:
        shutil.rmtree(link / "tour")


def test_a_failed_step_ends_it_with_an_error_that_names_the_step(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 0
    # server1's web server can't start: something else answers on its port.
    end = ["sh", str(ROOT / "playbooks/quickstart/process.sh"), "end", str(quickstart.directory / "server1" / "nginx")]
    subprocess.run(end, check=True, capture_output=True)
    squatter = subprocess.Popen(["python3", "-m", "http.server", str(quickstart.web_ports[0]), "--bind", "127.0.0.1"])
    try:
        broken = quickstart.run()
    finally:
        squatter.kill()
        squatter.wait()
    assert broken.returncode == 1
    assert "step 3 failed" in broken.stdout
    assert f"bind() to 127.0.0.1:{quickstart.web_ports[0]} failed" in broken.stdout
    assert f"{quickstart.directory}/server1/nginx.log" in broken.stdout


def test_down_ends_every_process_and_leaves_only_the_downloads(
    quickstart: Quickstart, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 0
    assert quickstart.processes
    done = quickstart.run("down")
    assert done.returncode == 0, done.stdout
    assert quickstart.processes == {}
    assert sorted(path.name for path in quickstart.directory.iterdir()) == ["venv", "wheels"]


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (("sideways",), {}, "expected up or down, got sideways"),
        ((), {"QUICKSTART_ZK_PORTS": "2181"}, "QUICKSTART_ZK_PORTS: expected 3 different ports"),
        ((), {"QUICKSTART_WEB_PORTS": "1 2 3 4 x"}, "QUICKSTART_WEB_PORTS: expected 5 different ports"),
    ],
)
def test_a_mistake_of_the_user_is_reported_without_a_traceback(
    quickstart: Quickstart, words: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = quickstart.run(*words, **environment)
    assert done.returncode == 1
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def test_a_tree_that_is_not_a_checkout_is_refused(quickstart: Quickstart, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "playbooks", tmp_path / "playbooks", symlinks=True)
    elsewhere = replace(quickstart, directory=tmp_path / "directory", root=tmp_path)
    done = elsewhere.run()
    assert done.returncode == 1
    assert "is no git checkout with a commit" in done.stdout
    assert not (tmp_path / "directory").exists()
