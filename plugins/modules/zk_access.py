#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close the znodes of an application to everybody except its roles, or open them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_access
short_description: Restrict the znodes of an application to its publishers, agents and readers
version_added: 0.2.0
description:
  - Publishers may do everything, agents may do what their work requires, readers may only read, and nobody else has
    access. The ACL of each znode follows from these roles; C(docs/security.md) has the table.
  - The roles are recorded at C(<app>/access). Agents and publishers read them, so that the znodes that they create have
    the right ACL from the start. Then the module walks all existing znodes and sets their ACLs, until nothing differs.
  - Afterwards, publishers and readers without credentials, or with credentials that are in no role, have no access.
    First give everybody credentials, while the znodes are still open; an open znode accepts any.
  - Live agents must have credentials before anything is closed, unless O(force) is set.
  - Only the ACLs change. No registration and no status is lost, and no watch fires.
  - It can be interrupted at any point; run it again, and it continues.
  - A client with access may have created znodes that only it may change. Everything else is still secured or opened;
    then the module fails, and lists those znodes in RV(refused).
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Reports whose ACLs would change; writes nothing.
  diff_mode:
    support: full
    description: Shows the ACL of each znode that changes, before and after, without the hashes of passwords.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it usually runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  state:
    description:
      - V(secured) closes the znodes to everybody except the roles. The connection must be one of the O(publishers), so
        that it does not lock itself out.
      - V(open) lets everybody do everything, and removes the recorded roles.
    type: str
    choices: [secured, open]
    default: secured
  publishers:
    description:
      - The identities that may publish, lock, control rollouts and change the roles.
      - A value given here replaces the recorded one; if not given, the recorded one stays. The same is true for
        O(agents), O(host_agents), O(readers), O(registries) and O(values).
      - To change a password without an outage, list both identities, give everybody the new one, and then list only
        that one.
    type: list
    elements: dict
    suboptions:
      scheme:
        description:
          - V(digest) is a user name and password, V(sasl) a principal, V(x509) the subject of a certificate.
          - V(auth) is the user of O(digest_username).
        type: str
        choices: [digest, sasl, x509, auth]
        required: true
      id:
        description:
          - The identity, in the form of the scheme. For V(digest), a user name with a password, or C(user:hash) without
            one. Ansible shows a hash with C(-vvv), but not a password.
          - For V(x509), the subject exactly as C(openssl x509 -noout -subject -nameopt RFC2253) prints it.
        type: str
      password:
        description:
          - The password of a V(digest) user; only its hash is sent and stored, readable by publishers and agents.
          - The hash is SHA-1, ZooKeeper's default. If the servers use another one, give C(user:hash).
        type: str
  agents:
    description: The identities of the agents. Agents that share an identity may change each other's znodes.
    type: list
    elements: dict
    suboptions:
      scheme:
        description: As O(publishers[].scheme).
        type: str
        choices: [digest, sasl, x509, auth]
        required: true
      id:
        description: As O(publishers[].id).
        type: str
      password:
        description: As O(publishers[].password).
        type: str
  host_agents:
    description:
      - Agents with their own identities. Only such an agent can change the status, the roster entry and the
        registrations of its host.
      - Each ACL contains all of them, so this suits hundreds of hosts, but not thousands.
    type: list
    elements: dict
    suboptions:
      name:
        description: The name of the host's agent.
        type: str
        required: true
      scheme:
        description: As O(publishers[].scheme).
        type: str
        choices: [digest, sasl, x509]
        required: true
      id:
        description: As O(publishers[].id).
        type: str
      password:
        description: As O(publishers[].password).
        type: str
  readers:
    description:
      - The identities that may read everything except C(<app>/access), such as an inventory, a load balancer or
        monitoring.
    type: list
    elements: dict
    suboptions:
      scheme:
        description: As O(publishers[].scheme), and V(world), which is everybody.
        type: str
        choices: [digest, sasl, x509, auth, world]
        required: true
      id:
        description: As O(publishers[].id). V(world) has none.
        type: str
      password:
        description: As O(publishers[].password).
        type: str
  registries:
    description:
      - The registries of this application, such as C(/service/shop). Missing ones are created.
      - A registry elsewhere that is not listed here stays as open as it is. One below O(app) must be listed.
      - Other applications that register below the same path would lose access; give each its own registry.
      - An application whose znode is below O(app) is left as it is, and a warning names it; it has its own roles.
    type: list
    elements: str
  force:
    description:
      - Close the application even if live agents have no credentials, have credentials that are in no role, or are
        older than version 0.2.0. These agents lose access.
      - Without it, nothing is closed until each live agent has read the roles, which only the roles may do. Otherwise,
        the module fails, names the agents, and restores the recorded roles.
    type: bool
    default: false
  wait_timeout:
    description:
      - How many seconds live agents have to read the roles. They usually do so at once; an agent that was refused
        before checks again after a minute.
    type: float
    default: 90
  values:
    description:
      - The trees that agents render into files, such as C(/config/shop). Publishers write them, agents read them.
      - A registry may be inside such a tree, but such a tree must not be inside a registry, where agents may delete
        znodes.
      - A tree that is not listed stays as open as it is, and anybody who may write it controls what the hosts render.
      - Agents of another application that render the same tree would lose access; give each application its own.
      - Readers may read these too, including passwords in them. With V(world) among O(readers), everybody may.
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_znode
  - module: zoo.deploy.zk_release
