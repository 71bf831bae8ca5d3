# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the agent's configuration from a JSON object, and notes each mistake with its location."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence

from zoo_watcher.wire.znode_names import InvalidRecord, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9:_.\\@-]*\.(?:service|socket|timer|target|path)")


class ObjectReader:
    """Takes typed values from a JSON object by key, and notes each mistake with its location."""

    def __init__(self, values: Mapping[str, Any], where: str, mistakes: list[str]) -> None:
        self.left = dict(values)
        self.where = where
        self.mistakes = mistakes

    def wrong(self, key: str, text: str) -> None:
        """Note a mistake."""
        name = key if key.isprintable() else quote(key)
        self.mistakes.append(f"{self.where}{name}: {text}")

    def noted(self, key: str) -> bool:
        """Whether a mistake in this key has been noted."""
        return any(mistake.startswith(f"{self.where}{key}: ") for mistake in self.mistakes)

    def take(self, key: str, expected: str, fits: Callable[[Any], bool], default: Any) -> Any:
        """The value of `key` if it `fits`; `default` if there is none, or a mistake."""
        value = self.left.pop(key, None)
        if value is None:
            return default
        if not fits(value):
            # A secret must not be shown, whatever its type.
            got = "" if "password" in key else f", got {quote(value)}"
            self.wrong(key, f"expected {expected}{got}")
            return default
        return value

    def text(self, key: str, default: str | None = None) -> Any:
        """A string that is not empty."""
        return self.take(key, "a string", lambda value: isinstance(value, str) and bool(value), default)

    def flag(self, key: str, default: bool) -> Any:
        """True or false."""
        return self.take(key, "true or false", lambda value: isinstance(value, bool), default)

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> Any:
        """One of `choices`."""
        return self.take(key, f"one of {', '.join(choices)}", lambda value: value in choices, default)

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> Any:
        """A whole number from `low` to `high`."""

        def fits(value: Any) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

        return self.take(key, f"a whole number from {low} to {high}", fits, default)

    def seconds(self, key: str, low: float, high: float, default: float) -> Any:
        """Seconds from `low` to `high`."""

        def fits(value: Any) -> bool:
            return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high

        return self.take(key, f"seconds from {low:g} to {high:g}", fits, default)

    def checked(self, key: str, value: Any, check: Callable[[Any], Any]) -> Any:
        """`check(value)`; what it raises is noted under `key`."""
        try:
            return check(value)
        except InvalidRecord as exc:
            self.wrong(key, str(exc))
            return value

    def reject_unknown(self) -> None:
        """Note every key that was not taken as a mistake."""
        for key in self.left:
            self.wrong(key, "no such key")


def command_words(reader: ObjectReader, key: str) -> tuple[str, ...]:
    """A command as a list of words."""

    def fits(value: Any) -> bool:
        return (
            isinstance(value, list)
            and bool(value)
            and all(isinstance(item, str) and "\0" not in item for item in value)
        )

    return tuple(reader.take(key, "a command as a list of words", fits, ()))


def unit_names(reader: ObjectReader) -> tuple[str, ...]:
    """The units under `restart_units`."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) and UNIT.fullmatch(item) for item in value)

    return tuple(reader.take("restart_units", "a list of units such as nginx.service", fits, ()))


def nameable(path: str) -> bool:
    """Whether a file system can have the path."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
