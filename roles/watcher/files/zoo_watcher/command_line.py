# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: its commands, their options, and the help."""

from __future__ import annotations

import argparse
from typing import Any, Callable

from .host.controls import LONGEST_REASON

EXIT_STATUSES = """\
exit status:
  0  the line says what is true now
  1  refused, nothing to retry, or trouble
  2  a wrong command line or configuration
  3  noted, and not carried out by the agent yet
"""
CONTROLS = {
    "hold": "stay at the release that is live: nothing newer is deployed until `release`",
    "release": "deploy again what is published",
    "drain": "withdraw the registrations, and register nothing until `undrain`; deployments go on",
    "undrain": "register the healthy services again",
    "retry": "try the published release again, now, after it has failed here",
}
"""What a person on the host tells the agent to do."""


OF_A_FILE = {
    "run": "watch, deploy and register until SIGTERM",
    "check": "validate a configuration",
    "leave": "take this host out of the roster, once its agent has ended for good; watcher_state: absent does that",
}
"""Commands that take a configuration."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made: argparse.ArgumentParser = _described(
        argparse.ArgumentParser, "The deploy agent of zoo.deploy.", prog="zoo-watcher"
    )
    made.add_argument("--config-dir", metavar="DIRECTORY", help="where the configurations of this host's agents are")
    commands = made.add_subparsers(dest="command", required=True)
    status = _described(commands.add_parser, "show what is live on this host; needs no root", "status")
    status.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    for name, text in CONTROLS.items():
        command = _described(commands.add_parser, text, name)
        if name in {"hold", "drain"}:
            command.add_argument("--reason", required=True, type=_reason, help="why, for whoever looks at the status")
    for command in [commands.choices[name] for name in ("status", *CONTROLS)]:
        which = command.add_mutually_exclusive_group()
        which.add_argument("instance", nargs="?", help="which agent, where this host has several")
        which.add_argument("--config", metavar="FILE", help="the agent of this configuration")
    for name, text in OF_A_FILE.items():
        command = _described(commands.add_parser, text, name)
        command.add_argument("--config", required=True, metavar="FILE", help="the configuration, a JSON object")
    commands.add_parser("apply", help="fetch and stage one release; started by `run`")
    return made


def _described(make: Callable[..., argparse.ArgumentParser], text: str, *words: str, **options: str) -> Any:
    if words:
        options["help"] = text
    formatter = argparse.RawDescriptionHelpFormatter
    return make(*words, description=text, epilog=EXIT_STATUSES, formatter_class=formatter, **options)


def _reason(text: str) -> str:
    if not text.isprintable() or not 0 < len(text.strip()) <= LONGEST_REASON:
        raise argparse.ArgumentTypeError(f"expected at most {LONGEST_REASON} printable characters on one line")
    return text.strip()
