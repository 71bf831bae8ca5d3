# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes what this agent creates to others, as the application's record of access says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kazoo.exceptions import NoAuthError, NoNodeError

from zoo_watcher.config.config import Config
from zoo_watcher.errors import SessionTroubleError
from zoo_watcher.wire.access import Acl, Rule, choose_rule, directories_of, is_open, is_replaceable, own_schemes
from zoo_watcher.wire.records import InvalidRecord

from .session import Session, session_trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Creation:
    """Knows which ACL new znodes get; it asks the ensemble for each connection, and when that changes.

    An agent with credentials never creates the application's own znode: the publishers, which it does not know, would
    be locked out. Until that znode is there, its registrations are open. An agent without credentials does as everybody
    does in an open ensemble.
    """

    def __init__(self, config: Config, session: Session) -> None:
        self._config = config
        self._session = session
        self._asked = 0
        """The number of the connection for which the ensemble was asked last."""
        self._is_overtaken = False
        """Whether that has changed since: nothing more is created by what was known before."""
        self.record: int | None = None
        """The transaction that recorded the roles that were read; 0 for none, None if this agent may not read them."""
        self._rule: Rule | None = None
        self._has_root = False
        self._may_create_root = False
        self._is_closed = False
        """Whether the application's znode exists and is not open to everybody."""
        self._is_guarded = False
        """Whether it exists, and not everybody may replace what is in it."""
        session.acl_of = self._acl_of

    @property
    def is_open(self) -> bool:
        """Whether anybody can deploy, as far as is known."""
        return self._rule is not None and self._rule.is_open and not self._is_closed

    def mark_stale(self) -> None:
        """Ask again in the next turn."""
        self._asked = 0

    def refresh(self) -> None:
        """Ask if something may have changed. Raises `SessionTroubleError`."""
        connections = self._session.connections
        if self._asked == connections:
            return
        was_overtaken = self._is_overtaken
        # Before asking: what changes meanwhile is asked for again.
        self._asked, self._is_overtaken = connections, False
        try:
            with session_trouble(self._config.app.access):
                self._rule = self._read()
                self._session.is_closed = self._is_guarded or not self.is_open
        except Exception:
            self._asked = 0
            self._is_overtaken |= was_overtaken
            # A record that can't be read, whoever has left it, opens nothing that is closed.
            self._session.is_closed |= self._is_guarded
            raise

    def _read(self) -> Rule:
        app, own = self._config.app, own_schemes(vars(self._config.connection))
        self._may_create_root = not own
        if self._may_create_root:
            self._has_root = True
            # That an agent has lost its credentials does not mean that anybody can deploy.
            self._note_root(self._acl(app.root))
            return self._rule_of_address() if self._is_closed else Rule(app)
        try:
            record = self._session.read(app.access, self._on_event)
        except NoAuthError as exc:
            self.record = None
            self.mark_stale()
            self._note_root(self._acl(app.root) or ())
            if not self._is_closed:
                # Roles are recorded, and nothing is closed yet: until it is, this agent registers as before.
                self._has_root = True
                return Rule(app)
            # If it created a znode for itself alone, no publisher could read it, and nobody else delete it.
            self._rule = None
            raise SessionTroubleError(f"{app.access}: not readable; this agent has no role in the application") from exc
        self.record = record.stat.mzxid if record else 0
        registries = self._registries
        found = self._found([app.root] if record else [*directories_of(app), *registries])
        self._has_root = app.root in found
        # Also if a record says that it is open: anybody who may only create znodes may have created it.
        self._note_root(found.get(app.root))
        if not self._has_root:
            self._await_root()
        try:
            rule = choose_rule(app, record.data if record else None, found, own=own)
        except InvalidRecord as exc:
            raise SessionTroubleError(f"{app.access}: {exc}") from exc
        access = rule.access and replace(rule.access, registries=(*rule.access.registries, *registries))
        return replace(rule, access=access, host=self._config.name, registries=registries)

    @property
    def _registries(self) -> tuple[str, ...]:
        """This agent's own registries: a record need not name them, and others have theirs above them."""
        return tuple(service.path.rstrip("/") for service in self._config.services)

    def _rule_of_address(self) -> Rule:
        """The rule by which an agent without credentials creates znodes in what is closed, maybe not to its address."""
        app, registries = self._config.app, self._registries
        found = self._found([*directories_of(app), *registries])
        return replace(choose_rule(app, None, found, own={}), host=self._config.name, registries=registries)

    def _note_root(self, acl: Any) -> None:
        """Note how closed the application's znode is, from its ACL; None if there is no znode."""
        self._is_closed = acl is not None and not is_open(acl)
        self._is_guarded = acl is not None and not is_replaceable(acl)

    def _found(self, paths: Iterable[str]) -> dict[str, Any]:
        """The ACLs of those znodes that exist."""
        found = {path: self._acl(path) for path in paths}
        return {path: acl for path, acl in found.items() if acl is not None}

    def _acl(self, path: str) -> Any:
        """The ACL of a znode, a closed one if it may not be read; None if there is no znode."""
        try:
            return self._session.ask(self._session.client.get_acls_async, path)[0]
        except NoAuthError:
            return ()
        except NoNodeError:
            return None

    def _await_root(self) -> None:
        """Have it asked again once the application's znode is there."""
        root = self._config.app.root
        if self._session.ask(self._session.client.exists_async, root, watch=self._on_event) is not None:
            self.mark_stale()

    def _on_event(self, _event: Any) -> None:
        self._is_overtaken = True
        self.mark_stale()
        self._session.wake()

    def _acl_of(self, path: str, ephemeral: bool) -> Acl | None:
        root = self._config.app.root
        if self._rule is None:
            raise SessionTroubleError(f"{path} not created: its access rights are not known yet")
        if self._is_overtaken:
            raise SessionTroubleError(f"{path} not created yet: its access rights have just changed")
        if not self._has_root and f"{path}/".startswith(f"{root}/"):
            raise SessionTroubleError(
                f"{path} not created: {root} is not there yet, or not for this agent; a publisher makes it"
            )
        if path == root and not self._may_create_root:
            # It was there when this was last asked, and has been deleted since.
            raise SessionTroubleError(f"{path} not created: a publisher makes it")
        if not self._has_root:
            # A registry: if only this host might use it, no other could register, and no publisher could close it.
            return None
        return self._rule.acl(path, ephemeral=ephemeral)
