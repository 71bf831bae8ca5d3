"""What the role watcher's installer says of a host on which it can't do its work."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

import pytest

INSTALL = Path(__file__).resolve().parents[3] / "roles" / "watcher" / "files" / "install.py"


def report(capsys: pytest.CaptureFixture[str], **order: Any) -> dict[str, Any]:
    """What the installer reports of an order."""
    runpy.run_path(str(INSTALL))["main"](json.dumps(order))
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_root_a_managed_service_is_refused_before_anything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = report(capsys, managed=True, state=state)
    assert said["problems"] == ["the service needs root on this host; apply the role with become: true"]
    assert not said["changed"]
