# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has what a publisher's connection creates for an application be closed to others."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .access import ANYBODY_DEPLOYS, Rule, choose_rule, closed, has_credentials, is_authenticated, is_open
from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, translated
from .identity import identities
from .records import AppPaths, InvalidRecord

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import NoAuthError, NoNodeError


@contextlib.contextmanager
def kept_closed(
    client: KazooClient,
    app: AppPaths,
    options: Mapping[str, Any],
    acl: Any = None,
    values: Sequence[str] = (),
    but: Collection[str] = (),
) -> Iterator[Rule]:
    """Whatever is created inside the block is closed, as the application's record of access says; by this rule.

    Without a record it is `acl`, where that is given. Where `values` are given, they are what is created, and without a
    record they stay open. What is at one of the paths of `but` has the ACL that it is asked for with. In a block inside
    the block that one's rule counts: it is newer. Raises `ZooKeeperError`.
    """
    rule = _find_rule(client, app, options)
    if values:
        access = rule.access and replace(rule.access, values=(*rule.access.values, *values))
        rule = Rule(app, access=access)
    if acl is not None and rule.access is None:
        rule = rule._replace(fixed=acl)
    outer = client._call
    ask = getattr(outer, "ask", outer)

    def acl_of(path: str, ephemeral: bool) -> Any:
        return None if path in but else rule.acl(path, ephemeral=ephemeral)

    def call(request: Any, answer: Any) -> Any:
        return ask(closed(request, client.chroot, acl_of), answer)

    call.ask = ask  # type: ignore[attr-defined]
    client._call = call
    try:
        yield rule
    finally:
        client._call = outer


def warning(rule: Rule) -> str | None:
    """What is to be said where anybody can deploy; None where that is not so."""
    if not rule.is_open:
        return None
    return (
        f"{rule.app.root}: {ANYBODY_DEPLOYS}; give publishers and agents credentials, and close it with "
        "playbooks/secure.yml (zk_access)"
    )


def _find_rule(client: KazooClient, app: AppPaths, options: Mapping[str, Any]) -> Rule:
    if not has_credentials(options):
        return Rule(app, is_shut_out=_is_shut_out(client, app))
    record = root = None
    with translated(app.access):
        client.sync(app.root)
        with contextlib.suppress(NoNodeError, NoAuthError):
            record = client.get(app.access)[0]
        with contextlib.suppress(NoNodeError):
            root = _acl(client, app.root)
    # Asked only where nothing else tells: a server before 3.7 hangs up, and another may not answer in time.
    # Below a znode that is closed, nobody creates anything whom no ACL names.
    authenticated = root is not None or is_authenticated(options, lambda: identities(client))
    try:
        return choose_rule(app, record, root, authenticated=authenticated)
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{app.access}: {exc}", path=app.access) from exc


def _is_shut_out(client: KazooClient, app: AppPaths) -> bool:
    """Whether there is an application that is closed to a connection without an identity."""
    with translated(app.root), contextlib.suppress(NoNodeError):
        return not is_open(_acl(client, app.root))
    return False


def _acl(client: KazooClient, path: str) -> Any:
    """The ACL of a znode; that of one that may not be read is closed."""
    try:
        return client.get_acls(path)[0]
    except NoAuthError:
        return ()
