# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the hook's program on a git server: an environment with its libraries, and the files of each version.

The role sends this source to the host's Python, with a call of `main` appended. Standard output is one JSON object:
whether something changed (`changed`) and what is wrong (`problems`, one line each).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 9)
STAMP = "zoo-git-hook.json"
"""In the environment: what it was built from. Written last, so that it vouches for the rest."""


class InstallError(Exception):
    """The program could not be installed; the message has the reason and what to do."""


def main(order_text: str) -> None:
    """Carry out an order and print the report.

    The order is a JSON object with `check`, `environment` and `program` (directories), `packages`, `pip_args`, and
    `files`, the program's files by their paths below its directory.
    """
    order = json.loads(order_text)
    os.umask(0o022)
    report: dict[str, Any] = {"changed": False, "problems": _problems()}
    try:
        if not report["problems"]:
            environment = _make_environment(order)
            report["changed"] = _place_files(order) or environment
    except InstallError as exc:
        report["problems"] = [str(exc)]
    except OSError as exc:
        report["problems"] = [f"{exc}; run with become, or choose another git_hook_install_dir"]
    sys.stdout.write(json.dumps(report))


def _problems() -> list[str]:
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return [f"Python {sys.version.split()[0]} is too old; set git_hook_python to one of {wanted} or later"]
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        return [f"{sys.executable} can't make virtual environments; install python3-venv"]
    return []


def _make_environment(order: dict[str, Any]) -> bool:
    """Create or update the environment unless it was built for this order already; whether it was not."""
    directory = Path(order["environment"])
    wanted = {"python": list(sys.version_info[:2]), "packages": order["packages"]}
    try:
        found = dict(json.loads((directory / STAMP).read_text())) if (directory / "bin/python").exists() else {}
    except (FileNotFoundError, ValueError, TypeError):
        found = {}
    if found == wanted or order["check"]:
        return bool(found != wanted)
    if found.get("python") == wanted["python"]:
        _fill_environment(order, directory, wanted)
    elif directory.exists():
        _replace_environment(order, directory, wanted)
    else:
        _new_environment(order, directory, wanted)
    return True


def _replace_environment(order: dict[str, Any], directory: Path, wanted: dict[str, Any]) -> None:
    """Create a new one next to the one that hooks run from, which stays in use if this fails."""
    made, replaced = (directory.with_name(f"{directory.name}.{end}") for end in ("new", "old"))
    try:
        _new_environment(order, made, wanted)
        shutil.rmtree(replaced, ignore_errors=True)
        directory.rename(replaced)
        made.rename(directory)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _new_environment(order: dict[str, Any], directory: Path, wanted: dict[str, Any]) -> None:
    _run([sys.executable, "-m", "venv", "--clear", str(directory)], "install python3-venv, or set git_hook_python")
    _fill_environment(order, directory, wanted)


def _fill_environment(order: dict[str, Any], directory: Path, wanted: dict[str, Any]) -> None:
    pip = [
        str(directory / "bin/python"),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
    ]
    _run([*pip, *order["pip_args"], *order["packages"]], "look at git_hook_packages and git_hook_pip_args")
    _write(directory / STAMP, json.dumps(wanted))


def _place_files(order: dict[str, Any]) -> bool:
    """Write the files that are missing or differ, and remove others; whether there were any."""
    directory = Path(order["program"])
    wanted = {directory / name: text for name, text in order["files"].items()}
    differing = [path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode()]
    strangers = [path for path in directory.rglob("*.py") if path not in wanted]
    if order["check"] or not differing + strangers:
        return bool(differing + strangers)
    for path in differing:
        _write(path, wanted[path])
    for path in strangers:
        path.unlink()
    # The repository's user can't write here, so it would recompile at each push.
    _run([f"{order['environment']}/bin/python", "-m", "compileall", "-q", str(directory)], "report this")
    return True


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
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
