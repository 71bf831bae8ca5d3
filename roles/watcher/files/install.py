# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Surveys a host and installs one version of the agent on it: a virtual environment with the package in it.

The role sends this source to the host's Python, followed by a call of `main`. It prints a report, one JSON object:

`host`: the host's own name; `systemd`: its version, None if it does not run;
`versions`: the existing environments; `instances`: which of them each instance runs; `current`: this instance's;
`units`: the user of each instance's unit; `user`: whether the order's user `exists`, was created by the role, `ours`,
and has a group to itself, `alone`;
`running`: whether the unit is active, `outdated`: since before its files were written, or starting in vain,
`connected`: to the ensemble;
`there`: which of the order's `places` exist; `emptied`: which of the role's directories contain nothing besides
these and the environments; `foreign`: which of its `directories` the user can't write to, and
`lacking`: which do not exist;
`missing`: what a package can provide, by name, with a line each; `problems`: what else is wrong, a line each;
`changed`: whether an environment was created or changed.

Python 3.7 can parse it, so that an old Python gets a message instead of a syntax error.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import grp
import importlib.util
import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OLDEST_PYTHON = (3, 9)
OLDEST_POLKIT = (0, 106)
"""The first version that passes the unit to its rules."""
STAMP = "zoo-watcher.json"
"""In a version's directory: what its environment was built from. Written last, so that it vouches for the rest."""
COMMENT = "zoo.deploy agent"
"""Marks the users in /etc/passwd that the role has created."""
QUIETLY = ["--quiet", "--disable-pip-version-check", "--no-input"]
MODULES = {
    "kazoo": "kazoo",
    "pure-sasl": "puresasl",
    "kerberos": "kerberos",
    "prometheus-client": "prometheus_client",
}
"""The module name of each Python package."""


class InstallError(Exception):
    """A version could not be installed; the message says why and what to do."""


def main(order_text: str) -> None:
    """Carry out an order and print the report.

    The order is a JSON object: `check`, `managed`, `state`, `source` (index, wheels, distribution), `needs` (polkit,
    ssh, gpg, Python packages), `install_dir`, `config_dir`, `base`, `instance`, `unit`, `user`, `group`, `directories`,
    `places`, `name` (of the environment), `version`, `packages` and `pip_args` (for pip), and `files`, the package's
    files by name.
    """
    order = json.loads(order_text)
    os.umask(0o022)
    report: dict[str, Any] = {"changed": False, "missing": {}, "problems": []}
    try:
        check_privilege(order["managed"])
        report.update(survey(order))
        if order["state"] == "present":
            report["missing"], report["problems"] = missing(order), problems(order)
            report["changed"] = not report["missing"] and not report["problems"] and install(order)
    except InstallError as exc:
        report["problems"] = [str(exc)]
    except OSError as exc:
        report["problems"] = [f"{exc}; run with become, or choose other directories"]
    except subprocess.CalledProcessError as exc:
        report["problems"] = [f"{exc}; look at what it says on the host"]
    sys.stdout.write(json.dumps(report))


def check_privilege(managed: bool) -> None:
    """Raises `InstallError` if this user could not install a service."""
    if managed and os.geteuid() != 0:
        raise InstallError("the service needs root on this host; apply the role with become: true")


def survey(order: dict[str, Any]) -> dict[str, Any]:
    """The state of the host, as far as the role asks."""
    install_dir = Path(order["install_dir"])
    environments = [
        path for path in sorted(install_dir.glob("*")) if (path / "pyvenv.cfg").is_file() and not path.is_symlink()
    ]
    instances = _instances(install_dir)
    there = [path for place in order["places"] for path in _with_backups(place)]
    directories = [order["install_dir"], order["config_dir"], *["/run/zoo-watcher"] * order["managed"]]
    return {
        "host": socket.gethostname(),
        "systemd": _systemd_version(),
        "versions": [path.name for path in environments],
        "instances": instances,
        "current": instances.get(order["instance"]),
        "units": _units(),
        "user": _user(order["user"]),
        "there": there,
        "secret": _has_secret(order),
        "emptied": [path for path in directories if _is_spent(path, there, environments)],
        "foreign": [path for path in order["directories"] if os.path.isdir(path) and not _writable(path, order)],
        "lacking": [path for path in order["directories"] if not os.path.isdir(path)],
        **_service(order),
    }


def _instances(install_dir: Path) -> dict[str, str]:
    links = [path for path in install_dir.glob("current-*") if path.is_symlink()]
    return {path.name.replace("current-", "", 1): os.readlink(path) for path in links}


