"""How the role watcher waits for an agent that it has started."""

from __future__ import annotations

import json
import runpy
import time
from pathlib import Path
from typing import Any

import pytest

PROVE = Path(__file__).resolve().parents[3] / "roles" / "watcher" / "files" / "prove.py"
BEGUN = str(int((time.monotonic() - 60) * 1_000_000))


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The definitions of the program, on a host whose unit has been running for a minute."""
    program = runpy.run_path(str(PROVE))
    unit = {"ActiveState": "active", "Result": "success", "ExecMainStartTimestampMonotonic": BEGUN}
    monkeypatch.setitem(program["lacks"].__globals__, "_shown", lambda _unit: unit)
    return program


def order(base: Path, **keys: Any) -> dict[str, Any]:
    """An order of the role."""
    return {"unit": "x.service", "base": str(base), "version": "1", "connected": True, "seconds": 0.2, **keys}


def say(base: Path, **status: Any) -> None:
    """Write the agent's status."""
    (base / ".zoo").mkdir(exist_ok=True)
    (base / ".zoo" / "status.json").write_text(json.dumps({"version": "1", **status}))


def test_an_agent_without_a_session_is_reported_with_the_members_that_it_tries_and_why_none_answers(
    prove: dict[str, Any], tmp_path: Path
) -> None:
    trying = {"members": ["zk1:2181", "zk2:2181"], "error": "Cannot resolve zk1: Name or service not known"}
    say(tmp_path, session="Disconnected", trying=trying)
    said = prove["lacks"](order(tmp_path))
    expected = "it has no session with the ensemble; it tries zk1:2181, zk2:2181: Cannot resolve zk1: Name or service"
    assert said == f"{expected} not known"
    say(tmp_path, session="Disconnected")
    assert prove["lacks"](order(tmp_path)) == "it has no session with the ensemble"
    assert prove["lacks"](order(tmp_path, connected=False)) == ""


def test_a_session_is_waited_for_no_longer_than_it_takes(
    prove: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    say(tmp_path, session="SyncConnected")
    prove["main"](json.dumps(order(tmp_path, seconds=600)))
    assert capsys.readouterr().out == ""
    say(tmp_path, session="Expired")
    prove["main"](json.dumps(order(tmp_path)))
    assert capsys.readouterr().out == "it has no session with the ensemble"
