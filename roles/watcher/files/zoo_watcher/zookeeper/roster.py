# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This host's entry in the roster of its application. It outlasts the agent, and so shows a host that is missing."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from kazoo.exceptions import NoNodeError

from zoo_watcher.config.config import Config
from zoo_watcher.host.controls import now
from zoo_watcher.wire.records import MAX_NODE_BYTES, AppPaths, InvalidRecord, RosterEntry

from .roster_memory import OwnEntry, RosterMemory
from .session import Session, session_trouble
from .session_memory import ClientId


class RosterMembership:
    """Keeps the entry true. Each session reads it once, and writes only if it is missing or something differs.

    It reads it again if somebody has deleted the host's status, and once more at the look after that: whoever deletes
    an application deletes its roster too, before or after.

    An entry that is not as this agent has left it is rewritten, so that no other host takes it for its own any longer.
    """

    def __init__(self, config: Config, session: Session, memory: RosterMemory, version: str) -> None:
        self._config = config
        self._session = session
        self._memory = memory
        self._version = version
        self._own = memory.former
        """The entry as this agent has left it, even if that can't be remembered yet."""
        self._enrolled: tuple[ClientId, int] | None = None
        self._was_deleted = False
        """Whether somebody has deleted the status since the last look."""

    def enroll(self, status: int) -> None:
        """Make sure that this host is in the roster; `status` is the `czxid` of its status.

        Raises `SessionTroubleError`.
        """
        client_id = self._session.client_id
        if client_id is None or (client_id, status) == self._enrolled:
            return
        path = self._config.app.roster_entry(self._config.name)
        with session_trouble(f"roster entry not written: {path}"):
            self._own = OwnEntry(path, self._write(path))
        self._leave_former(path)
        self._memory.save(self._own)
        if self._enrolled is not None and self._enrolled[0] == client_id:
            self._was_deleted = True
        self._enrolled = client_id, status

    def look_again(self) -> None:
        """Read it once more if somebody has deleted the status: the roster may have been deleted after it."""
        if self._was_deleted:
            self._was_deleted, self._enrolled = False, None

    def _write(self, path: str) -> int:
        """Make the entry true and this host's; returns its `mzxid`."""
        client = self._session.client
        try:
            data, stat = self._session.ask(client.get_async, path)
        except NoNodeError:
            self._session.ask(client.create_async, path, self._true(RosterEntry()).to_node(), makepath=True)
            return int(self._session.ask(client.get_async, path)[1].mzxid)
        before = _entry(data)
        entry = self._true(before)
        if len(entry.to_node()) > MAX_NODE_BYTES:
            entry = self._true(RosterEntry())  # what others have written into it leaves no room
        if entry != before or self._own != OwnEntry(path, stat.mzxid):
            stat = self._session.ask(client.set_async, path, entry.to_node(), stat.version)
        return int(stat.mzxid)

    def _true(self, before: RosterEntry) -> RosterEntry:
        """The entry as it should be; keys written by others stay."""
        return replace(
            before,
            name=self._config.name,
            since=before.since or now(),
            labels=dict(self._config.labels) or None,
            version=self._version,
        )

    def _leave_former(self, path: str) -> None:
        """Delete the entry that this base had by another name or at another application, where it is still its own.

        A host that has taken the name since has rewritten it, and keeps it, also while its agent is down.
        """
        former = self._memory.former
        if former is None or former.path == path:
            return
        client = self._session.client
        with session_trouble(f"former roster entry not deleted: {former.path}"), contextlib.suppress(NoNodeError):
            root, _roster, name = former.path.rsplit("/", 2)
            is_taken = self._session.ask(client.exists_async, AppPaths(root).agent(name)) is not None
            _data, stat = self._session.ask(client.get_async, former.path)
            if not is_taken and stat.mzxid == former.mzxid:
                self._session.ask(client.delete_async, former.path, stat.version)


def _entry(data: bytes) -> RosterEntry:
    """The content of an entry; empty if it can't be read, because then nobody can."""
    try:
        return RosterEntry.from_node(data)
    except InvalidRecord:
        return RosterEntry()
