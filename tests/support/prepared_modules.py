"""Ansible's modules on this machine, each a fork of a Python with the imports done that nearly all of them need.

These imports take four fifths of a small module's CPU time. The module that runs is the one that Ansible sends by
standard input, and everything that it imports beyond `FURTHER` comes from there. That Python is a fork of a prepared
command (`prepared.py`), made before the command has imported anything; it shares the command's environment. A module
that is not sent by standard input (`async`), runs as another user, or has an environment from its task, is a normal
process of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator
from typing import IO, Any

PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`."""
LONGEST = 1 << 17
"""The maximum size of a message, an environment and a directory, in bytes."""
COMMAND = f"/bin/sh -c '{sys.executable} && sleep 0'"
"""Ansible's command for a module that it sends by standard input."""
FURTHER = (
    "ansible.module_utils._internal._ansiballz._loader",
    "ansible.module_utils._internal._json._profiles._module_legacy_c2m",
    "ansible.module_utils._internal._json._profiles._module_legacy_m2c",
    "ansible.module_utils.basic",
    "base64",
    "kazoo.client",
    "zipfile",
)
"""The modules that are imported beforehand."""

Execute = Callable[..., tuple[int, bytes, bytes]]
"""A connection's function that runs a command: it returns exit status, standard output and standard error."""


def fork_modules(connection: socket.socket) -> socket.socket:
    """Fork the process that runs modules, which closes `connection`; returns the socket for requests to it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        here.close()
        connection.close()
        _serve(there)
    there.close()
    return here


def use_modules(modules: socket.socket) -> None:
    """Have Ansible run each module on this machine by a request to that socket."""
    connection = importlib.import_module("ansible.plugins.connection.local").Connection
    execute: Execute = connection.exec_command

    def exec_command(self: Any, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        if cmd != COMMAND or in_data is None:
            return execute(self, cmd, in_data=in_data, sudoable=sudoable)
        return _ask(modules, in_data, os.fsdecode(self.cwd or os.getcwd()))

    connection.exec_command = exec_command


def _ask(modules: socket.socket, program: bytes, directory: str) -> tuple[int, bytes, bytes]:
    """Run a program in a directory, and return its exit status, standard output and standard error."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.ExitStack() as opened:
        opened.enter_context(here)
        files: list[IO[bytes]] = [opened.enter_context(open(os.memfd_create("module"), "w+b")) for _file in range(3)]
        files[0].write(program)
        files[0].seek(0)
        mask = os.umask(0)
        os.umask(mask)
        request = json.dumps([dict(os.environ), directory, mask]).encode()
        with there:
            socket.send_fds(modules, [request], [there.fileno(), *(file.fileno() for file in files)])
        status = here.recv(16)
        assert status, "what runs modules has ended"
        for file in files[1:]:
            file.seek(0)
        return int(status), files[1].read(), files[2].read()


def _serve(requests: socket.socket) -> None:
    """Run the requested modules; a fork of this process returns, or ends as the module does."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sys.argv, sys.path[0] = [""], ""
    imported = False
    while True:
        request, descriptors, _flags, _address = socket.recv_fds(requests, LONGEST, 4)
        if not request:
            os._exit(0)
        if not imported:
            _import()
            imported = True
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # reaped, so that its CPU time counts as this process's
                pass
        if os.fork() == 0:
            requests.close()
            _become_module(*json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _import() -> None:
    """Import the modules that nearly every Ansible module imports."""
    for further in FURTHER:
        with contextlib.suppress(ImportError):
            importlib.import_module(further)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "ansible" and hasattr(module, "__path__"):
            vars(module)["__path__"] = ProgramFirst(module)
    gc.freeze()  # so that a module does not copy what it never frees


class ProgramFirst:
    """The path of one of Ansible's packages: the module's own copy comes first, as it does in a normal process.

    A module is sent as a zip file, which puts itself first in Python's path.
    """

    def __init__(self, package: types.ModuleType) -> None:
        self._inside = package.__name__.replace(".", "/")
        self._outside = list(package.__path__)

    def __iter__(self) -> Iterator[str]:
        yield f"{sys.path[0]}/{self._inside}"
        yield from self._outside


def _become_module(
    environment: dict[str, str], directory: str, mask: int, answer: int, stdin: int, stdout: int, stderr: int
) -> None:
    """Become a module, in a session of its own; another fork waits for it, and reports its status as a shell does."""
    os.setsid()
    pid = os.fork()
    if pid != 0:
        _pid, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        os.write(answer, str(code if code >= 0 else 128 - code).encode())
        os._exit(0)
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
    for descriptor in (answer, stdin, stdout, stderr):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    os.umask(mask)
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), vars(main))
    sys.exit()
