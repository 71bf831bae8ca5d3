"""`process.sh` prints "started" only for a process that is up, and otherwise shows why it is not."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from support.playbook import ROOT
from support.ports import free_ports

PROCESS = ROOT / "playbooks" / "quickstart" / "process.sh"
LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def process(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `process.sh words`, and return its result."""
    return subprocess.run(["sh", str(PROCESS), *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_command_that_is_not_found_is_not_started_and_its_log_says_why(tmp_path: Path) -> None:
    name = str(tmp_path / "server")
    done = process("start", name, "-", "no-such-server", f"{tmp_path}/")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"{name} did not start; the end of {name}.log" in done.stderr
    assert "no-such-server" in done.stderr.splitlines()[-1]


def test_a_process_is_started_once_it_listens_and_ends(tmp_path: Path) -> None:
    name, (port,) = str(tmp_path / "server"), free_ports(1)
    command = [sys.executable, "-c", LISTEN, str(port), f"{tmp_path}/"]
    assert process("start", name, str(port), *command).stdout == "started\n"
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    assert process("start", name, str(port), *command).stdout == "runs\n"
    assert process("end", name).stdout == "ended\n"
    assert process("end", name).stdout == "was not running\n"


def test_a_port_of_another_process_does_not_count_as_its_own(tmp_path: Path) -> None:
    name = str(tmp_path / "server")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = process("start", name, port, sys.executable, "-c", LISTEN, port, f"{tmp_path}/")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr


def test_a_process_that_needs_no_port_is_started_once_it_is_the_command(tmp_path: Path) -> None:
    name = str(tmp_path / "agent")
    assert process("start", name, "-", "tail", "-f", f"{tmp_path}/agent.log").stdout == "started\n"
    assert process("end", name).stdout == "ended\n"
