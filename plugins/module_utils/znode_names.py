# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can name a znode, what is above and below it, how much and what it can hold, and how messages quote values.

Standard library only: the agent ships this same file. It is separate from the records because most plugins need only
this part, and Ansible recompiles every file of a collection at each start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator

DEFAULT_APP = "/app/business"
"""The default znode of an application."""
MAX_NODE_BYTES = 1_000_000
"""A ZooKeeper packet holds 1,048,575 bytes (jute.maxbuffer); a value leaves room for its path."""


class InvalidRecord(ValueError):
    """A node's data is not the record that belongs there; the message says which key and why."""


def check_path(path: str) -> str:
    """`path` itself if it is an absolute, normalised znode path; otherwise raises `InvalidRecord`."""
    if not path.startswith("/"):
        raise InvalidRecord(f"path: expected one that begins with /, got {quote(path)}")
    if path != "/":
        for segment in path[1:].split("/"):
            check_node_name(segment, f"path {quote(path)}")
    return path


def check_node_name(name: str, where: str) -> str:
    """`name` itself if it can name one znode; otherwise raises an `InvalidRecord` that begins with `where`."""
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

    A level is listed only when the next one is asked for, so callers pay only for the levels they take.
    """
    level = list(roots)
    while level:
        level = [child(path, name) for path, names in zip(level, list_level(level)) for name in names]
        if level:
            yield level


def has_control(text: str) -> bool:
    """Whether `text` contains a control character or a lone surrogate."""
    # This test is faster than compiling a pattern, and almost every string passes it.
    return not (text.isascii() and text.isprintable()) and any(_is_control(one) for one in text)


def _is_control(letter: str) -> bool:
    return letter < "\x20" or "\x7f" <= letter <= "\x9f" or "\ud800" <= letter <= "\udfff"


def without_control(text: str) -> str:
    """`text` made safe for a terminal: hosts and others write what they like. Line ends are kept."""
    return "".join("?" if _is_control(letter) and letter not in "\n\t" else letter for letter in text)


def printable(line: str) -> str:
    """Somebody else's line, with a `?` for each unprintable character."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def finite(text: str) -> float:
    """The number that JSON writes as `text`. Raises `ValueError` for one that Python takes for infinite."""
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"{quote(text)} is more than a number can be here")
    return number


def quote(value: object, limit: int = 80) -> str:
    """`value` quoted for a message: printable, in quotation marks, at most `limit` characters."""
    try:
        text = json.dumps(value, default=repr)
    except RecursionError:
        # What could just be read at the stack depth then may be too deep to be written at the depth now.
        return f"a {type(value).__name__} that is nested too deeply to be quoted"
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"
