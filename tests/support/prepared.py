"""A command of Ansible's that has imported all that it needs: each run is a fork of it, which begins to run at once.

Importing takes seven tenths of the processor that `ansible-playbook` needs before its first task. Run this file with a
descriptor and the path of a command; `support.commands` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""
LONGEST = 1 << 17
"""Bytes of a message: the words of a command line."""
FURTHER = (
    "ansible.cli.scripts",
    "ansible.executor.process.worker",
    "ansible.executor.task_executor",
    "ansible.module_utils._internal._json._profiles._module_legacy_c2m",
    "ansible.module_utils._internal._json._profiles._module_legacy_m2c",
    "ansible.parsing.yaml.dumper",
    "ansible.playbook.handler",
    "ansible.playbook.included_file",
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "pty",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
)
"""What is imported as it runs, and may be before, where this version has it: modules that are no plugins."""


def main(connection: socket.socket, command: str) -> None:
    """Answer each message with the status of a run with its words, for as long as there are any."""
    prepared_modules = importlib.import_module(
        "prepared_modules"
    )  # beside this file, which is no package's when it is run
    modules = prepared_modules.fork_modules(connection)
    sys.path[0] = str(Path(command).parent)
    name = Path(command).name
    cli = importlib.import_module("ansible.cli." + ("adhoc" if name == "ansible" else name.removeprefix("ansible-")))
    for further in FURTHER:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(further)
    prepared_modules.use_modules(modules)
    gc.freeze()  # what no run frees is not copied by each
    while True:
        message, outputs, _flags, _address = socket.recv_fds(connection, LONGEST, 2)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            begin([command, *json.loads(message)], *outputs)
            cli.main()
            return
        for output in outputs:
            os.close(output)
        _pid, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def begin(words: list[str], stdout: int, stderr: int) -> None:
    """Have this fork be as a process of its own is: with a command line, with outputs, with a temporary directory."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.argv = words
    random.seed()
    constants = importlib.import_module("ansible.constants")
    # The run before has removed it.
    os.makedirs(constants.DEFAULT_LOCAL_TMP, mode=0o700, exist_ok=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
