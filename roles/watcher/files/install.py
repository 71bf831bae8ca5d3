# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one version of the agent on a host: a virtual environment with the package in it.

The role sends this text to the host's Python, with a call of `main` behind it. It says on standard output, as one
JSON object, whether it changed something (`changed`), what is wrong with the host (`problems`, one line each), which
version the instance runs now (`current`) and what the host calls itself (`host`). Any Python 3.7 can read it, so that
an old one gets a message and no syntax error.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 9)
OLDEST_POLKIT = (0, 106)
"""The first that asks rules which unit it is about."""
STAMP = "zoo-watcher.json"
"""In a version's directory: what its environment was made of. Written last, so that it vouches for the rest."""


class InstallError(Exception):
    """A version could not be made; the text says why and what to do."""


def main(order_text: str) -> None:
    """Carry out an order, and print the report.

    The order is a JSON object with `check`, `managed`, `polkit`, `install_dir`, `config_dir`, `instance`, `version`,
    `packages`, `pip_args`, and `files`, the package's files by name.
    """
    order = json.loads(order_text)
    os.umask(0o022)
    found = problems(order["managed"]) + (polkit_problems() if order["polkit"] else [])
    report: dict[str, Any] = {"changed": False, "problems": found, "host": socket.gethostname()}
    try:
        report["current"] = _current(order)
        if not report["problems"]:
            report["changed"] = install(order)
    except InstallError as exc:
        report["problems"] = [str(exc)]
    except OSError as exc:
        report["problems"] = [f"{exc}; run with become, or choose other directories"]
    sys.stdout.write(json.dumps(report))


def problems(managed: bool) -> list[str]:
    """What keeps this host from running an agent; `managed` by systemd or not."""
    found = []
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        found.append(f"Python {sys.version.split()[0]} is too old; set watcher_python to one of {wanted} or later")
    elif importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        found.append(f"{sys.executable} can't make virtual environments; install python3-venv")
    if shutil.which("git") is None:
        found.append("there is no git; install it")
    if managed and not os.path.isdir("/run/systemd/system"):
        found.append("systemd does not run here; set watcher_manage_service to false and start the agent yourself")
    return found


def polkit_problems() -> list[str]:
    """What keeps this host from letting an agent restart units."""
    advice = "watcher_restart_units needs polkit {}.{} or later (the package polkitd or polkit)".format(*OLDEST_POLKIT)
    try:
        said = subprocess.run(["pkaction", "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):
        return [f"{advice}, and there is none"]
    # "pkaction version 0.105", "pkaction version 122".
    version = said.split()[-1]
    if tuple(int(number) for number in re.findall("[0-9]+", version)) < OLDEST_POLKIT:
        return [f"{advice}, and here is {version}"]
    return []


def install(order: dict[str, Any]) -> bool:
    """Make what is not there or not as ordered. Whether there was anything; with `check`, nothing is done."""
    missing = [folder for folder in (order["install_dir"], order["config_dir"]) if not os.path.isdir(folder)]
    if order["check"] and missing:
        return True
    for folder in missing:
        os.makedirs(folder, 0o755, exist_ok=True)
    with _locked(order["install_dir"]):
        environment = _environment(order)
        package = _package(order)
    return bool(missing) or environment or package


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """One at a time: several instances may be installed on one host at once."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _environment(order: dict[str, Any]) -> bool:
    folder = _version(order)
    python = list(sys.version_info[:2])
    try:
        found = json.loads((folder / STAMP).read_text())
    except (FileNotFoundError, ValueError):
        found = {}
    # Each instance has its own wishes: one with metrics must not make one without differ.
    asked = dict(found["instances"]) if found.get("python") == python and "instances" in found else {}
    differs = bool(asked.get(order["instance"]) != order["packages"])
    if not differs or order["check"]:
        return differs
    if not asked:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], "install python3-venv, or set watcher_python")
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--quiet"]
    _run([*pip, *order["pip_args"], *order["packages"]], "look at watcher_packages and watcher_pip_args")
    asked[order["instance"]] = order["packages"]
    _write(folder / STAMP, json.dumps({"python": python, "instances": asked}))
    return True


def _package(order: dict[str, Any]) -> bool:
    folder = _version(order)
    site = folder / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
    wanted = {site / "zoo_watcher" / name: text for name, text in order["files"].items()}
    wanted[site / "zoo_watcher" / "VERSION"] = order["version"] + "\n"
    differing = [path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode()]
    strangers = [path for path in (site / "zoo_watcher").glob("*.py") if path not in wanted]
    if order["check"] or not differing + strangers:
        return bool(differing + strangers)
    for path in differing:
        _write(path, wanted[path])
    for path in strangers:
        path.unlink()
    # The agent's user can't write here, so it would compile anew at each start.
    _run([str(folder / "bin/python"), "-m", "compileall", "-q", str(site / "zoo_watcher")], "report this")
    return True


def _version(order: dict[str, Any]) -> Path:
    return Path(order["install_dir"]) / order["version"]


def _current(order: dict[str, Any]) -> str | None:
    try:
        return os.readlink(os.path.join(order["install_dir"], f"current-{order['instance']}"))
    except FileNotFoundError:
        return None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(text.encode())
    partial.replace(path)


def _run(command: list[str], advice: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        said = [line for line in lines if line.startswith("ERROR")] or lines
        raise InstallError(f"{' '.join(command[1:4])} failed: {said[-1]}; {advice}")