"""

EXAMPLES = r"""
- name: Allow only these to publish, deploy and read
  zoo.deploy.zk_access:
    hosts: zk1:2181,zk2:2181,zk3:2181
    digest_username: publisher
    digest_password: "{{ publisher_password }}"
    app: /app/shop
    publishers: [{scheme: auth}]
    agents: [{scheme: digest, id: agent, password: "{{ agent_password }}"}]
    readers: [{scheme: digest, id: reader, password: "{{ reader_password }}"}]
    registries: [/service/shop]

- name: Give each host its own certificate
  zoo.deploy.zk_access:
    hosts: zk1:2281,zk2:2281,zk3:2281
    tls: true
    tls_ca: /etc/ssl/zk-ca.pem
    tls_cert: /etc/ssl/publisher.pem
    app: /app/shop
    publishers: [{scheme: x509, id: CN=publisher}]
    host_agents:
      - {name: web1, scheme: x509, id: CN=web1}
      - {name: web2, scheme: x509, id: CN=web2}

- name: Accept the agents' old and new passwords
  zoo.deploy.zk_access:
    hosts: zk1:2181,zk2:2181,zk3:2181
    digest_username: publisher
    digest_password: "{{ publisher_password }}"
    app: /app/shop
    agents:
      - {scheme: digest, id: agent, password: "{{ agent_password }}"}
      - {scheme: digest, id: agent, password: "{{ new_agent_password }}"}

- name: Open everything again
  zoo.deploy.zk_access:
    hosts: zk1:2181,zk2:2181,zk3:2181
    digest_username: publisher
    digest_password: "{{ publisher_password }}"
    app: /app/shop
    state: open
"""

RETURN = r"""
access:
  description: The roles as they are now, without the hashes of passwords; null if the application is open.
  returned: success
  type: dict
  sample:
    state: secured
    publishers: ["digest publisher"]
    agents: ["digest agent"]
    readers: ["digest reader"]
    hosts: {}
    registries: [/service/shop]
    values: []
changed_acls:
  description: How many znodes have a different ACL than before.
  returned: success
  type: int
refused:
  description:
    - The znodes whose ACL does not let publishers see or change it, such as one created with stolen credentials. If
      there are any, the module fails; everything else has its intended ACL.
    - A publisher can delete an empty one; the ensemble's superuser can delete any. Znodes below them are not listed.
  returned: always, if the walk was completed
  type: list
  elements: str
  sample: []
