"""The README's first command for a stranger: an ordinary user with sudo, on a bare Debian, from a clone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from support.bare_tree import PYTHONS, BareHost, bare_host, bare_tree, lacking
from support.playbook import ROOT

REASON = lacking()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
DEADLINE = 600
"""Seconds after which a command that hangs is killed."""
OFFLINE = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/srv/wheels; cd zoo.deploy && "


@pytest.fixture(scope="module", params=PYTHONS)
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
    up = host.run(f"{OFFLINE} bash playbooks/quickstart.sh", DEADLINE)
    assert up.returncode == 0, up.stdout
    assert "4 of 4 servers answer over HTTP" in up.stdout
    assert "Everything worked" in up.stdout
    assert host.run("command -v nginx", 60).stdout == "", "it is found where the user's PATH does not lead"
    down = host.run(f"{OFFLINE} bash playbooks/quickstart.sh down", 120)
    assert down.returncode == 0, down.stdout
    assert "13 processes ended" in down.stdout
