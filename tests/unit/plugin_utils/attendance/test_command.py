"""A user's command on the controller: its input, how it ends, and what ends with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.command import LONGEST, CommandEnd, run
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.event import (
    LONGEST as LONGEST_VARIABLE,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.event import (
    environment_of,
    event_of,
    text_of,
)
from support.waiting import wait_for

ROLLOUT = {"phase": "paused", "step": 1, "steps": 3, "says": "it is", "reason": "web1 failed:\n$(reboot)", "by": "ann"}
RESULT = {"generation": 7, "commit_id": "c" * 40, "rollout": ROLLOUT}


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def test_a_command_is_told_the_event_by_its_input_and_its_environment() -> None:
    event = event_of("/app/shop", RESULT)
    ended = run(["sh", "-c", 'cat; echo "$ZOO_APP $ZOO_STEP $ZOO_REASON"'], 10, environment_of(event), text_of(event))
    told, line = ended.output.splitlines()
    assert (ended.status, line) == (0, "/app/shop 1 web1 failed: $(reboot)")
    assert json.loads(told) == event
    assert event["counts"] is None


def test_a_reason_of_any_length_does_not_keep_a_command_from_its_start() -> None:
    event = event_of("/app/shop", {**RESULT, "rollout": {**ROLLOUT, "reason": "x" * 900_000 + "\0"}})
    assert len(environment_of(event)["ZOO_REASON"]) == LONGEST_VARIABLE
    assert run(["true"], 10, environment_of(event), text_of(event)) == CommandEnd(0)


def test_what_a_command_prints_never_holds_it_up_and_its_beginning_is_kept() -> None:
    ended = run(["sh", "-c", "echo first; yes | head -c 3000000; exit 1"], 30, {}, "")
    assert (ended.status, ended.output[:6], len(ended.output)) == (1, "first\n", LONGEST)


def test_a_command_that_cannot_be_started_or_is_killed_is_reported(tmp_path: Path) -> None:
    assert run([str(tmp_path / "none")], 5, {}, "") == CommandEnd(
        None, "", "can't be started: No such file or directory"
    )
    assert run([str(tmp_path)], 5, {}, "").problem == "can't be started: Permission denied"
    assert run(["sh", "-c", "kill -9 $$"], 5, {}, "").problem == "was killed by signal 9"


def test_a_command_that_takes_too_long_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    ended = run(["sh", "-c", f"sleep 600 & echo $! $$ > {pids}; wait"], 0.5, {}, "")
    assert ended == CommandEnd(None, "", "has not ended within 0.5 s")
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: gone(int(pid)), "it has ended")  # type: ignore[misc]


def test_a_command_that_leaves_something_behind_is_not_waited_for(tmp_path: Path) -> None:
    ended = run(["sh", "-c", f"echo done; sleep 600 & echo $! > {tmp_path}/pid"], 30, {}, "")
    assert ended == CommandEnd(0, "done\n")
    subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)


def test_a_command_ends_with_the_worker_of_ansible_that_is_told_to_end(tmp_path: Path) -> None:
    module = "ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.command"
    words = ["sh", "-c", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 600"]
    code = f"from {module} import run; run({words!r}, 600, {{}}, '')"
    worker = subprocess.Popen([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"])
    pid = tmp_path / "pid"
    wait_for(pid.exists, "the command runs", 30)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == -signal.SIGTERM
    wait_for(lambda: gone(int(pid.read_text())), "it has ended")


def test_a_worker_that_is_told_to_end_while_it_starts_a_command_leaves_none_behind(tmp_path: Path) -> None:
    code = f"""
import os, signal, subprocess, sys
sys.path[:0] = {sys.path!r}
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance import command

class Popen(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        open({str(tmp_path / "pid")!r}, "w").write(str(self.pid))
        os.kill(os.getpid(), signal.SIGTERM)

command.subprocess.Popen = Popen
command.run(["sleep", "600"], 600, {{}}, "")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGTERM
    wait_for(lambda: gone(int((tmp_path / "pid").read_text())), "it has ended", 5)
