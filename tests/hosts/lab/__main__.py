"""The lab's command line: `python -m hosts.lab COMMAND LAB ...`, with `tests` on PYTHONPATH."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from hosts.lab import network
from hosts.lab.errors import LabError
from hosts.lab.lab import Lab
from hosts.lab.places import LABS, locked
from hosts.lab.tree import SUITES, tree


def main() -> int:
    """Run the command that the command line names; on failure, print one line and return 1."""
    words = parser().parse_args()
    try:
        lab = Lab(words.lab)
        with locked(f"lab-{lab.name}"):
            command = words.run(lab, words)
        if command:
            os.execvp(command[0], command)
    except (LabError, OSError) as exc:
        print(f"lab: {exc}", file=sys.stderr)
        return 1
    return 0


def parser() -> ArgumentParser:
    """The commands and their arguments; `run` runs one, and returns the command that replaces this process, if any."""
    made = ArgumentParser(prog="python -m hosts.lab", description=f"Real systemd hosts. Labs are kept under {LABS}.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, text, arguments) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(run=run)
        one.add_argument("lab", metavar="LAB")
        for argument, settings in arguments.items():
            one.add_argument(argument, **settings)
    return made


def create(lab: Lab, words: Namespace) -> None:
    """Create hosts, and boot those that are not running."""
    named = (word.partition(":") for word in words.hosts)
    lab.create({name: suite or SUITES[0] for name, _colon, suite in named})
    print(lab.inventory_file)


def remove(lab: Lab, words: Namespace) -> None:
    """Remove hosts; those that do not exist are ignored."""
    lab.remove(words.hosts)


def close(lab: Lab, _words: Namespace) -> None:
    """Remove the lab if it has no host."""
    if not lab.up or not list(lab.hosts()):
        lab.destroy()


def destroy(lab: Lab, _words: Namespace) -> None:
    """Remove the lab with all its hosts."""
    lab.destroy()


def start(lab: Lab, words: Namespace) -> None:
    """Boot hosts, all at the same time."""
    lab.start(words.hosts)


def crash(lab: Lab, words: Namespace) -> None:
    """Crash hosts."""
    for host in lab.named(words.hosts):
        host.crash()


def reboot(lab: Lab, words: Namespace) -> None:
    """Reboot hosts, one after the other."""
    for host in lab.named(words.hosts):
        host.reboot()


def cut(lab: Lab, words: Namespace) -> None:
    """Cut hosts off."""
    for host in lab.named(words.hosts):
        network.cut(lab.holder, host.number, words.way)


def mend(lab: Lab, words: Namespace) -> None:
    """Undo every cut of hosts."""
    for host in lab.named(words.hosts):
        network.mend(lab.holder, host.number)


def inventory(lab: Lab, _words: Namespace) -> None:
    """Print the path of the inventory."""
    lab.named([])
    print(lab.inventory_file)


def execute(lab: Lab, words: Namespace) -> list[str]:
    """A command of this machine in the lab's network, which is created if it does not exist.

    The network leads nowhere else, so the trees are made first: the command may be one that creates hosts.
    """
    for suite in SUITES:
        tree(suite)
    lab.open()
    return [*lab.holder.network(), *words.words]


def enter(lab: Lab, words: Namespace) -> list[str]:
    """A command that runs in a host."""
    (host,) = lab.named([words.host])
    return [*host.inside(), *words.words]


HOSTS = {"hosts": {"nargs": "+", "metavar": "HOST"}}
COMMAND = {"words": {"nargs": "+", "metavar": "WORD", "help": "a command, after --"}}
COMMANDS: dict[str, tuple[Callable[[Lab, Namespace], list[str] | None], str, dict[str, Any]]] = {
    "create": (
        create,
        "make hosts, and the lab where there is none, wait until they have booted, print the inventory's path",
        {"hosts": {"nargs": "*", "metavar": "HOST[:SUITE]", "help": f"suites: {', '.join(SUITES)} (the first)"}},
    ),
    "remove": (remove, "take hosts away", HOSTS),
    "close": (close, "take the lab away if it has no host", {}),
    "destroy": (destroy, "take the lab away with all its hosts", {}),
    "crash": (crash, "kill all processes of hosts at once", HOSTS),
    "start": (start, "boot hosts that were crashed or shut down", HOSTS),
    "reboot": (reboot, "shut hosts down in good order and boot them again", HOSTS),
    "cut": (
        cut,
        "cut hosts off: take the link down, or drop what goes in to them, or comes out of them",
        {"way": {"choices": ["link", *network.HOOKS]}, **HOSTS},
    ),
    "mend": (mend, "let everything pass again", HOSTS),
    "inventory": (inventory, "print the path of the lab's Ansible inventory", {}),
    "exec": (execute, "run a command of this machine in the lab's network", COMMAND),
    "enter": (enter, "run a command in a host, not over its network", {"host": {"metavar": "HOST"}, **COMMAND}),
}

if __name__ == "__main__":
    sys.exit(main())
