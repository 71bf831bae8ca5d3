# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OpenPGP keys by which git verifies a commit: those of one file, in a temporary keyring."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from zoo_watcher.errors import KilledError, PassingError
from zoo_watcher.host.filesystem import disk_errors, remove_tree
from zoo_watcher.wire.git_errors import reason

PROGRAM = "gpg"
LONGEST = 60.0
"""Seconds within which a file of keys has to be read."""
SETTINGS = """\
batch
no-tty
no-autostart
disable-dirmngr
no-auto-key-retrieve
trust-model always
ignore-time-conflict
"""
"""No other process is started, nothing is looked up elsewhere, and each key in the file may sign, even on a host whose
clock is before the key's creation."""
TELLING = ("not yet valid", "expired", "bad signature", "can't check signature")
"""Words in the output of gpg and ssh-keygen that tell why a signature does not count."""
UNREADABLE = ("no valid", "error", "can't apply")
"""Words in gpg's output that tell why a file of keys is not read."""
STATUS = {
    "REVKEYSIG": "its key is revoked",
    "EXPKEYSIG": "its key has expired",
    "EXPSIG": "its signature has expired",
}
"""gpg's status lines for an otherwise good signature; about a revoked key, it says nothing else."""
NO_AGENT = "%Assuan%\nsocket=/dev/null/none\n"
"""A file in place of the agent's socket that names another: see "redirect" in gpg-agent(1). gpg asks the agent for a
new key's secret half, and fails if the socket's own path is too long for one (108 bytes)."""


@contextlib.contextmanager
def keyring(keys: str | None, home: Path) -> Iterator[dict[str, str]]:
    """The environment with which gpg knows the keys in a file, and no others. Raises `PassingError`.

    The keyring is created at `home`, which must not exist. A signature by an expired or revoked key does not count.
    """
    if keys is None:
        yield {}
        return
    with disk_errors("making a keyring"):
        home.mkdir(mode=0o700)
        (home / "gpg.conf").write_text(SETTINGS, encoding="ascii")
        (home / "S.gpg-agent").write_text(NO_AGENT, encoding="ascii")
    environment = {"GNUPGHOME": str(home)}
    try:
        _import(keys, environment)
        yield environment
    finally:
        with disk_errors("removing a keyring"):
            remove_tree(home)


def _import(keys: str, environment: dict[str, str]) -> None:
    command = [PROGRAM, "--import", "--", keys]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise PassingError(f"openpgp_signers: gpg has not read {keys} within {LONGEST:g} s", "timeout") from exc
    except OSError as exc:
        raise PassingError(f"openpgp_signers: gpg can't be started: {exc.strerror}; install GnuPG", "process") from exc
    if done.returncode < 0:
        raise KilledError(f"openpgp_signers: gpg was killed by signal {-done.returncode}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace")
        raise PassingError(f"openpgp_signers: {keys}: {_telling(said, UNREADABLE) or reason(said)}", "disk")


def why_ended(status: str) -> str | None:
    """Why an otherwise good signature does not count, from gpg's status lines; None if they don't say."""
    return next((why for word, why in STATUS.items() if f"\n[GNUPG:] {word} " in status), None)


def why_untrusted(stderr: str) -> str:
    """The one line of git's standard error that says why a signature does not count."""
    return _telling(stderr, TELLING) or reason(stderr)


def _telling(stderr: str, words: tuple[str, ...]) -> str | None:
    lines = [line.strip(" '") for line in stderr.replace("\n  stderr: '", "\n").splitlines()]
    return next((line for line in lines if any(word in line.lower() for word in words)), None)
