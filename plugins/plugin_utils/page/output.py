# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a fleet, as a page or as JSON, to a file on the controller: after one look, and on each turn of a wait.

The file is complete at any moment: a reader gets either the previous one or the new one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.zoo.deploy.plugins.plugin_utils.fleet_limit import is_seen

from .document import to_document

RELOAD_SECONDS = 10
"""After how many seconds a page reloads itself while it is being rewritten."""


class FleetFileError(Exception):
    """The file can't be written; the message says which and why."""


class FleetOutput:
    """The file at `path` for the fleet of `app`, in a `form`, `html` or `json`; `releases` is from `zk_release_info`.

    A page reloads itself after `reload` seconds if that is given, otherwise only while it is being rewritten. After
    each turn, `read_again` returns what is published by then, or nothing if that is not known. Raises `FleetFileError`
    at once if the file can't be written there.
    """

    def __init__(
        self,
        path: str,
        form: str,
        app: str,
        releases: Mapping[str, Any],
        reload: int | None = None,
        read_again: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.path = os.path.realpath(os.path.expanduser(path))
        self._form = form
        self._app = app
        self._releases = releases
        self._reload = reload
        self._read_again = read_again
        self._read_at: datetime | None = None
        directory = os.path.dirname(self.path)
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise FleetFileError(f"zoo_output: expected the path of a file, and {self.path} is something else")
        if not os.path.isdir(directory) or not os.access(directory, os.W_OK):
            raise FleetFileError(f"zoo_output: {directory} is not a directory that a file can be written to")

    def look(self, fleet: Mapping[str, Any]) -> None:
        """Take the result of one turn of a wait. If there will be another turn, write the page meanwhile.

        A disk that is full now may have room by the next one. In an outage the page stays, and shows its age.
        """
        if not is_seen(fleet):
            return
        self._releases = self._read_again() or self._releases
        self._read_at = datetime.now(timezone.utc)
        if fleet.get("timed_out"):
            with contextlib.suppress(FleetFileError):
                self._write(fleet, RELOAD_SECONDS if self._reload is None else self._reload)

    def finish(self, fleet: Mapping[str, Any]) -> bool:
        """Write the final state, as of the last turn that has seen the fleet; whether any has."""
        if self._read_at is None:
            return False
        self._write(fleet, self._reload or 0)
        return True

    def _write(self, fleet: Mapping[str, Any], reload: int) -> None:
        now = self._read_at or datetime.now(timezone.utc)
        text = to_document(self._app, self._releases, fleet, now, self._form, reload)
        try:
            _replace(self.path, text)
        except OSError as exc:
            raise FleetFileError(f"zoo_output: {self.path}: {exc.strerror}") from exc


def _replace(path: str, text: str) -> None:
    """Replace a file, keeping its mode; a new one gets the mode of any new file."""
    descriptor, made = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)[:64]}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(made, _mode(path))
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise


def _mode(path: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.stat(path).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