def _with_backups(path: str) -> list[str]:
    """The file, and the backups of its predecessor that an interrupted run of the role has left."""
    return [path] * os.path.lexists(path) + glob.glob(glob.escape(path) + ".*~")


def _is_spent(directory: str, there: list[str], environments: list[Path]) -> bool:
    """Whether a directory contains only what is removed with its last instance."""
    found = {os.path.join(directory, name) for name in os.listdir(directory)} if os.path.isdir(directory) else {""}
    return found <= {*there, *map(str, environments)}


def _systemd_version() -> int | None:
    if not os.path.isdir("/run/systemd/system"):
        return None
    words = _said(["systemctl", "--version"]).split()
    # The first of them are "systemd", "252".
    return int(words[1])


def _units() -> dict[str, str]:
    found = {}
    for path in glob.glob("/etc/systemd/system/zoo-watcher@*.service"):
        user = re.search("^User=(.*)$", Path(path).read_text(), re.MULTILINE)
        found[os.path.basename(path)[len("zoo-watcher@") : -len(".service")]] = user[1] if user else ""
    return found


def _user(name: str) -> dict[str, bool]:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return {"exists": False, "ours": False, "alone": False}
    try:
        group = grp.getgrnam(name)
        sharing = {one.pw_name for one in pwd.getpwall() if one.pw_gid == group.gr_gid} | set(group.gr_mem)
    except KeyError:
        sharing = set()
    return {"exists": True, "ours": user.pw_gecos == COMMENT, "alone": sharing == {name}}


def _writable(directory: str, order: dict[str, Any]) -> bool:
    """Whether the agent can create a file there without the help of a capability."""
    stat = os.stat(directory)
    try:
        if stat.st_uid == pwd.getpwnam(order["user"]).pw_uid:
            return bool(stat.st_mode & 0o200)
        in_group = stat.st_gid == grp.getgrnam(order["group"]).gr_gid
    except KeyError:
        # A user that is yet to be created owns nothing.
        in_group = False
    return bool(stat.st_mode & (0o020 if in_group else 0o002))


def _service(order: dict[str, Any]) -> dict[str, bool]:
    """Whether the unit is active, and whether with older files than those on the disk."""
    silent = {"running": False, "outdated": False, "connected": False}
    if not order["managed"] or not os.path.isdir("/run/systemd/system"):
        return silent
    asked = ["ActiveState", "ExecMainStartTimestampMonotonic", "NeedDaemonReload"]
    text = _said(["systemctl", "show", "--property", ",".join(asked), order["unit"]])
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if shown.get("ActiveState") != "active":
        # To Ansible, a unit that tries again and again counts as started.
        return {**silent, "outdated": shown.get("ActiveState") == "activating"}
    begun = time.time() - time.monotonic() + int(shown["ExecMainStartTimestampMonotonic"]) / 1_000_000
    return {
        "running": True,
        "outdated": shown["NeedDaemonReload"] == "yes" or any(path.lstat().st_mtime > begun for path in _read(order)),
        "connected": _is_connected(Path(order["base"])),
    }


def _read(order: dict[str, Any]) -> list[Path]:
    """The files that an agent reads when it starts."""
    link = Path(order["install_dir"], f"current-{order['instance']}")
    own = [Path("/etc/systemd/system", order["unit"]), _configuration(order), link]
    credentials = _configuration(order).with_suffix(".credentials").glob("*")
    package = link.glob("lib/python*/site-packages/zoo_watcher/**/*.py")
    return [path for path in [*own, *credentials, *package] if os.path.lexists(path)]


def _configuration(order: dict[str, Any]) -> Path:
    return Path(order["config_dir"], f"{order['instance']}.json")


def _has_secret(order: dict[str, Any]) -> bool:
    """Whether the configuration contains a secret that a diff would show."""
    try:
        return not set(order["secrets"]).isdisjoint(json.loads(_configuration(order).read_text()))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):
        return True


