"""How the signature of what is live is verified beside the agent's other work."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from zoo_watcher.config.config import Config
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.apply_process import ApplyProcess
from zoo_watcher.releases.live_signature import LiveSignature

COMMIT = "a" * 40


def test_a_verification_that_ends_with_the_agent_is_no_trouble_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signers = tmp_path / "signers"
    signers.write_text("somebody ssh-ed25519 AAAA\n")
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path), "require_signature": str(signers)})
    run, told = ApplyProcess.run, list[None]()
    signature = LiveSignature(config, Layout(tmp_path), lambda: told.append(None))

    def run_after_the_end(process: ApplyProcess, *words: Any) -> dict[str, Any]:
        process.end()
        return run(process, *words)

    monkeypatch.setattr(ApplyProcess, "run", run_after_the_end)
    signature._verify(COMMIT, threading.Event())
    assert (signature.trouble, told) == (None, [])