others:
  description: The applications below O(app), which the module leaves as they are.
  returned: success
  type: list
  elements: str
  sample: []
open_above:
  description:
    - The parents of O(registries) and O(values) in which anybody may delete znodes. The module leaves them as they are
      and warns about them. Anybody can delete an empty registry there and replace it with an open one.
    - With M(zoo.deploy.zk_znode), give such a parent an ACL that lets everybody only read it and create znodes in it.
  returned: success
  type: list
  elements: str
  sample: [/service]
older_agents:
  description:
    - The live agents of a version before 0.2.0, or of no version; a warning names some of them. The znodes that they
      create are open, so anybody can make them deploy something else. Upgrade them, and run this module again.
  returned: success
  type: list
  elements: str
  sample: []
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access import (
    OPEN,
    PLACES,
    ROLES,
    SECURED,
    AccessRecord,
    Principal,
)
from ansible_collections.zoo.deploy.plugins.module_utils.access_walk import (
    AclChange,
    Look,
    Recorded,
    accesses,
    await_agents,
    check_is_publisher,
    close,
    delete_record,
    find_changes,
    older_agents,
    open_above,
    prove_roles,
    read_access,
    settle,
    take_back,
    user_of,
    write_record,
)
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, check_amounts
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    DEFAULT_APP,
    AppPaths,
    InvalidRecord,
    check_node_name,
    quote,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import acl_id, acl_in_diff
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

MOST_NAMED = 5
"""How many hosts a warning names at most."""
MOST_SHOWN = 20_000
"""How many ACL entries a diff shows at most: a znode may have hundreds, and an application thousands of znodes."""
NEEDLESS = {"sasl": "password", "x509": "password", "world": "id"}
"""The key that an identity of a scheme does not have."""
NO_RFC_2253 = re.compile(r"^/|(?<!\\)[,+]\s|\s[=,+]|=\s")
"""What never occurs in a certificate's subject in the form that the server compares."""


def identity_spec(*more: str) -> dict[str, Any]:
    """The options that name one identity; `more` are further values of `scheme`."""
    return {
        "scheme": {"type": "str", "choices": ["digest", "sasl", "x509", *more], "required": True},
        "id": {"type": "str"},
        "password": {"type": "str", "no_log": True},
    }


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    role: dict[str, Any] = {"type": "list", "elements": "dict", "options": identity_spec("auth")}
    host = {"name": {"type": "str", "required": True}, **identity_spec()}
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "state": {"type": "str", "choices": ["secured", "open"], "default": "secured"},
        "publishers": role,
        "agents": role,
        "host_agents": {"type": "list", "elements": "dict", "options": host},
        "readers": {"type": "list", "elements": "dict", "options": identity_spec("auth", "world")},
        "registries": {"type": "list", "elements": "str"},
        "values": {"type": "list", "elements": "str"},
        "force": {"type": "bool", "default": False},
        "wait_timeout": {"type": "float", "default": 90.0},
    }


def wanted_access(options: Mapping[str, Any], before: AccessRecord) -> AccessRecord:
    """The access record to write. Raises `InvalidRecord`, `ZooKeeperError`."""
    changes: dict[str, Any] = {
        role: tuple(dict.fromkeys(identity_of(entry, options, role) for entry in options[role]))
        for role in ROLES
        if options[role] is not None
    }
    changes.update({name: tuple(options[name]) for name in PLACES if options[name] is not None})
    if options["host_agents"] is not None:
        changes["hosts"] = hosts_of(options)
    # As all others will read it.
    access = AccessRecord.from_node(replace(before, **changes, state=options["state"]).to_node())
    # A recorded application can always be opened.
    if access.state == SECURED or any(options[name] is not None for name in PLACES):
        access.check_places(AppPaths(options["app"]))
    return access


