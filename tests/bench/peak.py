"""Runs a command and notes what it has taken: `python peak.py FILE COMMAND ...`.

FILE gets its seconds and the most memory that it has had, in kB, and nothing of who measures: the peak of a process is
never below what its parent had when it was started, and this one is small.
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
