"""The lab: what it can do to a host, and that nothing of it is left on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from hosts.lab import cgroup
from hosts.lab.lab import Lab
from hosts.lab.places import LABS
from hosts.lab.requirements import lacking
from support.playbook import ROOT
from support.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking())


@dataclass(frozen=True)
class Line:
    """The lab's command line, with a lab of its own."""

    lab: str

    def start(self, command: str, *words: str) -> subprocess.Popen[str]:
        """Start a command on the lab."""
        return subprocess.Popen(
            [sys.executable, "-m", "hosts.lab", command, self.lab, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str, *words: str) -> str:
        """Return what a command prints."""
        process = self.start(command, *words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out.strip()

    def refused(self, command: str, *words: str) -> str:
        """Return the error output of a command that fails."""
        process = self.start(command, *words)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 1, out
        return err.strip()

    def inside(self, host: str, *words: str) -> str:
        """Return what a command that runs in a host prints."""
        return self.ask("enter", host, "--", *words)

    def reaches(self, host: str) -> bool:
        """Whether a new SSH connection works."""
        words = ["ssh", "-F", str(LABS / self.lab / "ssh_config"), "-o", "ConnectTimeout=1", host, "true"]
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=3, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


@pytest.fixture
def line() -> Iterator[Line]:
    """A lab that does not exist yet."""
    made = Line(f"test-{os.getpid()}")
    yield made
    made.ask("destroy")


@pytest.fixture(scope="module")
def two() -> Iterator[Line]:
    """A lab with a host of each suite: bookworm `one` and trixie `two`."""
    made = Line(f"test-{os.getpid()}-two")
    made.ask("create", "one:bookworm", "two:trixie")
    yield made
    made.ask("destroy")


def own_state() -> dict[str, str]:
    """The state of this machine that a lab could change."""
    rules = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    links = subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout
    return {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "links": str(sorted(link["ifname"] for link in json.loads(links))),
        "rules": rules,
        "run": str(sorted(path.name for path in Path("/run").iterdir())),
    }


def test_hosts_of_both_suites_boot_completely_and_know_each_other_by_name(two: Line) -> None:
    for host, other, version in (("one", "two", "12"), ("two", "one", "13")):
        assert two.inside(host, "systemctl", "is-system-running") == "running"
        assert f'VERSION_ID="{version}"' in two.inside(host, "cat", "/etc/os-release")
        assert two.inside(host, "hostname") == host
        assert re.fullmatch(r"10\.20\.0\.\d+ .*", two.inside(host, "getent", "hosts", other))


def test_ansible_reaches_every_host_by_the_inventory(two: Line) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    words = [str(ansible), "-i", two.ask("inventory"), "bookworm:trixie", "-m", "ping"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.stdout.count('"pong"') == 2, done.stdout + done.stderr


def test_a_crashed_host_has_no_process_left_and_starts_with_what_it_had_written(two: Line) -> None:
    two.inside("one", "sh", "-c", "echo kept >/srv/file && systemd-run --quiet sleep infinity")
    identity = two.inside("one", "cat", "/etc/machine-id")
    two.ask("crash", "one")
    assert not cgroup.group(f"{Lab(two.lab).group}/one").exists()
    assert not two.reaches("one")
    two.ask("start", "one")
    assert two.inside("one", "cat", "/srv/file") == "kept"
    assert two.inside("one", "cat", "/etc/machine-id") == identity
    wait_for(lambda: two.reaches("one"), "a connection to it works")


@pytest.mark.parametrize("host", ["one", "two"])
def test_a_host_reboots_from_outside_and_from_inside(two: Line, host: str) -> None:
    two.inside(host, "touch", "/run/this-boot")
    two.ask("reboot", host)
    two.inside(host, "test", "!", "-e", "/run/this-boot")
    two.inside(host, "touch", "/run/this-boot")
    two.inside(host, "systemctl", "reboot")
    rebooted = ("enter", host, "--", "test", "!", "-e", "/run/this-boot")
    wait_for(lambda: two.start(*rebooted).wait() == 0, "it has rebooted")
    wait_for(partial(two.reaches, host), "SSH is back")


def test_a_cut_stops_what_it_names_and_mending_lets_it_pass_again(two: Line) -> None:
    for way, comes_in, goes_out in (("link", False, False), ("in", False, True), ("out", True, False)):
        two.ask("cut", way, "two")
        assert not two.reaches("two")
        assert arrives(two, sender="one", receiver="two") is comes_in
        assert arrives(two, sender="two", receiver="one") is goes_out
        two.ask("mend", "two")
        wait_for(partial(two.reaches, "two"), f"it is back after `cut {way}`")


def arrives(line: Line, sender: str, receiver: str) -> bool:
    """Whether a frame that one host broadcasts arrives at another."""
    kind = "0x88b5"
    send = (
        "import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); "
        f"s.send(b'\\xff' * 6 + b'\\x02' + b'\\0' * 5 + ({kind}).to_bytes(2, 'big') + b'\\0' * 46)"
    )
    receive = (
        f"import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons({kind})); "
        "s.settimeout(1.5); print('listening', flush=True); print(len(s.recv(100)))"
    )
    listener = line.start("enter", receiver, "--", "python3", "-c", receive)
    assert listener.stdout
    assert listener.stdout.readline() == "listening\n"
    line.start("enter", sender, "--", "python3", "-c", send).wait()
    listener.communicate()
    return listener.returncode == 0


def test_a_lab_that_was_killed_as_it_was_made_is_made_again(line: Line) -> None:
    making = line.start("create", "one", "two", "three")
    wait_for((LABS / line.lab / "hosts" / "two").exists, "it is being made")
    making.send_signal(signal.SIGKILL)
    making.communicate()
    line.ask("create", "one", "two")
    assert line.inside("two", "hostname") == "two"


def test_a_lab_whose_holder_was_killed_is_made_again(line: Line) -> None:
    line.ask("create", "one")
    for pid in cgroup.processes(cgroup.group(f"{Lab(line.lab).group}/holder")):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not cgroup.processes(cgroup.group(f"{Lab(line.lab).group}/one")), "its hosts have ended with it")
    assert "is not up; create it" in line.refused("start", "one")
    line.ask("create", "one")
    wait_for(lambda: line.reaches("one"), "a connection to it works")


def test_labs_do_not_see_each_other_and_nothing_of_one_is_left(two: Line, line: Line) -> None:
    before = own_state()
    line.ask("create", "other")
    assert line.refused("crash", "one") == f"lab: no host 'one' in the lab {line.lab}; there are: other"
    assert own_state() == before
    line.ask("destroy")
    assert own_state() == before
    assert not (LABS / line.lab).exists()
    assert not cgroup.group(Lab(line.lab).group).exists()
    wait_for(lambda: two.reaches("one"), "a connection to it works")


def test_a_host_is_added_and_removed_while_others_run(two: Line) -> None:
    boots = two.inside("one", "cat", "/proc/sys/kernel/random/boot_id")
    two.ask("create", "one", "three")
    assert two.inside("three", "getent", "hosts", "one")
    assert two.inside("one", "getent", "hosts", "three")
    two.ask("remove", "three")
    assert "there are: one, two" in two.refused("start", "three")
    assert two.inside("one", "cat", "/proc/sys/kernel/random/boot_id") == boots


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("create", "One"), "a host's name is of small letters, digits and -, got 'One'"),
        (("create", "one:sid"), "no suite 'sid'; there are: bookworm, trixie"),
        (("start", "one"), "is not up; create it"),
    ],
)
def test_an_error_is_reported_in_one_line(line: Line, words: tuple[str, ...], told: str) -> None:
    complaint = line.refused(*words)
    assert told in complaint
    assert len(complaint.splitlines()) == 1
