"""Commands of the host's own configuration."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest

from zoo_watcher.host import command


def test_a_command_runs_also_where_no_temporary_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    ended = command.run(["/bin/sh", "-c", "echo said; exit 3"], 10)
    assert ended == ("ended with status 3", "said\n")
