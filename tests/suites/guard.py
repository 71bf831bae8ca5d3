"""Run a command so that no process of it is left behind: `python -m suites.guard SECONDS COMMAND ...`.

Whatever the command starts becomes a child of this process when its own parent ends, and is killed when the command
has ended. SIGINT and SIGTERM interrupt the command as Ctrl-C in a terminal would, and so does the end of its time
(0 seconds: no limit); it has half a minute to end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""From `linux/prctl.h`."""
SECONDS_TO_END = 30


def main(seconds: int, command: list[str]) -> int:
    """Run the command for at most `seconds`; return its exit status, or 128 plus the signal that ended it."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # A shell's background job ignores SIGINT, and so would the command.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, start_new_session=True)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            print(f"interrupted: has not ended within {seconds} s: {shlex.join(command)}", file=sys.stderr, flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        signal.signal(signal.SIGALRM, lambda *_: kill_descendants())
        signal.alarm(SECONDS_TO_END)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, interrupt)
    signal.alarm(seconds)
    status = reap_until(process.pid)
    end_descendants()
    return status


def reap_until(pid: int) -> int:
    """Reap every child that ends, until this one has; return its exit status as a shell reports it."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_descendants() -> None:
    """Kill what is left, and name what survives that, such as a process that the kernel does not release."""
    deadline = time.monotonic() + SECONDS_TO_END
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            # Repeatedly: the children of a process that has just ended become children of this process only now.
            kill_descendants()
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.02)
        print(f"could not be killed: {psutil.Process().children(recursive=True)}", file=sys.stderr, flush=True)


def kill_descendants() -> None:
    """Kill every process that descends from this one."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
