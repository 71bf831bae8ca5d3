#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Close the znodes of an application to all but its roles, or open them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_access
short_description: Close the znodes of an application to all but its publishers, agents and readers
version_added: 0.2.0
description:
  - Publishers may do everything, agents what their part takes, readers only read, and nobody else may do anything. The
    ACL of each znode follows from these roles; C(docs/security.md) has the table.
  - The roles are recorded at C(<app>/access), which agents and publishers read, so that what they create has the right
    ACL from the start. Then all that is there is walked and set, until nothing differs.
  - A publisher or a reader that has no credentials, or those of nobody here, can do nothing afterwards. Give
    everybody credentials first, while the znodes are open; an open znode takes any.
  - Live agents have to have theirs before anything is closed, unless O(force).
  - Only the ACLs change. No registration and no status is lost, and no watch sees anything.
  - It may be cut off anywhere; run again, it goes on.
  - Who was let in may have created znodes for himself alone. All else is secured, or opened, all the same; then the
    module fails, and names those in RV(refused).
extends_documentation_fragment:
  - zoo.deploy.zookeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Says whose ACLs would change; writes nothing.
  diff_mode:
    support: full
    description: Shows the ACL of each znode that changes, before and after, without the hashes of passwords.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble, so it mostly runs on the controller.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  state:
    description:
      - V(secured) closes the znodes to all but the roles. The connection has to be one of the O(publishers), so that it
        does not lock itself out.
      - V(open) lets everybody do everything, and forgets the roles.
    type: str
    choices: [secured, open]
    default: secured
  publishers:
    description:
      - Who may publish, lock, steer rollouts and change who may do what.
      - What is given here takes the place of what was recorded; what is not given stays as it was recorded. The same
        counts for O(agents), O(host_agents), O(readers), O(registries) and O(values).
      - To change a password without an outage, name both identities, give everybody the new one, and name only that.
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
          - Who, in the form of the scheme. For V(digest) a user name with a password, or C(user:hash) without, which
            Ansible shows with C(-vvv); a password it does not.
          - For V(x509) the subject as C(openssl x509 -noout -subject -nameopt RFC2253) prints it, to the letter.
        type: str
      password:
        description:
          - The password of a V(digest) user; only its hash is sent and stored, for publishers and agents to read.
          - The hash is SHA-1, ZooKeeper's default. Where servers have another one, give C(user:hash).
        type: str
  agents:
    description: Who the agents are. Those that share an identity may change what is of another one of them.
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
      - Agents that have an identity of their own. The status, the roster entry and the registrations of such a host are
        only its own.
      - Each ACL has all of them, so this is for hundreds of hosts, and not for thousands.
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
    description: Who may read all but C(<app>/access), as an inventory, a load balancer or monitoring.
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
      - The registries of this application, as C(/service/shop). They are created where they are missing.
      - A registry elsewhere that is not named here stays as open as it is. One below O(app) has to be named.
      - What other applications register below the same path would be closed to their agents; give each its own.
      - An application whose znode is below O(app) is left as it is, and a warning names it; it has roles of its own.
    type: list
    elements: str
  force:
    description:
      - Close the application although live agents have no credentials, those of no role, or are of a version before
        0.2.0. What they have is closed to them.
      - Without it nothing is closed before each live agent has read the roles, which only roles may; else the module
        fails, names the agents, and records again what was recorded before.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds that live agents get to read the roles. They do at once; one that was refused before looks again after a
        minute.
    type: float
    default: 90
  values:
    description:
      - The trees that agents render into files, as C(/config/shop). Publishers write, agents read them.
      - A registry may be in such a tree, but no such tree in a registry, where agents may delete.
      - What is not named stays as open as it is, and whoever may write it chooses what hosts render.
      - What agents of another application render as well would be closed to them; give each application its own.
      - Readers may read these too, passwords in them included, and with V(world) among O(readers) everybody may.
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_znode
  - module: zoo.deploy.zk_release
"""

EXAMPLES = r"""
- name: Only these may publish, deploy and look
  zoo.deploy.zk_access:
    hosts: zk1:2181,zk2:2181,zk3:2181
    digest_username: publisher
    digest_password: "{{ publisher_password }}"
    app: /app/shop
    publishers: [{scheme: auth}]
    agents: [{scheme: digest, id: agent, password: "{{ agent_password }}"}]
    readers: [{scheme: digest, id: reader, password: "{{ reader_password }}"}]
    registries: [/service/shop]

- name: Each host has a certificate of its own
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

- name: Let agents have the old password and the new one
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
  description: The roles as they are now, without the hashes of passwords; null where the application is open.
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
  description: How many znodes have another ACL than before.
  returned: success
  type: int
refused:
  description:
    - The znodes whose ACL does not let publishers see or change it, as one that a stolen credential has left. The
      module fails where there are any, and all else has the ACL that it is to have.
    - A publisher can delete one that is empty; the ensemble's superuser can delete each. What is below is not listed.
  returned: always, where the walk came to its end
  type: list
  elements: str
  sample: []
others:
  description: The applications below O(app), which this leaves as they are.
  returned: success
  type: list
  elements: str
  sample: []
open_above:
  description:
    - The parents of O(registries) and O(values) in which anybody may delete, which this leaves as they are; a warning
      names them. Whoever does so with a registry that is empty can put one there that is open.
    - M(zoo.deploy.zk_znode) gives such a parent an ACL by which everybody may only read it and create something in it.
  returned: success
  type: list
  elements: str
  sample: [/service]
