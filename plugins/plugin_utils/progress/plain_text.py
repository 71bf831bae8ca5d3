# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Strings that are safe to show on a terminal, whoever wrote them: anybody may write statuses, refs and reasons."""

from __future__ import annotations

import re
import textwrap

CUT = "..."
SHORT = 10
"""Digits of a commit's id in a line."""
_COMMIT = re.compile(rf"\b([0-9a-f]{{{SHORT}}})(?:[0-9a-f]{{30}}|[0-9a-f]{{54}})\b")


def plain(text: object) -> str:
    """A string on one line: what could move a terminal's cursor, or colour or reorder its text, becomes an escape."""
    whole = str(text)
    return whole if whole.isprintable() else "".join(one if one.isprintable() else _escape(one) for one in whole)


def _escape(letter: str) -> str:
    return " " if letter in "\n\t" else letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def brief(text: object) -> str:
    """The same, with commit ids shortened."""
    return _COMMIT.sub(r"\1", plain(text))


def cut(text: str, width: int) -> str:
    """The string, cut to at most `width` characters."""
    return text if len(text) <= width else text[: max(0, width - len(CUT))] + CUT


def wrapped(text: str, width: int, indent: str) -> list[str]:
    """The string in lines of at most `width` characters, each beginning with `indent`; no word is lost."""
    return textwrap.wrap(text, max(width, len(indent) + 20), initial_indent=indent, subsequent_indent=indent)
