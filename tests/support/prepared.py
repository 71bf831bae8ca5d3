"""One of Ansible's commands with all its imports done: each run is a fork of it, which starts immediately.

Importing takes seven tenths of the CPU time that `ansible-playbook` needs before its first task. `support.commands`
runs this file with a descriptor and the path of a command.
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
"""The maximum size of a message, the arguments of a command, in bytes."""
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
"""Modules imported during a run that can be imported before it, if this version has them; none are plugins."""


def main(connection: socket.socket, command: str) -> None:
    """Answer each message with the exit status of a run with its arguments, until the connection is closed."""
    prepared_modules = importlib.import_module(
        "prepared_modules"
    )  # beside this file, which is not in a package when it is run
    modules = prepared_modules.fork_modules(connection)
    sys.path[0] = str(Path(command).parent)
    name = Path(command).name
    cli = importlib.import_module("ansible.cli." + ("adhoc" if name == "ansible" else name.removeprefix("ansible-")))
    for further in FURTHER:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(further)
    prepared_modules.use_modules(modules)
    gc.freeze()  # so that a run does not copy what it never frees
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
    """Give this fork its own command line, outputs and temporary directory, as a separate process has them."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.argv = words
    random.seed()
    constants = importlib.import_module("ansible.constants")
    # The previous run has removed it.
    os.makedirs(constants.DEFAULT_LOCAL_TMP, mode=0o700, exist_ok=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
