"""What a storm knows about a process before it sends it a signal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from faults.support.storm import hears


@pytest.mark.parametrize(
    ("listens", "heard"),
    [
        ("", False),
        ("signal.signal(signal.SIGHUP, print)", True),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])", True),
        ("signal.signal(signal.SIGUSR2, print)", False),
    ],
)
def test_a_process_hears_a_signal_that_it_handles_or_holds_back(*, listens: str, heard: bool) -> None:
    program = f"import signal, sys\n{listens}\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        assert hears(process.pid, 1) is heard
        process.stdin.close()
