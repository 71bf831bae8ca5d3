# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was pushed, and by whom, as git tells a hook."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .ssh_signature import Signers, VerificationError
from .znode_names import InvalidRecord, printable

BRANCHES = "refs/heads/"
NAMES = (
    "GITEA_PUSHER_NAME",  # Gitea and Forgejo
    "GOGS_AUTH_USER_NAME",  # Gogs
    "GL_USERNAME",  # GitLab
    "GL_USER",  # gitolite
    "SOFT_SERVE_USERNAME",  # Soft Serve
    "REMOTE_USER",  # git http-backend, and what an administrator sets by `environment=` in authorized_keys
)
"""Where git servers name the person pushing. A git server's own variable precedes that of a web server in front."""
GIT = ("git", "--no-replace-objects", "-c", "core.useReplaceRefs=false")
"""Anyone who pushes may also push refs below refs/replace, which make git take one object for another.

git 2.39 does so despite its option if the repository's configuration enables it.
"""
CERTIFICATE = "certificate version "
"""The start of a push certificate: the same key also signs commits and tags for git."""
SIGNATURE = "-----BEGIN "
"""What follows the signed part of a push certificate."""
OF_SSH = f"{SIGNATURE}SSH SIGNATURE-----"
FOR_THIS_PUSH = "OK"
"""git's status for a certificate with the current nonce, or one issued within receive.certNonceSlop seconds.

`SLOP` means a nonce issued at any earlier time, over HTTP: anyone who has the certificate could push it again.
"""
LONGEST_NAME = 200
LONGEST_SUBJECT = 100


class Update(NamedTuple):
    """A branch that was pushed, and the commit that it is now at; `pushed` is the name used in the push."""

    branch: str
    commit_id: str
    pushed: str


def read_updates(lines: Iterable[str]) -> list[Update]:
    """The branches in what git writes to a hook, `old new ref` a line. Tags and deletions are left out."""
    found = [line.split(maxsplit=2) for line in lines if line.strip()]
    return [
        Update(branch, new, branch)
        for _old, new, ref in found
        for branch in [ref.rstrip("\n").removeprefix(BRANCHES)]
        if ref.startswith(BRANCHES) and new.strip("0")
    ]


def pusher(environment: Mapping[str, str]) -> str:
    """The person pushing, as named by the git server, or else the system's user and host."""
    named = next((environment[name] for name in NAMES if environment.get(name)), None)
    said = named or f"{_user()}@{socket.gethostname()}"
    return printable(said)[:LONGEST_NAME]


def certified(file: str, update: Update, environment: Mapping[str, str]) -> str:
    """The signer, from a file of signers, of the push of a branch (`git push --signed`). Raises `InvalidRecord`.

    git's own verdict (GIT_PUSH_CERT_STATUS) is good for any key, even an unknown one; and git accepts further branches
    along with the certificate that nobody has signed.
    """
    if not environment.get("GIT_PUSH_CERT"):
        raise InvalidRecord("the push is not signed; push with --signed, by a key of git_hook_pushers")
    if environment.get("GIT_PUSH_CERT_NONCE_STATUS") != FOR_THIS_PUSH:
        raise InvalidRecord(
            "the push is not the one that was signed just now; push again, and over HTTP set receive.certNonceSlop in "
            "the repository"
        )
    text, begin, rest = _said([*GIT, "cat-file", "blob", environment["GIT_PUSH_CERT"]]).partition(SIGNATURE)
    signature = begin + rest
    # `old new ref` a line, below the header.
    commands = [line.partition(" ")[2] for line in text.partition("\n\n")[2].split("\n")]
    if not text.startswith(CERTIFICATE) or f"{update.commit_id} {BRANCHES}{update.pushed}" not in commands:
        raise InvalidRecord(f"the push that is signed is not that of {update.commit_id} to {update.pushed}")
    if not signature.startswith(OF_SSH):
        raise InvalidRecord("the push is not signed by a key of SSH; git config gpg.format ssh, and push again")
    try:
        signer, problem = Signers(file).find_signer(text.encode("utf-8", "surrogateescape"), signature, "git")
    except VerificationError as exc:
        raise InvalidRecord(f"the push can't be verified: {exc}") from exc
    if problem:
        raise InvalidRecord(f"the push does not count: {problem}")
    return printable(signer)[:LONGEST_NAME]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def tip(branch: str) -> str | None:
    """The commit that a branch of the hook's repository is at now; None if there is no such branch."""
    command = [*GIT, "rev-parse", "--verify", "--quiet", f"{BRANCHES}{branch}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def real_names(wanted: Iterable[str]) -> dict[str, str]:
    """The branches of the hook's repository that are symbolic refs, each with the branch that it stands for.

    Of the `wanted` branches, this includes those whose target does not exist yet, which git doesn't list.
    """
    command = [*GIT, "for-each-ref", "--format=%(refname) %(symref)", BRANCHES]
    refs = dict(line.split(" ") for line in _said(command).split("\n") if line)
    for ref in (f"{BRANCHES}{branch}" for branch in wanted):
        if ref not in refs and _may_be_there(ref):
            refs[ref] = _said([*GIT, "symbolic-ref", "--quiet", ref]).strip()
    return {ref.removeprefix(BRANCHES): real.removeprefix(BRANCHES) for ref, real in refs.items() if real}


def _may_be_there(ref: str) -> bool:
    """Whether there may be a ref that git doesn't list, without asking git for each of a thousand new branches.

    A symbolic ref is a file of its own in the repository, where git runs a hook. Not so in a linked work tree, or in a
    repository whose refs are not stored as files: those have no directory of branches.
    """
    return not os.path.isdir(BRANCHES) or os.path.lexists(ref.encode("utf-8", "surrogateescape"))


def _said(command: list[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode("utf-8", "surrogateescape")


def subject(commit_id: str) -> str | None:
    """The first line of a commit's message, shortened, as the record has it for people; None if there is none."""
    command = [*GIT, "log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%s", commit_id]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return printable(done.stdout.decode("utf-8", "replace").strip())[:LONGEST_SUBJECT] or None
