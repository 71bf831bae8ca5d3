# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes to others what a publisher's connection creates for an application."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .access import (
    ANYBODY,
    ANYBODY_DEPLOYS,
    Acl,
    Rule,
    choose_rule,
    closed,
    directories_of,
    has_credentials,
    is_authenticated,
    is_open,
    is_replaceable,
    may_be_of_roles,
    own_schemes,
)
from .connection import KAZOO_IMPORT_ERROR, ZooKeeperError, translated
from .identity import identities
from .records import AppPaths, InvalidRecord
from .znode_names import parent

if KAZOO_IMPORT_ERROR is None:
    from kazoo.client import KazooClient
    from kazoo.exceptions import NoAuthError, NoNodeError


@contextlib.contextmanager
def kept_closed(client: KazooClient, app: AppPaths, options: Mapping[str, Any], acl: Any = None) -> Iterator[Rule]:
    """Close whatever is created inside the block, by the application's access record; yields the rule.

    Without a record the rule is `acl`, if given. In a nested block the inner rule counts: it is newer. Raises
    `ZooKeeperError`.
    """
    rule = _find_rule(client, app, options)
    if acl is not None and rule.access is None:
        rule = replace(rule, fixed=acl, is_new=False)
    outer = client._call
    ask = getattr(outer, "ask", outer)

    def call(request: Any, answer: Any) -> Any:
        return ask(closed(request, client.chroot, lambda path, ephemeral: rule.acl(path, ephemeral=ephemeral)), answer)

    call.ask = ask  # type: ignore[attr-defined]
    client._call = call
    try:
        yield rule
    finally:
        client._call = outer


def rule_of_values(client: KazooClient, app: AppPaths, options: Mapping[str, Any], paths: Sequence[str]) -> Rule:
    """The rule by which these values are created; without a record they stay open. Raises `ZooKeeperError`.

    Their common directory is closed as they are: nobody else may create a value in it. Directories above it also belong
    to others, and so does a directory right below the root; then each directory inside that one is closed.
    """
    access = _find_rule(client, app, options).access
    if access is None:
        return Rule(app)
    common = posixpath.commonpath([parent(path) for path in paths])
    own = {"/".join(path.split("/")[:3]) for path in paths} if common.count("/") == 1 else {common}
    values = (*access.values, *sorted(path for path in own if not access.has_in_registry(path)))
    return Rule(app, access=replace(access, values=values))


def open_values(
    client: KazooClient, paths: Sequence[str], acl_of: Callable[[str], Acl | None], timeout: float
) -> list[str]:
    """The values that anybody may change; one that is to be created gets the ACL from `acl_of`.

    `timeout` is in seconds, for one answer. Raises `ZooKeeperError`.
    """
    found = []
    pending = {path: client.get_acls_async(path) for path in paths}
    for path, request in pending.items():
        with translated(path), contextlib.suppress(NoAuthError):
            try:
                acl = request.get(timeout=timeout)[0]
            except NoNodeError:
                acl = acl_of(path) or ANYBODY
            found += [path] if is_open(acl) else []
    return found


def warning_of_values(paths: Sequence[str]) -> str:
    """The warning about values that anybody may change."""
    more, them = (f" and {len(paths) - 1} more", "them") if len(paths) > 1 else ("", "it")
    return (
        f"{paths[0]}{more}: anybody who reaches the ensemble can change {them}, and so what hosts render from {them}; "
        "close the application with playbooks/secure.yml (zk_access), or give an acl (zoo_config_acl)"
    )


def warning(rule: Rule) -> str | None:
    """The warning about who may use the application; None for none."""
    if rule.is_open:
        return (
            f"{rule.app.root}: {ANYBODY_DEPLOYS}; give publishers and agents credentials, and close it with "
            "playbooks/secure.yml (zk_access)"
        )
    if rule.leaves_open:
        return (
            f"{rule.app.root}: its ACLs were given by hand, and some of what is created in it is open to everybody; "
            "close it with playbooks/secure.yml (zk_access)"
        )
    if rule.is_new:
        return (
            f"{rule.app.root}: only the credentials of this connection may use it; where agents have others, close it "
            "with playbooks/secure.yml (zk_access), which names these too"
        )
    return None


def _find_rule(client: KazooClient, app: AppPaths, options: Mapping[str, Any]) -> Rule:
    if not has_credentials(options):
        return _find_rule_of_address(client, app)
    record = None
    found: dict[str, Any] = {}
    with translated(app.access):
        client.sync(app.root)
        # While roles are being set, an identity that they don't name creates as if there were none.
        with contextlib.suppress(NoNodeError, NoAuthError):
            record = client.get(app.access)[0]
            root = _acl(client, app.root)
            # In an application closed by hand, anybody permitted to create there may have written it. In an open one
            # anybody may, as while roles are being set.
            if root and not is_replaceable(root) and not may_be_of_roles(root):
                record = None
        if record is None:
            found = _found(client, directories_of(app))
    # Asked only as a last resort: a server before 3.7 hangs up, and another one may not answer in time.
    # In a closed znode, no identity creates anything unless an ACL names it.
    authenticated = record is not None or app.root in found or is_authenticated(options, lambda: identities(client))
    try:
        return choose_rule(app, record, found, own=own_schemes(options) if authenticated else {})
    except InvalidRecord as exc:
        raise ZooKeeperError(f"{app.access}: {exc}", path=app.access) from exc


def _find_rule_of_address(client: KazooClient, app: AppPaths) -> Rule:
    """The rule for a connection without credentials: what is closed may be open to its address."""
    with translated(app.root):
        found = _found(client, [app.root])
        if found and not is_open(found[app.root]):
            found.update(_found(client, directories_of(app)))
    return choose_rule(app, None, found, own={})


def _found(client: KazooClient, paths: Sequence[str]) -> dict[str, Any]:
    """The ACLs of the znodes that exist."""
    found = {}
    for path in paths:
        with contextlib.suppress(NoNodeError):
            found[path] = _acl(client, path)
    return found


def _acl(client: KazooClient, path: str) -> Any:
    """The ACL of a znode; an unreadable one counts as closed."""
    try:
        return client.get_acls(path)[0]
    except NoAuthError:
        return ()
