# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can name a znode, what is above and below it, how much and what it can hold, and how a message quotes a value.

Standard library only: the agent carries this same file. It is apart from the records because most plugins need no more
of them, and Ansible compiles every file of a collection anew at each start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

DEFAULT_APP = "/app/business"
"""The znode of an application where nobody says another."""
MAX_NODE_BYTES = 1_000_000
"""A packet of ZooKeeper's holds 1,048,575 bytes (jute.maxbuffer); a value leaves room for its path."""


class InvalidRecord(ValueError):
    """A node's data is not the record that belongs there; the text says which key and why."""


def check_path(path: str) -> str:
    """`path` itself where it is an absolute, normalised znode path; `InvalidRecord` otherwise."""
    if not path.startswith("/"):
        raise InvalidRecord(f"path: expected one that begins with /, got {quote(path)}")
    if path != "/":
        for segment in path[1:].split("/"):
            check_node_name(segment, f"path {quote(path)}")
    return path


def check_node_name(name: str, where: str) -> str:
    """`name` itself where it can name one znode; `InvalidRecord` that begins with `where` otherwise."""
    if name in {"", ".", ".."} or "/" in name or has_control(name):
        raise InvalidRecord(
            f"{where}: {quote(name)} can't name a znode (no empty, . or .. segment, no slash, no control character)"
        )
    return name


def ancestors(path: str) -> list[str]:
    """The znodes above `path`, the root first."""
    cuts = [index for index, letter in enumerate(path) if letter == "/"]
    return [] if path == "/" else ["/", *(path[:cut] for cut in cuts[1:])]


def parent(path: str) -> str:
    """The znode right above `path`."""
    return path.rpartition("/")[0] or "/"


def child(path: str, name: str) -> str:
    """The znode `name` right below `path`."""
    return f"/{name}" if path == "/" else f"{path}/{name}"


def walk(roots: Iterable[str], list_level: Callable[[list[str]], Iterable[Iterable[str]]]) -> Iterator[list[str]]:
    """The znodes below `roots`, one level at a time; `list_level` gives the names of the children of each of its paths.

    A level is listed when the next one is asked for: who takes only some of the levels has only those listed.
    """
    level = list(roots)
    while level:
        level = [child(path, name) for path, names in zip(level, list_level(level)) for name in names]
        if level:
            yield level


def has_control(text: str) -> bool:
    """Whether there is a control character in `text`, or half a character (a lone surrogate)."""
    # The test by itself is quicker than a pattern is compiled, and nearly every text passes it.
    return not (text.isascii() and text.isprintable()) and any(_is_control(one) for one in text)


def _is_control(letter: str) -> bool:
    return letter < "\x20" or "\x7f" <= letter <= "\x9f" or "\ud800" <= letter <= "\udfff"


def without_control(text: str) -> str:
    """`text` as a terminal may have it: hosts and others write what they like. The ends of its lines stay."""
    return "".join("?" if _is_control(letter) and letter not in "\n\t" else letter for letter in text)


def printable(line: str) -> str:
    """A line of somebody else's with a `?` for each character that can't be seen."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def finite(text: str) -> float:
    """The number that JSON writes as `text`. Raises `ValueError` for one that Python takes for infinite."""
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"{quote(text)} is more than a number can be here")
    return number


def quote(value: object, limit: int = 80) -> str:
    """`value` as a message quotes it: printable, in quotation marks, at most `limit` characters."""
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        # What could just be read at the stack's depth then may be too deep to be written at the depth now.
        return f"a {type(value).__name__} that is nested too deeply to be quoted"
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"
