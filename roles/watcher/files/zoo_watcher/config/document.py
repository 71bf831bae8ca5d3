# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON object in a configuration file; a symlink may lead to it."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from zoo_watcher.errors import ConfigError
from zoo_watcher.wire.records import quote


def read_document(path: str) -> dict[str, Any]:
    """The decoded JSON object in a file. Raises `ConfigError`, from an `OSError` where the file can't be read."""
    try:
        document = json.loads(_read(path).decode("utf-8"))
    except OSError as exc:
        raise ConfigError([f"{path}: {exc.strerror}"]) from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError([f"{path}: not JSON: {exc}"]) from exc
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: expected a JSON object, got {quote(document)}"])
    return document


def _read(path: str) -> bytes:
    # To wait for who writes into a FIFO would stop the agent's loop, which reads its configuration again at a reload.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read()
