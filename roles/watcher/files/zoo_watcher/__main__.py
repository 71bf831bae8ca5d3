# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m zoo_watcher run|check|status --config FILE`; `apply` is what `run` starts for git and disk work."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import AgentError, ConfigError
from .logs import print_error, set_up_log

if TYPE_CHECKING:
    from .config.config import Config
    from .watcher import Watcher

log = logging.getLogger(__name__)

EXIT_TROUBLE = 1
EXIT_CONFIG = 2


def main() -> int:
    """Run one of the commands. 0 done, 1 trouble, 2 a wrong configuration."""
    arguments = _parser().parse_args()
    if arguments.command == "apply":
        return _apply()
    try:
        return _COMMANDS[arguments.command](arguments)
    except ConfigError as exc:
        for mistake in exc.mistakes:
            print_error(f"{arguments.config}: {mistake}")
        return EXIT_CONFIG
    except AgentError as exc:
        print_error(f"zoo_watcher: {exc}")
        return EXIT_TROUBLE


def _apply() -> int:
    """Do the agent's job on standard input."""
    try:
        from .releases.apply import main as apply  # noqa: PLC0415  # the agent itself never loads git
    except ImportError as exc:
        # GitPython is not there; or it is, and could not start the git that it looks at when it is imported.
        kind = "final" if isinstance(exc, ModuleNotFoundError) else "passing"
        sys.stdout.write(json.dumps({"error": f"GitPython can't be imported: {exc}", "kind": kind}) + "\n")
        return EXIT_TROUBLE
    return apply()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m zoo_watcher", description="The deploy agent of zoo.deploy.")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "watch, deploy and register until SIGTERM",
        "check": "validate a configuration",
        "status": "show what is live on this host",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", required=True, metavar="FILE", help="the configuration, a JSON object")
        if name == "status":
            command.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    commands.add_parser("apply", help="fetch and stage one release; started by `run`")
    return parser


def _check(arguments: argparse.Namespace) -> int:
    config = _usable_config(arguments.config)
    print(f"{arguments.config}: valid, app={config.app.root} base={config.base} name={config.name}")  # noqa: T201
    return 0


def _usable_config(path: str) -> Config:
    """The configuration, once all that can be checked without a server is. Raises `ConfigError`."""
    from .config.config import Config  # noqa: PLC0415
    from .zookeeper.kazoo_client import check_connection  # noqa: PLC0415

    config = Config.from_file(path)
    check_connection(config.connection)
    return config


def _status(arguments: argparse.Namespace) -> int:
    from .config.config import Config  # noqa: PLC0415
    from .status_report import as_table, host_report  # noqa: PLC0415

    report = host_report(Config.from_file(arguments.config))
    print(json.dumps(report, indent=2) if arguments.json else as_table(report))  # noqa: T201
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from .config.config import Config  # noqa: PLC0415
    from .host.linux import drop_ambient_capabilities  # noqa: PLC0415
    from .watcher import SIGNALS, Watcher  # noqa: PLC0415

    drop_ambient_capabilities()
    config = Config.from_file(arguments.config)
    set_up_log(config.log_level)
    watcher = Watcher(config, _version(), partial(_usable_config, arguments.config))
    status = _serve(watcher)
    # A signal of these waits until the agent, begun anew, listens.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if watcher.ending == "reloading":
        status = _begin_anew()
    if watcher.ending != "leaving":
        # The session is for the next agent: kazoo would close it when the interpreter ends.
        logging.shutdown()
        os._exit(status)
    return status


def _begin_anew() -> int:
    """Become the same command again, as the same process: the session stays open, and is taken up again.

    Returns only where that is not possible, with an exit status: then the service manager starts the agent.
    """
    command = getattr(sys, "orig_argv", None) or [sys.executable, "-m", __package__ or "zoo_watcher", *sys.argv[1:]]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(sys.executable, [sys.executable, *command[1:]])  # noqa: S606
    except OSError as exc:
        log.critical("not begun anew: %s: %s", sys.executable, exc.strerror)
    return EXIT_TROUBLE


def _serve(watcher: Watcher) -> int:
    """Run the agent; its exit status. Whatever ends it, what it holds lasts until it is started again."""
    try:
        watcher.run()
    except ConfigError:
        raise
    except AgentError as exc:
        log.critical("%s", exc)
        return EXIT_TROUBLE
    except Exception:
        log.critical("ended by an error of its own", exc_info=True)
        return EXIT_TROUBLE
    return 0


_COMMANDS = {"run": _run, "check": _check, "status": _status}


def _version() -> str:
    """The collection's version: the role writes it beside the code, a wheel has it as its own."""
    try:
        return (Path(__file__).parent / "VERSION").read_text(encoding="utf-8").strip()
    except OSError:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            return version("zoo-watcher")
        except PackageNotFoundError:
            return "unknown"


if __name__ == "__main__":
    sys.exit(main())
