# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a session across restarts of the agent: `{"id": ..., "password": "hex", "held": [paths]}`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from zoo_watcher.host.filesystem import load_json, write_durably

ClientId = tuple[int, bytes]
"""A session's id and password, as kazoo has them."""
Memory = tuple[Optional[ClientId], frozenset[str]]
NOTHING: Memory = (None, frozenset())

log = logging.getLogger(__name__)


class SessionMemory:
    """A file with the session and the ephemerals that it may hold; only the agent's user can read it.

    `client_id` and `paths` are what the agent had when it last ended without closing its session, or last saved.
    """

    def __init__(self, file: Path) -> None:
        self.client_id, self.paths = load_json(file, _from_object, NOTHING)
        self._file = file
        self._told: int | None = None

    def save(self, client_id: ClientId, paths: Iterable[str]) -> None:
        """Remember this, where it is something else than before."""
        memory = (client_id, frozenset(paths))
        if memory == (self.client_id, self.paths):
            return
        identity, password = client_id
        record = {"id": identity, "password": password.hex(), "held": sorted(memory[1])}
        try:
            write_durably(self._file, json.dumps(record), mode=0o600)
        except OSError as exc:
            self._tell(exc)
            return
        self.client_id, self.paths = memory
        self._told = None

    def _tell(self, error: OSError) -> None:
        """Log why the file can't be written, once: the next `save` tries again."""
        if error.errno != self._told:
            log.warning("session not remembered, tried again, path=%s: %s", self._file, error.strerror)
        self._told = error.errno

    def forget(self) -> None:
        """Remember nothing: the session has ended."""
        with contextlib.suppress(OSError):
            self._file.unlink()


def _from_object(record: Mapping[str, Any]) -> Memory:
    client_id = int(record["id"]), bytes.fromhex(record["password"])
    if not client_id[0] or not -(2**63) <= client_id[0] < 2**63:
        raise ValueError("no session has this id")
    return client_id, frozenset(str(path) for path in record.get("held", []))


def memory_file(runtime_directory: str | None, fallback: Path) -> Path:
    """Where the session is remembered: in the unit's own directory under /run, where there is one."""
    return Path(os.path.join(runtime_directory, "session.json")) if runtime_directory else fallback
