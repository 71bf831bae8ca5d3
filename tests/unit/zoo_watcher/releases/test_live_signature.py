"""How the signature of the live release is verified while the agent does other work."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import apply_process
from zoo_watcher.releases.apply_process import ApplyProcess
from zoo_watcher.releases.live_signature import LiveSignature
from zoo_watcher.releases.manifest import Manifest

COMMIT = "a" * 40


def started_processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The apply processes that are started from now on, each of which takes a minute."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        words = [sys.executable, "-c", "import time; time.sleep(60)"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, start_new_session=True))
        return started[-1]

    monkeypatch.setattr(apply_process, "_start", start)
    return started


def signature_of(base: Path, changed: Callable[[], None] = lambda: None) -> LiveSignature:
    """The live signature on a host that demands signatures."""
    signers = base / "signers"
    signers.write_text("somebody ssh-ed25519 AAAA\n")
    config = Config.from_object({"hosts": "zk1", "base": str(base), "require_signature": str(signers)})
    return LiveSignature(config, Layout(base), changed)


def test_the_process_that_verifies_is_ended_and_waited_for_when_the_agent_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = started_processes(monkeypatch)
    signature = signature_of(tmp_path)
    signature.look(COMMIT)
    wait_for(lambda: started, "the process is there")
    signature.end()
    assert started[0].returncode is not None


def test_a_process_that_verifies_a_release_no_longer_live_is_ended_and_all_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = started_processes(monkeypatch)
    signature = signature_of(tmp_path)
    for number, commit_id in enumerate([COMMIT, "b" * 40, "c" * 40]):
        signature.look(commit_id)
        wait_for(lambda: len(started) == number + 1, "the process is there")
    wait_for(lambda: None not in [process.returncode for process in started[:-1]], "the others have ended")
    signature.end()
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 3


def test_nothing_is_verified_once_the_agent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_process, "_start", lambda *_words: pytest.fail("a process is started"))
    signature = signature_of(tmp_path)
    process = ApplyProcess(signature._config)
    process.end()
    signature._verify(COMMIT, threading.Event(), process)
    assert signature.trouble is None


def test_a_verification_that_ends_with_the_agent_is_neither_a_trouble_nor_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = ApplyProcess.run, list[None]()
    signature = signature_of(tmp_path, lambda: told.append(None))

    def run_after_the_end(process: ApplyProcess, *words: Any) -> dict[str, Any]:
        process.end()
        return run(process, *words)

    monkeypatch.setattr(ApplyProcess, "run", run_after_the_end)
    signature._verify(COMMIT, threading.Event(), ApplyProcess(signature._config))
    assert (signature.trouble, told) == (None, [])


def test_a_file_of_signers_that_is_missing_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ApplyProcess, "run", lambda *_words: {})
    signature, signers = signature_of(tmp_path), tmp_path / "signers"
    aside = signers.rename(tmp_path / "aside")
    Layout(tmp_path).make()
    Manifest({}, ()).save(Layout(tmp_path).manifest(COMMIT))
    signature.look(COMMIT)
    missing = f"the live release can't be verified now: require_signature: {signers}: No such file or directory"
    wait_for(lambda: signature.trouble == missing, "it is missing")
    aside.rename(signers)
    wait_for(lambda: signature.trouble is None, "it is there")
    signature.end()
