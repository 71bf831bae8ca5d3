# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a message quotes of text written by others: little enough to leave room for the rest of the message."""

from __future__ import annotations

MOST_LINES = 10
LONGEST_LINE = 200
LONGEST_EXCERPT = 1_000
"""The most characters of all lines together."""
UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def last_lines(text: str) -> str:
    """The last lines of a string, each as in `first_words`."""
    lines = [first_words(line) for line in text.splitlines()[-MOST_LINES:]]
    while len("\n".join(lines)) > LONGEST_EXCERPT:
        del lines[0]
    return "\n".join(lines)


def first_words(line: str) -> str:
    """The beginning of a line, without anything that could change what a terminal shows."""
    begin = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."
    return "".join(map(_printable, begin))


def _printable(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else UNPRINTABLE