def _is_connected(base: Path) -> bool:
    try:
        # The agent's user can put a symlink or a FIFO there: neither is followed or waited for.
        descriptor = os.open(str(base / ".zoo/status.json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            return bool(json.load(file)["session"] == "SyncConnected")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def problems(order: dict[str, Any]) -> list[str]:
    """What prevents this host from running the agent and no package can fix."""
    found = []
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        found.append(f"Python {sys.version.split()[0]} is too old; set watcher_python to one of {wanted} or later")
    if order["managed"] and not os.path.isdir("/run/systemd/system"):
        found.append("systemd does not run here; set watcher_manage_service to false and start the agent yourself")
    if order["managed"] and base_problem(order):
        found.append(base_problem(order))
    return found


def base_problem(order: dict[str, Any]) -> str:
    """What prevents the agent's user from taking over the base of another user; empty if nothing does."""
    base, user = order["base"], order["user"]
    try:
        uid = os.stat(os.path.join(base, ".zoo")).st_uid
    except OSError:
        return ""
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = ""
    try:
        is_its_own = pwd.getpwnam(user).pw_uid == uid
    except KeyError:
        # If it is recreated, it gets the id of the removed one again.
        is_its_own = not owner
    if is_its_own:
        return ""
    owner = owner or str(uid)
    # With the slash at the end, find follows a symlink.
    command = f"find {shlex.quote(os.path.join(base, ''))} -user {owner} -exec chown -h {user}: {{}} +"
    return (
        f"{base}/.zoo is {owner}'s, and watcher_user is {user}; set it to {owner}, or make that user, stop "
        f"{order['unit']}, run {command}, and apply the role again"
    )


def missing(order: dict[str, Any]) -> dict[str, str]:
    """What the host lacks and a package of its distribution provides, each with what to do."""
    found = {}
    if shutil.which("git") is None:
        found["git"] = "git is not installed; install it"
    if "ssh" in order["needs"] and shutil.which("ssh-keygen") is None:
        found["ssh"] = "the OpenSSH client is not installed; install openssh-client"
    if "gpg" in order["needs"] and shutil.which("gpg") is None:
        found["gpg"] = "GnuPG is not installed; install gpg"
    if "polkit" in order["needs"] and polkit_problem():
        found["polkit"] = polkit_problem()
    modules = ["venv"] if order["source"] == "distribution" else ["venv", "ensurepip"]
    if not all(importlib.util.find_spec(module) for module in modules):
        found["venv"] = f"{sys.executable} can't make virtual environments; install python3-venv"
    if order["source"] == "distribution":
        for package in [package for package in order["needs"] if package in MODULES]:
            if importlib.util.find_spec(MODULES[package]) is None:
                found[package] = (
                    f"{sys.executable} has no module {MODULES[package]}; install the distribution's {package} for it, "
                    "or set watcher_install_from to index"
                )
    return found


def polkit_problem() -> str:
    """What prevents this host from letting an agent restart units; empty if nothing does."""
    advice = "watcher_restart_units needs polkit {}.{} or later (the package polkitd or polkit)".format(*OLDEST_POLKIT)
    try:
        said = _said(["pkaction", "--version"])
    except (OSError, subprocess.CalledProcessError):
        return f"{advice}, and there is none"
    # "pkaction version 0.105", "pkaction version 122".
    version = said.split()[-1]
    if tuple(int(number) for number in re.findall("[0-9]+", version)) < OLDEST_POLKIT:
        return f"{advice}, and here is {version}"
    return ""


def install(order: dict[str, Any]) -> bool:
    """Create what is missing or not as ordered. Returns whether there was anything; with `check`, nothing is done."""
    lacking = [directory for directory in (order["install_dir"], order["config_dir"]) if not os.path.isdir(directory)]
    if order["check"] and lacking:
        return True
    for directory in lacking:
        os.makedirs(directory, 0o755, exist_ok=True)
    with contextlib.nullcontext() if order["check"] else _locked(order["install_dir"]):
        is_to_replace = not order["check"] and _is_to_replace(order)
        made = _replace(order) if is_to_replace else _make(order, _directory(order))
    return bool(lacking) or made


def _is_to_replace(order: dict[str, Any]) -> bool:
    """Whether instances run an environment of another Python, or one whose Python is gone, or one that was removed."""
    directory = _directory(order)
    return order["name"] in _instances(directory.parent).values() and not _has_this_python(directory)


def _replace(order: dict[str, Any]) -> bool:
    """Create an environment and replace one that instances run.

    If this fails, they go on with the old one; if not, they find their modules until they are restarted.
    """
    directory = _directory(order)
    made, replaced = (directory.with_name(f"{directory.name}.{end}") for end in ("new", "old"))
    # The remains of an interrupted run need not contain what the instances require now.
    shutil.rmtree(made, ignore_errors=True)
    try:
        _make(order, made)
        if directory.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            directory.rename(replaced)
        made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for path in (replaced / "lib").glob("python*"):
        if not (directory / "lib" / path.name).exists():
            path.rename(directory / "lib" / path.name)
    shutil.rmtree(replaced, ignore_errors=True)
    return True


def _make(order: dict[str, Any], directory: Path) -> bool:
    environment = _environment(order, directory)
    package = _package(order, directory)
    if (environment or package) and not order["check"]:
        _try(directory)
    return environment or package


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """One at a time: several instances may be installed on one host at once.

    The lock is a file that no other user can open, and so hold; a holder that is killed holds it no longer.
    """
    path = os.path.join(directory, ".lock")
    descriptor = _hold(path)
    while descriptor is None:
        descriptor = _hold(path)
    try:
        yield
    finally:
        os.unlink(path)
        os.close(descriptor)


def _hold(path: str) -> int | None:
    """The descriptor of the lock; None if its holder has removed the file meanwhile."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path), os.fstat(descriptor)):
            return descriptor
    os.close(descriptor)
    return None


def _directory(order: dict[str, Any]) -> Path:
    return Path(order["install_dir"], order["name"])


def _stamp(directory: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((directory / STAMP).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _has_this_python(directory: Path) -> bool:
    stamp, is_there = _stamp(directory), (directory / "bin/python").exists()
    return is_there and stamp.get("python") == list(sys.version_info[:2]) and "instances" in stamp


def _asked(order: dict[str, Any]) -> dict[str, list[str]]:
    """The packages of each instance that the environment has, or that one for another Python is to have."""
    directory = _directory(order)
    # By instance: an instance with metrics must not make one without them count as changed.
    asked = dict(_stamp(directory).get("instances", {}))
    if _has_this_python(directory):
        return asked
    running = {instance for instance, name in _instances(directory.parent).items() if name == order["name"]}
    return {instance: packages for instance, packages in asked.items() if instance in running - {order["instance"]}}


def _environment(order: dict[str, Any], directory: Path) -> bool:
    asked, is_new = _asked(order), not _has_this_python(directory)
    differs = is_new or asked.get(order["instance"]) != order["packages"]
    if not differs or order["check"]:
        return differs
    if is_new:
        options = ["--system-site-packages", "--without-pip"] if order["source"] == "distribution" else []
        command = [sys.executable, "-m", "venv", "--clear", *options, str(directory)]
        _run(command, "install python3-venv, or set watcher_python")
    if order["source"] != "distribution":
        pip = [str(directory / "bin/python"), "-m", "pip", "install", *QUIETLY]
        advice = "look at watcher_install_from, watcher_packages, watcher_wheels and watcher_pip_args"
        # One call each: two instances may require versions that exclude each other, and the last one gets its own.
        for packages in [*(asked.values() if is_new else []), order["packages"]]:
            _run([*pip, *order["pip_args"], *packages], advice)
    asked = {**asked, order["instance"]: order["packages"]}
    _write(directory / STAMP, json.dumps({"python": list(sys.version_info[:2]), "instances": asked}))
    return True


def _package(order: dict[str, Any], directory: Path) -> bool:
    site = directory / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
    wanted = {site / "zoo_watcher" / name: text for name, text in order["files"].items()}
    wanted[site / "zoo_watcher" / "VERSION"] = order["version"] + "\n"
    differing = [path for path, text in wanted.items() if not path.is_file() or path.read_bytes() != text.encode()]
    strangers = [path for path in (site / "zoo_watcher").rglob("*.py") if path not in wanted]
    if order["check"] or not differing + strangers:
        return bool(differing + strangers)
    for path in differing:
        _write(path, wanted[path])
    for path in strangers:
        path.unlink()
    # The agent's user can't write here, so each start would compile again.
    _run([str(directory / "bin/python"), "-m", "compileall", "-q", str(site / "zoo_watcher")], "report this")
    return True


def _try(directory: Path) -> None:
    """Import everything that the agent and its apply process import, before an instance is moved to the environment."""
    command = [str(directory / "bin/python"), "-I", "-c", "import zoo_watcher.watcher, zoo_watcher.releases.apply"]
    _run(command, "look at where the Python packages come from, watcher_install_from; no instance was touched")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(text.encode())
    partial.replace(path)


def _said(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


def _run(command: list[str], advice: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        lines = done.stdout.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        said = [line for line in lines if line.startswith("ERROR")] or lines
        raise InstallError(f"{' '.join(command[1:4])} failed: {said[-1]}; {advice}")
