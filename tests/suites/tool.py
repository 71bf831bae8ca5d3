"""The tools that the suites run."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import Any

from suites.outcome import ROOT

_INTERRUPTED = threading.Event()


def end_on_interrupt() -> None:
    """After SIGINT, start no more tools: the running ones are interrupted too, and end by themselves."""
    signal.signal(signal.SIGINT, lambda *_: _INTERRUPTED.set())


def run_tool(command: list[str], **options: Any) -> int:
    """Run a tool, in the checkout unless `options` (of `subprocess.run`) say otherwise, and return its exit status."""
    if _INTERRUPTED.is_set():
        return 130
    settings = {"cwd": ROOT, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, check=False, **settings).returncode
