# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What git reports when it fails, read in one place for plugins and agent. Standard library only; for `LC_ALL=C`."""

from __future__ import annotations

ABSENT = (
    "not our ref",
    "couldn't find remote ref",
    "no such remote ref",
    "not a valid sha1",
    "bad object",
    "not a valid object",
)
"""The server answers but does not have the commit."""
REFUSED = ("unadvertised object", "does not support shallow", "dumb http transport", "does not allow request")
"""The server does not hand out single commits, only whole branches and tags."""
_UNREADABLE = ("Load key ", "Warning: Identity file ")
"""How ssh's lines about a key that it can't use begin; it then asks the server without that key, and is denied."""
_BOILERPLATE = ("could not read from remote", "please make sure you have", "and the repository exists")


def says(stderr: str, words: tuple[str, ...]) -> bool:
    """Whether one of the phrases is in what git wrote to standard error."""
    text = stderr.lower()
    return any(word in text for word in words)


def reason(stderr: str) -> str:
    """The line of git's standard error with the reason for its failure."""
    # A line that ends with a colon has the reason in the next one.
    joined = stderr.replace("\n  stderr: ", "").replace(":\n", ": ")
    lines = [line.strip(" '") for line in joined.splitlines()]
    telling = [line for line in lines if line and not line.lower().removeprefix("fatal: ").startswith(_BOILERPLATE)]
    fatal = [line for line in telling if line.startswith(("fatal:", "error:", "ERROR:"))]
    # git's own conclusion comes after what ssh has noticed.
    silent = [line for line in telling if line.endswith("not responding.")]
    why = (silent or fatal or telling or ["git said nothing"])[-1]
    unreadable = [line for line in telling if line.startswith(_UNREADABLE)] if "Permission denied (" in why else []
    return "; ".join([*unreadable[:1], why])
