# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which agent of this host a command is about, and where its base is.

The configuration may contain secrets, so not everybody can read it; the role puts a symlink to the base next to it, for
everybody. Other mistakes in a configuration prevent nobody from looking at the host, or from holding it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo_watcher.errors import ConfigError
from zoo_watcher.wire.records import DEFAULT_APP, quote

from .document import read_document
from .object_reader import nameable

DIRECTORY = "/etc/zoo-watcher"
"""Where the role writes configurations: `<instance>.json`, and `<instance>.base`, a symlink to the base."""


@dataclass(frozen=True)
class Instance:
    """An agent of this host, whether or not it runs. `unread` says why its name and application are not known."""

    label: str
    base: Path
    name: str | None = None
    app: str | None = None
    unread: str | None = None

    @classmethod
    def named(cls, directory: str, name: str | None) -> Instance:
        """The agent of this name with a configuration in `directory`, or the only one. Raises `ConfigError`."""
        try:
            names = sorted(entry[: -len(".json")] for entry in os.listdir(directory) if entry.endswith(".json"))
        except OSError as exc:
            raise ConfigError([f"{directory}: {exc.strerror}; name a configuration with --config FILE"]) from exc
        if not names:
            raise ConfigError([f"{directory}: no configuration; name one with --config FILE"])
        if name is None and len(names) > 1:
            raise ConfigError([f"this host has several agents, say which: {', '.join(names)}"])
        if name is not None and name not in names:
            raise ConfigError([f"no agent {quote(name)} on this host, only {', '.join(names)}"])
        return cls.of_file(os.path.join(directory, f"{name or names[0]}.json"))

    @classmethod
    def of_file(cls, path: str) -> Instance:
        """The agent of a configuration file. Raises `ConfigError`."""
        label = Path(path).stem
        try:
            document = read_document(path)
        except ConfigError as exc:
            if not isinstance(exc.__cause__, PermissionError):
                raise
            return cls(label, _linked_base(path), unread=str(exc))
        base = document.get("base")
        if not isinstance(base, str) or not os.path.isabs(base) or not nameable(base):
            raise ConfigError([f"{path}: base: expected an absolute path, got {quote(base)}"])
        if not os.path.normpath(base).strip("/"):
            # Nothing is created in it, least of all by root.
            raise ConfigError([f"{path}: base: expected a directory for the releases alone, got the root directory"])
        return cls(
            label, Path(base), _text(document, "name", socket.gethostname()), _text(document, "app", DEFAULT_APP)
        )


def _linked_base(path: str) -> Path:
    link = Path(path).with_suffix(".base")
    try:
        return Path(os.readlink(link))
    except OSError as exc:
        raise ConfigError([f"{path}: Permission denied, and {link}: {exc.strerror}; run this with sudo"]) from exc


def _text(document: dict[str, Any], key: str, default: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) and value else default
