# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON object in a configuration file; a symlink may lead to it."""

from __future__ import annotations

import errno
import json
import os
import stat

from zoo_watcher.errors import ConfigError
from zoo_watcher.wire.records import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PASSED_ON = "ZOO_WATCHER_DOCUMENT"
"""The variable with the descriptor of what `pass_on` has left."""


class _RepeatedKeyError(ValueError):
    """A key appears twice in one object: only its last value would count."""


def read_document(path: str) -> dict[str, Any]:
    """The decoded JSON object in a file. Raises `ConfigError`, from an `OSError` if the file can't be read."""
    try:
        document = json.loads(read_named(path).decode("utf-8"), object_pairs_hook=_without_repeated)
    except OSError as exc:
        raise ConfigError([f"{path}: {exc.strerror}"]) from exc
    except _RepeatedKeyError as exc:
        raise ConfigError([f"{path}: {exc}"]) from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError([f"{path}: not JSON: {exc}"]) from exc
    if not isinstance(document, dict):
        raise ConfigError([f"{path}: expected a JSON object, got {quote(document)}"])
    return document


def _without_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _RepeatedKeyError(f"the key {quote(key)} is twice in one object; remove one of them")
        values[key] = value
    return values


def read_named(path: str) -> bytes:
    """The content of a regular file that a person has named: a symlink may lead to it. Raises `OSError`."""
    # Waiting for a writer of a FIFO would stop the agent's loop, or a deployment, without a message.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return file.read()


def pass_on(document: object) -> None:
    """Leave a document to the program that this process is about to execute. Raises `OSError`.

    It may contain secrets, so it is not in the environment or a file, but only in memory, behind a descriptor.
    """
    descriptor = os.memfd_create("configuration", 0)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        json.dump(document, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.environ[PASSED_ON] = str(descriptor)


def passed_on() -> dict[str, Any] | None:
    """The document that was left to this program, if any; processes that it starts do not get it."""
    descriptor = os.environ.pop(PASSED_ON, None)
    if descriptor is None:
        return None
    with open(int(descriptor), encoding="utf-8") as file:
        return dict(json.load(file))
