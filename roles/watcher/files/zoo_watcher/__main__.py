# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands: `run`, `check` and `leave`; `status`, `hold` and others for a person on the host.

`apply` is what `run` starts for git and disk work. The role installs all of it as `zoo-watcher`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from . import signals
from .errors import AgentError, ConfigError
from .host.shortage import comes_of_shortage
from .logs import print_error, print_line, set_up_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .config.config import Config
    from .config.instance import Instance
    from .host.layout import Layout
    from .watcher import Watcher

log = logging.getLogger(__name__)

EXIT_TROUBLE = 1
EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130


def main() -> int:
    """Run one of the commands; returns its exit status."""
    _open_streams()
    signals.hear_of_children()
    arguments = _arguments(sys.argv[1:])
    if arguments.command == "apply":
        return _apply()
    try:
        return _COMMANDS.get(arguments.command, _control)(arguments)
    except ConfigError as exc:
        subject = arguments.config if arguments.command in {"run", "check", "leave"} else "zoo-watcher"
        for mistake in exc.mistakes:
            print_error(f"{subject}: {mistake}")
        return EXIT_CONFIG
    except AgentError as exc:
        print_error(f"zoo-watcher: {exc}")
        return EXIT_TROUBLE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (OSError, MemoryError, RuntimeError) as exc:
        # Also before the agent serves: without file descriptors it can't even be set up.
        if not comes_of_shortage(exc):
            raise
        print_error(f"zoo-watcher: this host lacks something: {exc}")
        return EXIT_TROUBLE


def _open_streams() -> None:
    """Open the standard streams that are closed, as a start script may leave them: to Python, such a stream is None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            # Also for the program that this process becomes when it reloads.
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115  # for good


def _arguments(words: list[str]) -> SimpleNamespace:
    """The parsed command line. A running agent must not keep in memory what parses any line but its unit's."""
    if words[:2] == ["run", "--config"] and len(words) == 3 and not words[2].startswith("-"):
        return SimpleNamespace(command="run", config=words[2])
    if words == ["apply"]:
        # Each deployment waits for this.
        return SimpleNamespace(command="apply")
    from .command_line import parser  # noqa: PLC0415

    return parser().parse_args(words, SimpleNamespace())


def _apply() -> int:
    """Do the agent's job on standard input."""
    try:
        from .releases.apply import main as apply  # noqa: PLC0415  # of no use to the agent itself
    except ImportError as exc:
        # For instance while this program, or Python, is being upgraded: that says nothing about the release.
        sys.stdout.write(json.dumps({"error": f"the apply process can't begin: {exc}", "kind": "process"}) + "\n")
        return EXIT_TROUBLE
    status = apply()
    # The agent waits for this process to end, and tearing down the interpreter would serve no purpose.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _check(arguments: SimpleNamespace) -> int:
    from .config.document import read_document  # noqa: PLC0415

    config = _usable_config(arguments.config, read_document(arguments.config))
    print_line(f"{arguments.config}: valid, app={config.app.root} base={config.base} name={config.name}")
    return 0


def _leave(arguments: SimpleNamespace) -> int:
    from .config.config import Config  # noqa: PLC0415
    from .zookeeper.roster_exit import leave_roster  # noqa: PLC0415

    print_line(leave_roster(Config.from_file(arguments.config)))
    return 0


def _usable_config(path: str, document: dict[str, Any]) -> Config:
    """The configuration in a document, after every check that needs no server. Raises `ConfigError`."""
    from .config.config import Config  # noqa: PLC0415
    from .host.base_lock import check_base  # noqa: PLC0415
    from .host.layout import Layout  # noqa: PLC0415
    from .zookeeper.kazoo_client import check_connection  # noqa: PLC0415

    config = Config.from_object(document)
    config.refuse_restart_of(_own_unit(path))
    check_connection(config.connection)
    # Only now: it needs kazoo, and the check above reports a missing one.
    from .status_board import check_metrics  # noqa: PLC0415

    check_metrics(config)
    with _mistake():
        check_base(Layout(config.base))
    return config


def _own_unit(path: str) -> str:
    """The unit of the agent with this configuration; outside a unit, the one that the role creates for such a file."""
    from .host.systemd import unit  # noqa: PLC0415

    return f"{unit() or f'zoo-watcher@{Path(path).stem}'}.service"


def _check_reload(path: str, running: Layout) -> dict[str, Any]:
    """The configuration's content, if the agent of the base `running` can restart with it. Raises `ConfigError`."""
    from .config.document import read_document  # noqa: PLC0415
    from .host.base_lock import try_base  # noqa: PLC0415
    from .host.layout import Layout  # noqa: PLC0415

    document = read_document(path)
    config = _usable_config(path, document)
    _check_program()
    with _mistake():
        try_base(Layout(config.base), running)
    return document


def _check_program() -> None:
    """Raises `ConfigError` if this process could not execute the same program again."""
    from .host.program import find_missing  # noqa: PLC0415

    missing = find_missing()
    if missing:
        raise ConfigError([f"{missing} is not there; is the agent being installed? Reload it again after that"])


@contextlib.contextmanager
def _mistake() -> Iterator[None]:
    """Turn an `AgentError` inside the block into a mistake in the configuration."""
    try:
        yield
    except AgentError as exc:
        raise ConfigError([str(exc)]) from exc


