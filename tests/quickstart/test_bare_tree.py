"""The README's two commands for a newcomer: an ordinary user with sudo, on a bare Debian, in a clone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from support.bare_tree import SUITES, BareHost, bare_host, bare_tree, lacking
from support.playbook import ROOT
from support.ports import free_ports

REASON = lacking()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
DEADLINE = 600
"""Seconds after which a command that hangs is killed."""

FEW = "unit -k records --ignore-glob='*/unit/[!m]*'"
"""A suite without most of its files: collecting them all takes far longer than the tests."""


@pytest.fixture(scope="module", params=SUITES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareHost]:
    """A bare host with a clone of this checkout in the user's home."""
    directory = tmp_path_factory.mktemp(request.param)
    clone = directory / "clone"
    command = ["git", "-c", f"safe.directory={ROOT}", "clone", "-q", "--depth=2", f"file://{ROOT}", str(clone)]
    subprocess.run(command, check=True)
    with bare_host(bare_tree(request.param), directory) as made:
        shutil.copytree(clone, made.home / "zoo.deploy", symlinks=True)
        subprocess.run(["chown", "-R", "1000:1000", str(made.home)], check=True)
        yield made


def test_the_quickstart_runs_to_its_end_for_an_ordinary_user(host: BareHost) -> None:
    assert "sbin" not in host.run("echo $PATH", 60).stdout
    assert host.run("command -v python3 nginx java", 60).stdout == ""
    ports = [str(port) for port in free_ports(8)]
    chosen = f"QUICKSTART_ZK_PORTS='{' '.join(ports[:3])}' QUICKSTART_WEB_PORTS='{' '.join(ports[3:])}'"
    up = host.run(f"cd zoo.deploy && {chosen} bash playbooks/quickstart.sh", DEADLINE)
    assert up.returncode == 0, up.stdout
    assert "4 of 4 servers answer over HTTP" in up.stdout
    assert "Everything worked" in up.stdout
    assert host.run("command -v nginx", 60).stdout == "", "it is found where the user's PATH does not lead"
    down = host.run("bash zoo.deploy/playbooks/quickstart.sh down", 120)
    assert down.returncode == 0, down.stdout
    assert "13 processes ended" in down.stdout


def test_one_suite_of_the_tests_runs_for_an_ordinary_user(host: BareHost) -> None:
    usage = host.run("bash zoo.deploy/tests/run.sh --help", 60)
    assert usage.returncode == 0, usage.stdout
    assert usage.stdout.startswith("Usage: bash tests/run.sh"), "it installs nothing first"
    for _time in range(2):
        done = host.run(f"bash zoo.deploy/tests/run.sh {FEW}", DEADLINE)
        assert done.returncode == 0, done.stdout
        assert "passed" in done.stdout
    assert "Installing" not in done.stdout, "what is there is found where the user's PATH does not lead"
