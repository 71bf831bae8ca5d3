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


def test_a_password_that_was_written_and_never_taken_is_of_what_the_agent_reads(tmp_path: Path) -> None:
    secret = tmp_path / "web.1.credentials" / "digest_password"
    secret.parent.mkdir()
    secret.touch()
    order = {"install_dir": str(tmp_path), "config_dir": str(tmp_path), "instance": "web.1", "unit": "none.service"}
    assert runpy.run_path(str(INSTALL))["_read"](order) == [secret]


@pytest.mark.parametrize(
    ("text", "has_secret"),
    [('{"digest_password": "x"}', True), ('{"hosts": "a"}', False), ("[", True), ("5", True), (None, False)],
)
def test_a_configuration_that_may_have_a_secret_is_told(tmp_path: Path, text: str | None, has_secret: bool) -> None:
    if text is not None:
        (tmp_path / "web.json").write_text(text)
    order = {"config_dir": str(tmp_path), "instance": "web", "secrets": ["digest_password"]}
    assert runpy.run_path(str(INSTALL))["_has_secret"](order) is has_secret


@pytest.mark.parametrize("state", ["present", "absent"])
def test_without_root_a_managed_service_is_refused_before_anything_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    said = report(capsys, managed=True, state=state)
    assert said["problems"] == ["the service needs root on this host; apply the role with become: true"]
    assert not said["changed"]
