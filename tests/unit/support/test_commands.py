"""A command forked from a prepared one is like a separate one: its words, outputs, status, environment and end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support import commands
from support.commands import run_command

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.env', 'COLOUR') }} {{ number }}"
    - ansible.builtin.command: sleep {{ seconds }}
      when: seconds | int > 0
"""


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    """A playbook that shows a variable and an environment variable, and may take its time."""
    path = tmp_path / "play.yml"
    path.write_text(PLAY)
    return path


def run(
    playbook: Path, number: int, seconds: int = 0, deadline: int = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """One run of the playbook."""
    words = ("-e", f"number={number} seconds={seconds}")
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "true", **env}
    return run_command("ansible-playbook", str(playbook), *words, environment=environment, seconds=deadline)


def test_each_run_has_its_own_words_environment_and_outputs(playbook: Path) -> None:
    for number in range(2):
        for colour in ("red", "green"):
            done = run(playbook, number, COLOUR=colour)
            assert done.returncode == 0, done.stderr
            assert [word in done.stdout for word in (f"red {number}", f"green {number}")].count(True) == 1
            assert f"{colour} {number}" in done.stdout


def test_a_run_that_fails_reports_that_like_a_separate_process(tmp_path: Path, playbook: Path) -> None:
    missing = tmp_path / "none.yml"
    for _time in range(2):
        done = run(missing, 0)
        assert (done.returncode, done.stdout) == (1, "")
        assert "could not be found" in done.stderr
    assert run(playbook, 1).returncode == 0


def test_a_run_that_takes_too_long_is_ended_and_does_not_affect_the_next_one(playbook: Path) -> None:
    assert run(playbook, 1).returncode == 0
    with pytest.raises(subprocess.TimeoutExpired):
        run(playbook, 2, seconds=30, deadline=1)
    done = run(playbook, 3)
    assert "3" in done.stdout
    assert "2" not in done.stdout.partition("PLAY RECAP")[0]


def test_a_few_prepared_commands_are_kept(playbook: Path) -> None:
    for number in range(4):
        run(playbook, number, COLOUR=str(number))
    assert [one.surroundings[1]["COLOUR"] for one in commands._waiting] == ["2", "3"]
