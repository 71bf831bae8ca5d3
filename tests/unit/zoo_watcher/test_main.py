"""The command line: what it requires, what it refuses, and its exit statuses."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from zoo_watcher import __main__ as program
from zoo_watcher.command_line import CONTROLS
from zoo_watcher.config.config import Config
from zoo_watcher.control_commands import COMMANDS
from zoo_watcher.errors import AgentError
from zoo_watcher.host.shortage import NO_THREAD


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `zoo-watcher` with these arguments, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["zoo-watcher", *words])
    # The signals are those of this process, which is not an agent.
    monkeypatch.setattr("zoo_watcher.signals.defer", lambda: None)
    try:
        return program.main()
    except SystemExit as exc:
        return int(exc.code or 0)


@pytest.mark.parametrize("command", ["status", *COMMANDS])
def test_the_help_of_a_command_says_what_it_does_and_its_exit_statuses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    text = capfd.readouterr().out
    assert f"usage: zoo-watcher {command} [-h]" in text
    assert "  3  noted, and not carried out by the agent yet\n" in text


def test_every_command_that_is_offered_exists() -> None:
    assert list(CONTROLS) == list(COMMANDS)


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "\x1b[31mred", "x" * 201])
def test_a_reason_that_does_not_fit_a_line_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, reason: str
) -> None:
    assert run(monkeypatch, "hold", "--reason", reason, "--config", str(tmp_path / "shop.json")) == 2
    said = capfd.readouterr().err
    assert "argument --reason: expected at most 200 printable characters on one line\n" in said


@pytest.mark.parametrize("command", ["hold", "drain"])
def test_nobody_is_held_or_drained_without_a_reason(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    assert run(monkeypatch, command) == 2


@pytest.mark.parametrize("command", ["status", "release", "undrain", "retry"])
def test_a_missing_configuration_gives_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    assert run(monkeypatch, command, "--config", f"{tmp_path}/none.json") == 2
    assert capfd.readouterr().err == f"zoo-watcher: {tmp_path}/none.json: No such file or directory\n"


def test_a_host_where_no_agent_has_run_cannot_be_held(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "shop.json"
    config.write_text(f'{{"base": "{tmp_path}/base"}}')
    assert run(monkeypatch, "hold", "--reason", "x", "--config", str(config)) == 1
    never = f"{tmp_path}/base: no such directory; the agent was never started here"
    assert capfd.readouterr().err == f"zoo-watcher: {never}\n"


@pytest.mark.parametrize("words", [["--config", "none.json"], ["--config=none.json"]])
def test_an_agent_is_started_by_its_units_command_line_and_by_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(monkeypatch, "run", *words) == 2
    assert capfd.readouterr().err == "none.json: none.json: No such file or directory\n"


@pytest.mark.parametrize("words", [["run", "--config"], ["run", "--config", "--help"], ["run", "--config", "a", "b"]])
def test_a_command_line_that_is_almost_the_units_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert run(monkeypatch, *words) == 2
    assert "usage: zoo-watcher " in capfd.readouterr().err


def configured(tmp_path: Path) -> Path:
    """The configuration of an agent with a check."""
    service = {"path": "/service/shop", "id": "x", "port": 1, "check": {"type": "tcp"}}
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"hosts": "127.0.0.1:1", "base": str(tmp_path / "base"), "services": [service]}))
    return file


def restarting(tmp_path: Path, own: str) -> Path:
    """The configuration of an agent that is to restart its `own` unit, after an activation and for a file."""
    file = configured(tmp_path)
    managed = {"znode": "/a", "dest": f"{tmp_path}/a", "restart_units": [f"{own}.service"]}
    keys = {"restart_units": ["nginx.service", f"{own}.service"], "files": [managed]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))
    return file


UNITS = pytest.mark.parametrize(("unit", "own"), [("shop@1.service", "shop@1"), (None, "zoo-watcher@agent")])


@UNITS
def test_a_configuration_that_restarts_the_agents_own_unit_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, unit: str | None, own: str
) -> None:
    file = restarting(tmp_path, own)
    if unit:
        monkeypatch.setenv("ZOO_WATCHER_UNIT", unit)
    assert run(monkeypatch, "check", "--config", str(file)) == 2
    why = f"{own}.service is the unit of this agent, which can't restart itself: take it out"
    assert capfd.readouterr().err.splitlines() == [
        f"{file}: restart_units: {why}",
        f"{file}: files[0].restart_units: {why}",
    ]


@UNITS
def test_an_agent_whose_configuration_an_earlier_version_accepted_serves_and_does_not_restart_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, unit: str | None, own: str
) -> None:
    file = restarting(tmp_path, own)
    if unit:
        monkeypatch.setenv("ZOO_WATCHER_UNIT", unit)
    begun: list[Config] = []

    def begin(config: Config, *_words: object) -> None:
        begun.append(config)
        raise AgentError("it runs")

    monkeypatch.setattr("zoo_watcher.watcher.Watcher", begin)
    assert run(monkeypatch, "run", "--config", str(file)) == 1
    assert (begun[0].restart_units, begun[0].files[0].restart_units) == (("nginx.service",), ())
    assert f"left out: restart_units: {own}.service is the unit of this agent" in caplog.text


def test_an_agent_that_lacks_descriptors_at_its_start_reports_that_in_one_line(tmp_path: Path) -> None:
    source = Path(program.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "zoo_watcher", "run", "--config", configured(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(source)},
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (4, 4)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "Too many open files" in done.stderr


def test_a_release_waits_while_a_module_that_the_apply_process_imports_is_being_replaced(tmp_path: Path) -> None:
    """As while Python is being upgraded."""
    (tmp_path / "shlex.py").write_text("import what_is_not_there_yet\n")
    source = Path(program.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "zoo_watcher", "apply"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{source}"},
        input="{}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout) == {
        "error": "the apply process can't begin: No module named 'what_is_not_there_yet'",
        "kind": "process",
    }


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("text", "status"), [(None, 0), ("{}", 2)])
def test_a_command_works_with_closed_standard_streams(
    tmp_path: Path, closed: str, text: str | None, status: int
) -> None:
    path = configured(tmp_path)
    path.write_text(text or path.read_text())
    source = Path(program.__file__).parent.parent
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$1" -m zoo_watcher check --config "$2" {closed}', "sh", sys.executable, path],
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
    )
    assert done.returncode == status


def test_an_agent_that_can_start_no_thread_reports_that_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading, "_start_new_thread", refuse)
            threading.Thread(target=print).start()

    def refuse(*_words: object, **_options: object) -> None:
        raise RuntimeError(NO_THREAD)

    assert program._serve(SimpleNamespace(run=run)) == 1  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == [f"this host lacks something: {NO_THREAD}"]
    assert "Traceback" not in caplog.text


def test_a_command_that_is_interrupted_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(program._COMMANDS, "status", interrupt)
    assert run(monkeypatch, "status") == 130
    assert capfd.readouterr().err == ""