def hosts_of(options: Mapping[str, Any]) -> dict[str, tuple[Principal, ...]]:
    """The identities of each host that has its own, by the host's name."""
    hosts: dict[str, tuple[Principal, ...]] = {}
    for entry in options["host_agents"]:
        name = check_node_name(entry["name"], "host_agents")
        hosts[name] = (*hosts.get(name, ()), identity_of(entry, options, "host_agents"))
    return hosts


def identity_of(entry: Mapping[str, Any], options: Mapping[str, Any], where: str) -> Principal:
    """The identity that an entry of a role names. Raises `InvalidRecord`, `ZooKeeperError`."""
    needless = NEEDLESS.get(entry["scheme"])
    if needless and entry.get(needless):
        raise InvalidRecord(f"{where}: {needless}: scheme {entry['scheme']} has none; leave it out")
    who = Principal(*acl_id(entry, options, where))
    if who.scheme == "x509" and NO_RFC_2253.search(who.id):
        raise InvalidRecord(
            f"{where}: expected the subject of a certificate as openssl x509 -noout -subject -nameopt RFC2253 prints "
            f"it, with no spaces between its parts, got {quote(who.id)}; the server would take nobody for that"
        )
    return who


def converge(client: Any, options: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Close the application, or open it; the module's result."""
    check_amounts(options, "wait_timeout")
    app = AppPaths(options["app"])
    found = read_access(client, app)
    if found.is_doubtful:
        check_given(app, options)
    before = found.access
    wanted = wanted_access(options, before or AccessRecord())
    if wanted.state == SECURED:
        check_is_publisher(client, wanted, options)
    is_opened = wanted.state == OPEN
    look = find_changes(client, app, wanted)
    is_new = found.version >= 0 if is_opened else before != wanted
    changed = is_new or bool(look.changes)
    if changed and not is_opened and not options["force"] and found.version < 0:
        # If roles are recorded, they may be why an agent has none: its answer to the new ones is awaited instead.
        refuse_without(agents=[name for name, record in accesses(client, app).items() if record is None], app=app)
    if changed and not check:
        look = carry_out(client, app, found, wanted, options)
        changed = is_new or bool(look.changes)
    return {
        "changed": changed,
        "access": None if is_opened else described(wanted),
        "changed_acls": len({change.seen.path for change in look.changes}),
        "refused": look.refused,
        "others": look.others,
        "open_above": [] if is_opened else open_above(client, app, wanted),
        "older_agents": [] if is_opened else older_agents(client, app),
        "diff": {"before": as_lines(before, look.changes, "before"), "after": as_lines(wanted, look.changes, "after")},
    }


def check_given(app: AppPaths, options: Mapping[str, Any]) -> None:
    """Raise `ZooKeeperError` if something would be taken over from a record that does not count."""
    is_opened = options["state"] == OPEN
    missing = [name for name in (PLACES if is_opened else ("publishers",)) if options[name] is None]
    if missing:
        raise ZooKeeperError(
            f"{app.access}: by the ACL of {app.root}, others than publishers may have made it; name "
            f"{' and '.join(missing)} here{', [] for none' if is_opened else ', and all else that is to count'}",
            path=app.access,
        )


def carry_out(client: Any, app: AppPaths, found: Recorded, wanted: AccessRecord, options: Mapping[str, Any]) -> Look:
    """Record the roles and set the ACLs of existing znodes; what was changed. Raises `ZooKeeperError`."""
    if wanted.state == SECURED and found.access != wanted:
        prove_roles(client, app, wanted)
    # Even if the roles are the same: it tells another run that waits with the same roles that they are now this one's.
    written = write_record(client, app, wanted, found)
    if wanted.state == OPEN:
        look = settle(client, app, wanted)
        delete_record(client, app, written)
        return look
    if not options["force"]:
        await_all(client, app, found.access, wanted, written, options["wait_timeout"])
    return close(client, app, wanted, written)


def refuse_without(*, agents: Sequence[str], app: AppPaths, are_recorded: bool = False) -> None:
    """Raise `ZooKeeperError` if there are live agents that would lose access."""
    if agents:
        so_far = "; an earlier run has recorded these roles: give the former ones to go back" if are_recorded else ""
        raise ZooKeeperError(
            f"{app.agents}: {named(agents)}: without credentials of a role, or of a version before 0.2.0; the "
            "application would be closed to them; give them those, or set force (zoo_force); nothing is closed"
            f"{so_far}",
            path=app.agents,
        )


def await_all(
    client: Any, app: AppPaths, before: AccessRecord | None, wanted: AccessRecord, written: Any, patience: float
) -> None:
    """Wait until all live agents have read the roles; otherwise restore the former ones and raise `ZooKeeperError`."""
    try:
        late = await_agents(client, app, written, patience)
        refuse_without(agents=late, app=app, are_recorded=before == wanted)
    except BaseException:  # also if somebody interrupts it
        if before != wanted:
            take_back(client, app, before, written)
        raise


def named(agents: Sequence[str]) -> str:
    """Some of the agents, for a message."""
    more = f" and {len(agents) - MOST_NAMED} more" if len(agents) > MOST_NAMED else ""
    return f"{', '.join(agents[:MOST_NAMED])}{more}"


def refusal(result: Mapping[str, Any], state: str, *, check: bool) -> str:
    """The message if publishers may not change everything, although all the rest is done."""
    return (
        f"{named(result['refused'])}: permission denied (NoAuth): its creator keeps it to themselves; everything else "
        f"{'would be' if check else 'is'} {state}; check what else that credential could do, and delete this, or "
        "where it isn't empty have the ensemble's superuser delete it"
    )


def described(access: AccessRecord) -> dict[str, Any]:
    """The roles in the module's result, without hashes."""
    return {
        "state": access.state,
        **{role: users(getattr(access, role)) for role in ROLES},
        "hosts": {name: users(identities) for name, identities in access.hosts.items()},
        **{name: list(getattr(access, name)) for name in PLACES},
    }


def users(identities: Sequence[Principal]) -> list[str]:
    """The scheme and user of each identity."""
    return [f"{who.scheme} {user_of(who)}" for who in identities]


def as_lines(access: AccessRecord | None, changes: Sequence[AclChange], side: str) -> str:
    """The roles and the ACLs that change, as a diff shows them, up to a length that people can read."""
    roles = described(access) if access and access.state == SECURED else {"state": OPEN}
    lines = [f"{key}: {value}" for key, value in roles.items()]
    left = MOST_SHOWN
    for number, change in enumerate(changes):
        left -= len(change.seen.acl) + len(change.acl)
        if number and left < 0:
            lines.append(f"... and {len(changes) - number} znodes more")
            break
        acl = acl_in_diff(change.seen.acl if side == "before" else change.acl)
        shown = ", ".join(f"{one['scheme']} {one['id']} {'+'.join(one['perms'])}" for one in acl)
        lines.append(f"{change.seen.path}: {shown}")
    return "".join(f"{line}\n" for line in lines)


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        with connect(module.params) as client:
            result = converge(client, module.params, module.check_mode)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    for path in result["open_above"]:
        module.warn(
            f"{path}: anybody may delete in it, and so replace a registry, or a tree of values, that is empty; give it "
            "an ACL by zk_znode, such as all for the publishers, and read and create for the world"
        )
    older = result["older_agents"]
    if older:
        module.warn(
            f"{AppPaths(module.params['app']).agents}: {named(older)}: of a version that knows "
            "no roles; what such an agent creates is open to everybody; upgrade it, and run this again"
        )
    for path in result["others"]:
        module.warn(f"{path}: an application of its own, left as it is; run this for it too")
    if result["refused"]:
        module.fail_json(msg=refusal(result, module.params["state"], check=module.check_mode), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
