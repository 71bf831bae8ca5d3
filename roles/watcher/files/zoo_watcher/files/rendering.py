# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files rendered from znodes: one file, or those of a directory.

`values` are bytes by path below the watched znode: "" is the znode itself, "db/host" is two levels below. A znode with
others below it is a directory, or an object: it can't have a value of its own. The value of the watched znode itself is
not rendered together with those below it. Every value is a string: nothing guesses that "8080" is a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from zoo_watcher.wire.znode_names import MAX_NODE_BYTES, InvalidRecord, check_node_name, quote

STAGED = ".zoo-"
"""The prefix of the names that new files have before they are in place."""
LONGEST_NAME = 255
"""Bytes of a file's name on the file systems of Linux; of a key too, so that every format takes the same names."""
MAX_DEPTH = 100
"""Levels of znodes below the watched one. A value is a string whatever it contains: never decoded, it adds none."""

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+")
_ENV_KEY = re.compile(r"[A-Z_][A-Z0-9_]*")


def render(kind: str, values: Mapping[str, bytes]) -> bytes:
    """One file: the value itself, or all that is below it, rendered by one of `_RENDERERS`. Raises `InvalidRecord`."""
    if kind == "value":
        return _sized("", values[""])
    return _RENDERERS[kind](leaves(values)).encode("utf-8")


def leaves(values: Mapping[str, bytes]) -> dict[str, bytes]:
    """The znodes with nothing below them, in the order of their paths. Raises `InvalidRecord`."""
    directories = {path.rpartition("/")[0] for path in values}
    for path in values:
        check_depth(path.count("/") + 1)
        if path and path in directories and values[path]:
            raise InvalidRecord(f"{quote(path)} has both a value and znodes below it: delete one of the two")
    return {path: _sized(path, values[path]) for path in sorted(values) if path and path not in directories}


def check_name(name: str) -> str:
    """`name` itself if a file can have it. Raises `InvalidRecord` otherwise."""
    check_node_name(name, "name")
    if len(name.encode("utf-8")) > LONGEST_NAME or name.startswith(STAGED):
        raise InvalidRecord(f"name: {quote(name)} can't name a file (at most {LONGEST_NAME} bytes, no {STAGED}...)")
    return name


def check_depth(levels: int) -> None:
    """Raises `InvalidRecord` if a subtree is too deep: a reader of such a file may be recursive."""
    if levels > MAX_DEPTH:
        raise InvalidRecord(f"more than {MAX_DEPTH} levels of znodes: expected at most {MAX_DEPTH}")


def _sized(path: str, value: bytes) -> bytes:
    if len(value) > MAX_NODE_BYTES:
        where = f"{quote(path)}: " if path else ""
        raise InvalidRecord(f"{where}{len(value)} bytes: expected at most {MAX_NODE_BYTES}")
    return value


def _text(path: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidRecord(f"{quote(path)}: not UTF-8 at byte {exc.start}: this format holds only text") from exc


def _tree(values: Mapping[str, bytes]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *directories, name = path.split("/")
        inner = tree
        for directory in directories:
            inner = inner.setdefault(directory, {})
        inner[name] = _text(path, value)
    return tree


def _json(values: Mapping[str, bytes]) -> str:
    return json.dumps(_tree(values), indent=2, ensure_ascii=False) + "\n"


def _yaml(values: Mapping[str, bytes]) -> str:
    """Objects as indented blocks, every key and value in double quotes: the same in YAML 1.1 and 1.2."""
    return "".join(_yaml_lines(_tree(values), "")) or "{}\n"


def _yaml_lines(tree: Mapping[str, Any], indent: str) -> Iterable[str]:
    for key, value in tree.items():
        if isinstance(value, str):
            yield f"{indent}{_yaml_text(key)}: {_yaml_text(value)}\n"
        else:
            yield f"{indent}{_yaml_text(key)}:\n"
            yield from _yaml_lines(value, f"{indent}  ")


def _yaml_text(text: str) -> str:
    return '"' + "".join(map(_yaml_letter, text)) + '"'


def _yaml_letter(letter: str) -> str:
    if letter in {'"', "\\"}:
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _properties(values: Mapping[str, bytes]) -> str:
    """The format of `java.util.Properties`, in ASCII: a path's segments are joined by dots."""
    keys = _keys(values, lambda path: path.replace("/", "."))
    return "".join(
        f"{_properties_text(key, ' =:#!')}={_properties_text(_text(path, values[path]), '#!=:')}\n"
        for key, path in keys.items()
    )


def _properties_text(text: str, special: str) -> str:
    escaped = "".join(_properties_letter(letter, special) for letter in text)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def _properties_letter(letter: str, special: str) -> str:
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}.get(letter)
    if named:
        return named
    if letter in special:
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    units = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _env(values: Mapping[str, bytes]) -> str:
    """A file that a shell can source and systemd accepts as an EnvironmentFile.

    A path's segments are joined by underscores, in capitals; a character not allowed in a variable's name becomes one
    too.
    """
    keys = _keys(values, lambda path: re.sub(r"[^A-Z0-9_]", "_", path.upper()))
    for key, path in keys.items():
        if not _ENV_KEY.fullmatch(key) or not path.isascii():
            raise InvalidRecord(f"{quote(path)}: expected ASCII with no digit first, to be the name of a variable")
    return "".join(f"{key}={_env_text(path, _text(path, values[path]))}\n" for key, path in keys.items())


def _env_text(path: str, text: str) -> str:
    if "\0" in text:
        raise InvalidRecord(f"{quote(path)}: a variable's value can't hold a zero byte")
    if not text or _PLAIN.fullmatch(text):
        return text
    # Shells and systemd agree on these four inside double quotes, but not on what ends a single-quoted string.
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'


def _keys(values: Mapping[str, bytes], name: Callable[[str], str]) -> dict[str, str]:
    """The paths by the keys that they get. Raises `InvalidRecord` if two get the same key."""
    keys: dict[str, str] = {}
    for path in values:
        other = keys.setdefault(name(path), path)
        if other != path:
            raise InvalidRecord(f"{quote(other)} and {quote(path)} both get the key {quote(name(path))}: rename one")
    return keys


_RENDERERS: dict[str, Callable[[Mapping[str, bytes]], str]] = {
    "json": _json,
    "yaml": _yaml,
    "properties": _properties,
    "env": _env,
}