older_agents:
  description:
    - The live agents of a version before 0.2.0, and of no version; a warning names some of them. What they create is
      open, and by that anybody can have them deploy something else. Upgrade them, and run this again.
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
"""How many hosts a warning names."""
MOST_SHOWN = 20_000
"""How many entries of ACLs a diff shows: each znode may have hundreds, and an application thousands of znodes."""
NEEDLESS = {"sasl": "password", "x509": "password", "world": "id"}
"""What an identity of a scheme does not have."""
NO_RFC_2253 = re.compile(r"^/|(?<!\\)[,+]\s|\s[=,+]|=\s")
"""What is never in the subject of a certificate as the server compares it."""


def identity_spec(*more: str) -> dict[str, Any]:
    """The options that name one identity; `more` are further schemes."""
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
    """What the roles are to be. Raises `InvalidRecord`, `ZooKeeperError`."""
    changes: dict[str, Any] = {
        role: tuple(dict.fromkeys(identity_of(entry, options, role) for entry in options[role]))
        for role in ROLES
        if options[role] is not None
    }
    changes.update({name: tuple(options[name]) for name in PLACES if options[name] is not None})
    if options["host_agents"] is not None:
        changes["hosts"] = hosts_of(options)
    # Read as everybody else will read it.
    access = AccessRecord.from_node(replace(before, **changes, state=options["state"]).to_node())
    if access.state == SECURED:
        access.check_places(AppPaths(options["app"]))
    return access


def hosts_of(options: Mapping[str, Any]) -> dict[str, tuple[Principal, ...]]:
    """The identities of each host that has its own."""
    hosts: dict[str, tuple[Principal, ...]] = {}
    for entry in options["host_agents"]:
        name = check_node_name(entry["name"], "host_agents")
        hosts[name] = (*hosts.get(name, ()), identity_of(entry, options, "host_agents"))
    return hosts


def identity_of(entry: Mapping[str, Any], options: Mapping[str, Any], where: str) -> Principal:
    """Who an entry of a role names. Raises `InvalidRecord`, `ZooKeeperError`."""
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
        # Where roles are recorded, they may be why an agent has none: what it says of the new ones is waited for.
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
    """Raise a `ZooKeeperError` where something would be taken from a record that does not count."""
    is_opened = options["state"] == OPEN
    missing = [name for name in (PLACES if is_opened else ("publishers",)) if options[name] is None]
    if missing:
        raise ZooKeeperError(
            f"{app.access}: by the ACL of {app.root}, others than publishers may have made it; name "
            f"{' and '.join(missing)} here{', [] for none' if is_opened else ', and all else that is to count'}",
            path=app.access,
        )


def carry_out(client: Any, app: AppPaths, found: Recorded, wanted: AccessRecord, options: Mapping[str, Any]) -> Look:
    """Record the roles, and set what is there; what was changed. Raises `ZooKeeperError`."""
    if wanted.state == SECURED and found.access != wanted:
        prove_roles(client, app, wanted)
    # Also where the roles are the same: another run that waits with these is told that they are this one's now.
    written = write_record(client, app, wanted, found)
    if wanted.state == OPEN:
        look = settle(client, app, wanted)
        delete_record(client, app, written)
        return look
    if not options["force"]:
        await_all(client, app, found.access, wanted, written, options["wait_timeout"])
    return close(client, app, wanted, written)


def refuse_without(*, agents: Sequence[str], app: AppPaths, are_recorded: bool = False) -> None:
    """Raise a `ZooKeeperError` where there are live agents that could do nothing afterwards."""
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
    """Wait until all live agents have read the roles. Where they don't, it is as before: raises a `ZooKeeperError`."""
    try:
        late = await_agents(client, app, written, patience)
        refuse_without(agents=late, app=app, are_recorded=before == wanted)
    except BaseException:  # also where somebody has lost patience
        if before != wanted:
            take_back(client, app, before, written)
        raise


def named(agents: Sequence[str]) -> str:
    """Some of the agents, for a message."""
    more = f" and {len(agents) - MOST_NAMED} more" if len(agents) > MOST_NAMED else ""
    return f"{', '.join(agents[:MOST_NAMED])}{more}"


def refusal(result: Mapping[str, Any], state: str, *, check: bool) -> str:
    """What is said where publishers may not change everything, though all else is done."""
    return (
        f"{named(result['refused'])}: permission denied (NoAuth): whoever created this keeps it for himself; all else "
        f"{'would be' if check else 'is'} {state}; look for what else his credential could do, and delete this, or "
        "where it isn't empty have the ensemble's superuser delete it"
    )


def described(access: AccessRecord) -> dict[str, Any]:
    """The roles as the module returns them, without hashes."""
    return {
        "state": access.state,
        **{role: users(getattr(access, role)) for role in ROLES},
        "hosts": {name: users(identities) for name, identities in access.hosts.items()},
        **{name: list(getattr(access, name)) for name in PLACES},
    }


def users(identities: Sequence[Principal]) -> list[str]:
    """Scheme and user of each."""
    return [f"{who.scheme} {user_of(who)}" for who in identities]


def as_lines(access: AccessRecord | None, changes: Sequence[AclChange], side: str) -> str:
    """The roles, and the ACLs that change, as a diff shows them: as many as a person may look at."""
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