def _instance(arguments: SimpleNamespace) -> Instance:
    """The agent that a command is about. Raises `AgentError`."""
    from .config.instance import DIRECTORY, Instance  # noqa: PLC0415

    if arguments.config:
        return Instance.of_file(arguments.config)
    return Instance.named(arguments.config_dir or DIRECTORY, arguments.instance)


def _status(arguments: SimpleNamespace) -> int:
    from .host.layout import Layout  # noqa: PLC0415
    from .host.owner import become_owner  # noqa: PLC0415
    from .status_report import as_table, host_report  # noqa: PLC0415

    instance = _instance(arguments)
    become_owner(Layout(instance.base))
    report = host_report(instance)
    print_line(json.dumps(report, indent=2) if arguments.json else as_table(report))
    if report["unread"]:
        print_error(f"zoo-watcher: not read: {'; '.join(report['unread'])}")
    return 0


def _control(arguments: SimpleNamespace) -> int:
    from .control_commands import carry_out  # noqa: PLC0415
    from .host.layout import Layout  # noqa: PLC0415
    from .host.owner import become_owner  # noqa: PLC0415

    by = _person()
    instance = _instance(arguments)
    layout = Layout(instance.base)
    if not become_owner(layout):
        raise AgentError(f"{layout.base}: no such directory; the agent was never started here")
    # Everybody may read a marker, whatever the umask of root's shell.
    os.umask(0o022)
    report = carry_out(arguments.command, layout, getattr(arguments, "reason", ""), by)
    print_line(f"{instance.label}: {report.line}")
    return report.exit_status


def _person() -> str:
    """The user who typed the command, also through sudo."""
    import pwd  # noqa: PLC0415

    name = os.environ.get("SUDO_USER")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"user {os.getuid()}"
    return name[:64]


def _run(arguments: SimpleNamespace) -> int:
    # Imports take a moment, in which a signal would end a process that does not listen yet, and orphan its session.
    signals.defer()
    signals.take_up()
    from .host.layout import Layout  # noqa: PLC0415
    from .host.linux import drop_ambient_capabilities  # noqa: PLC0415
    from .watcher import Watcher  # noqa: PLC0415

    drop_ambient_capabilities()
    config = _config_to_run(arguments.config)
    watcher = Watcher(config, _version(), partial(_check_reload, arguments.config, Layout(config.base)))
    status = _serve(watcher)
    if watcher.ended == "leaving":
        signals.ignore()
        return status
    signals.defer()
    if watcher.ended == "reloading":
        status = _begin_anew(watcher)
    # The session is for the next agent: kazoo would close it when the interpreter ends.
    logging.shutdown()
    os._exit(status)


def _config_to_run(path: str) -> Config:
    """The configuration, with the log set up as it says; if it is wrong right after a reload, the one that was checked.

    Raises `ConfigError`.
    """
    from .config.config import Config  # noqa: PLC0415
    from .config.document import passed_on  # noqa: PLC0415

    checked = passed_on()
    problem = None
    try:
        config = Config.from_file(path)
    except ConfigError as exc:
        if checked is None:
            raise
        problem = exc
        config = replace(Config.from_object(checked), file=os.path.abspath(path))
    set_up_log(config.log_level)
    if problem:
        log.warning("reloaded with the configuration that was checked, which has changed since: %s", problem)
    return _without_own_unit(path, config)


def _without_own_unit(path: str, config: Config) -> Config:
    """The configuration without a restart of the agent's own unit, which earlier versions accepted: the host serves."""
    unit = _own_unit(path)
    try:
        config.refuse_restart_of(unit)
    except ConfigError as exc:
        log.warning("left out: %s", exc)
        return config.without_restart_of(unit)
    return config


def _begin_anew(watcher: Watcher) -> int:
    """Execute the same command again, as the same process: the session stays open, and is resumed.

    A configuration that is wrong by then, as while it is being written, does not end the agent: the one that the
    `watcher` has checked counts. A signal that arrives meanwhile does end it.

    Returns only if that is not possible, with an exit status: then the service manager starts the agent.
    """
    from .config.document import pass_on  # noqa: PLC0415
    from .host import base_lock  # noqa: PLC0415

    command = getattr(sys, "orig_argv", None) or [sys.executable, "-m", __package__ or "zoo_watcher", *sys.argv[1:]]
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # what can't be written, as on a full disk, is lost
            stream.flush()
    with contextlib.suppress(OSError):
        pass_on(watcher.checked)
    signals.pass_on(watcher.inbox.descriptor)
    base_lock.pass_on(watcher.lock)
    try:
        os.execv(sys.executable, [sys.executable, *command[1:]])  # noqa: S606  # this program once more
    except OSError as exc:
        log.critical("not restarted: %s: %s", sys.executable, exc.strerror)
    return EXIT_TROUBLE


def _serve(watcher: Watcher) -> int:
    """Run the agent; returns its exit status. Whatever ends it, what it holds lasts until it is started again."""
    try:
        watcher.run()
    except ConfigError:
        raise
    except AgentError as exc:
        log.critical("%s", exc)
        return EXIT_TROUBLE
    except Exception as exc:
        if comes_of_shortage(exc):
            log.critical("this host lacks something: %s", exc)
        else:
            log.critical("ended by an internal error", exc_info=True)
        return EXIT_TROUBLE
    return 0


_COMMANDS = {"run": _run, "check": _check, "leave": _leave, "status": _status}
"""All other commands are controls."""


def _version() -> str:
    """The collection's version: the role writes it next to the code, a wheel has it as its own."""
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
