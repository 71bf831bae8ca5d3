"""Ansible's modules on this machine, each a fork of a Python that has imported what nearly all of them import.

That is four fifths of the processor that a small module takes. What is run is what Ansible sends, by standard input;
all that it imports beyond `FURTHER` is from there. That Python is a fork of a prepared command (`prepared.py`), made
before this has imported anything: its environment is the command's. What is not sent by standard input (`async`), or
runs as another user or in an environment that its task gives it, is a process of its own as ever.
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
"""Bytes of a message: an environment and a directory."""
COMMAND = f"/bin/sh -c '{sys.executable} && sleep 0'"
"""What Ansible runs for a module that it sends by standard input."""
FURTHER = (
    "ansible.module_utils._internal._ansiballz._loader",
    "ansible.module_utils._internal._json._profiles._module_legacy_c2m",
    "ansible.module_utils._internal._json._profiles._module_legacy_m2c",
    "ansible.module_utils.basic",
    "base64",
    "kazoo.client",
    "zipfile",
)
"""What is imported before."""

Execute = Callable[..., tuple[int, bytes, bytes]]
"""How a connection runs a command: its status, standard output and standard error."""


def fork_modules(connection: socket.socket) -> socket.socket:
    """Fork what runs modules, which does without the connection; where it is asked for one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        here.close()
        connection.close()
        _serve(there)
    there.close()
    return here


def use_modules(modules: socket.socket) -> None:
    """Have Ansible ask there for each module on this machine."""
    connection = importlib.import_module("ansible.plugins.connection.local").Connection
    execute: Execute = connection.exec_command

    def exec_command(self: Any, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        if cmd != COMMAND or in_data is None:
            return execute(self, cmd, in_data=in_data, sudoable=sudoable)
        return _ask(modules, in_data, os.fsdecode(self.cwd or os.getcwd()))

    connection.exec_command = exec_command


def _ask(modules: socket.socket, program: bytes, directory: str) -> tuple[int, bytes, bytes]:
    """What came of a program that was run in a directory: its status, standard output and standard error."""
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
    """Run the modules that are asked for; a fork of this returns, or ends as the module does."""
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
            while os.waitpid(-1, os.WNOHANG)[0]:  # what has ended is counted to what this one took
                pass
        if os.fork() == 0:
            requests.close()
            _become_module(*json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _import() -> None:
    """Import what nearly every module does."""
    for further in FURTHER:
        with contextlib.suppress(ImportError):
            importlib.import_module(further)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "ansible" and hasattr(module, "__path__"):
            vars(module)["__path__"] = ProgramFirst(module)
    gc.freeze()  # what no module frees is not copied by each


class ProgramFirst:
    """The path of a package of Ansible's: what the module's program has of it comes first, as it does otherwise.

    The program is a zip, which puts itself first on Python's path.
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
    """Be a module in a session of its own; another fork waits for its end, and tells its status as a shell does."""
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
