"""Runs a command and records what it took: `python peak.py FILE COMMAND ...`.

FILE gets the seconds and the peak memory of the command, in kB, not that of the bench: the peak of a process is never
below the memory of its parent when it was started, and this parent is small.
"""

import os
import subprocess
import sys
import time

file, *command = sys.argv[1:]
begun = time.perf_counter()
process = subprocess.Popen(command)
_pid, status, usage = os.wait4(process.pid, 0)
seconds = time.perf_counter() - begun
with open(file, "w", encoding="utf-8") as notes:
    notes.write(f"{seconds} {usage.ru_maxrss}\n")
sys.exit(os.waitstatus_to_exitcode(status))
