# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `zoo.deploy.zk_znode`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_znode
short_description: Make znodes present or absent in ZooKeeper
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Creates, changes and deletes znodes, one or many in a single transaction, which is done whole or not at all.
  - A value is written only where it differs. A dictionary or a list is written as JSON and compared as JSON, so that
    neither the order of keys nor spacing is a change.
  - It is written only over the one that was read. Where another client was faster, all is read and decided anew, nine
    times at the most, so that C(changed) and the diff are true.
  - Everything is read in one round trip and written in another, over one connection. Fifty znodes in O(znodes) take
    about as long as one; a loop over fifty tasks takes fifty times as long.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
attributes:
  action:
    support: full
    description: The controller reads the file that O(src) names.
  check_mode:
    description: Can run in check mode and return the changed status without modifying anything.
    support: full
    details:
      - What ZooKeeper would refuse is foretold where it follows from what is there - a parent that is missing or
        ephemeral, children that stand in the way, another version. Permissions are not foretold, nor are names that a
        server refuses, such as those with characters beyond U+FFFF.
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: full
    details:
      - A text of several lines is shown line by line.
      - A value that is no text, or of more than 65,536 bytes, is shown by its size and digest.
      - Of the hash of a V(digest) ACL entry a few digits are shown, made with a key of this run alone, so that a new
        password is seen to be another one, and can't be guessed by them.
  platform:
    description: Where the module runs.
    platforms: posix
    support: full
options:
  path:
    description:
      - The znode's absolute path, without a trailing slash.
      - One of O(path) and O(znodes) is needed.
    type: str
    aliases: [name]
  value:
    description:
      - What the znode is to hold. Text is written as it is; a dictionary, a list, a number or a boolean as JSON.
      - A key that is no text, such as V(8080), V(yes), V(null) or V(1.10), is refused, wherever in it, because JSON has
        no such keys, and one that is quoted may be there too. Quote it.
      - Without it a new znode is empty, and one that is there keeps what it has. V('') empties it.
      - A value may have 1,000,000 bytes.
    type: raw
  secret_value:
    description:
      - As O(value), text or base64, but in no result, no diff and no log, nor is the value that it replaces.
      - A dictionary or a list is refused; P(ansible.builtin.to_json#filter) makes text of it.
    type: raw
  src:
    description:
      - As O(value), what is in this file on the controller, byte for byte. O(encoding) is of no use here.
      - A relative path is looked for as M(ansible.builtin.copy) looks for its C(src); in C(files) of the role and in
        the role, in C(files) beside the playbook and beside it.
      - A file of Ansible Vault is decrypted, and is in no result, no diff and no log, as O(secret_value).
      - It is compared byte for byte, also where it is JSON, unless O(merge=true).
      - The lookup P(zoo.deploy.config_znodes#lookup) makes entries of O(znodes) of a whole directory.
    type: path
  encoding:
    description: How O(value) or O(secret_value) is written here, V(base64) being for what is no text.
    type: str
    choices: [text, base64]
    default: text
  merge:
    description:
      - Merge O(value), a dictionary, into the JSON object that the znode holds, as RFC 7396 has it. A key is set, in
        dictionaries that are there as well; one that is null is removed; what is not named stays. A list is replaced
        as a whole.
      - O(value), O(secret_value) or O(src) may be the same as text, in JSON.
      - An empty znode, and one that is not there, count as an empty object. One that holds anything else is refused.
      - What others write meanwhile is not lost; the task reads and merges anew, as for every value.
      - Where something differs, all of the value is written anew, without the line breaks and spaces that it had.
        A number with more digits than can be kept is refused.
    type: bool
    default: false
  state:
    description:
      - V(present) creates the znode, or changes what differs.
      - V(absent) deletes it.
    type: str
    choices: [present, absent]
    default: present
  recursive:
    description:
      - With O(state=absent), everything below the znode is deleted as well. Where that is more than 1,000 znodes,
        several transactions are needed; the znode itself is deleted in the last.
    type: bool
    default: false
  parents:
    description:
      - With O(state=present), parents that are missing are created as well, empty and with O(acl); the last
        segment of a chroot in O(hosts) is one of them, and what is above it has to be there.
      - With V(false), a znode whose parent is missing is refused.
    type: bool
    default: true
  version:
    description:
      - Change or delete the znode only where its data version is this one, as in RV(stat.version); fail otherwise.
      - A znode that is already as wanted is no failure, whatever its version.
    type: int
  acl:
    description:
      - Who may do what with the znode, whole; what is not listed here is revoked.
      - Without it a new znode is open to everybody, unless O(app) says otherwise, and one that is there keeps what it
        has.
      - A new znode has its ACL from the start. ZooKeeper has no operation in transactions that changes the ACL of one
        that is there; that is done right after the transaction. Where another client has changed it meanwhile, and it
        is not all that there is to do, the module fails.
    type: list
    elements: dict
    suboptions:
      scheme:
        description:
          - V(world) is everybody, V(digest) a user name and password, V(ip) an address or network, V(sasl) a principal,
            V(x509) the subject of a certificate.
          - V(auth) is the user of O(digest_username), whose password the server hashes.
        type: str
        required: true
      id:
        description:
          - Who, in the form of the scheme. For V(digest) a user name with O(acl[].password), or C(user:hash) without.
          - V(world) and V(auth) need none.
        type: str
      password:
        description:
          - The password of a V(digest) user, in plain; only its hash is sent and stored.
          - The hash is SHA-1, ZooKeeper's default. Servers that are started with another
            C(zookeeper.DigestAuthenticationProvider.digestAlg) would not know the user by it; there, give C(user:hash).
          - The user of O(digest_username) is hashed by the server, as with V(auth), unless the connection has a
            O(sasl_mechanism) or a O(tls_cert) too, whose identity the server would add.
        type: str
      perms:
        description: What is allowed.
        type: list
        elements: str
        choices: [read, write, create, delete, admin, all]
        required: true
  sequence:
    description:
      - Create a new znode each time, whose name is that in O(path) with ten digits that the server appends; RV(path)
        tells it.
    type: bool
    default: false
  app:
    description:
      - The application that the znodes are for. Where M(zoo.deploy.zk_access) has recorded its roles, what is created
        without O(acl) is closed to all but these - publishers may do everything, agents and readers read it.
      - So is the directory that all of them are in, where it is created with them. In what is created above that, and
        right below the root, others may create theirs; name there what agents render as a directory to
        M(zoo.deploy.zk_access) as C(values).
      - The connection has to be that of a publisher.
      - The module warns where anybody who reaches the ensemble can change a value, unless its O(acl) says so; without
        O(app) it does not.
    type: str
    version_added: 0.2.0
  znodes:
    description:
      - Many znodes, in one transaction. In any order - deletions come first, and parents are created before
        their children.
      - What an entry leaves open of C(state), C(encoding), C(merge), C(recursive), C(parents), C(sequence) and C(acl)
        is as in the task's own options.
      - All together may have about 1 MB, ACLs included; by O(app) each created znode has all identities of the roles.
    type: list
    elements: dict
    suboptions:
      path:
        description: As O(path).
        type: str
        required: true
        aliases: [name]
      value:
        description: As O(value).
        type: raw
      secret_value:
        description: As O(secret_value).
        type: raw
      src:
        description: As O(src).
        type: path
      encoding:
        description: As O(encoding).
        type: str
        choices: [text, base64]
      merge:
        description: As O(merge).
        type: bool
      state:
        description: As O(state).
        type: str
        choices: [present, absent]
      recursive:
        description: As O(recursive).
        type: bool
      parents:
        description: As O(parents).
        type: bool
      version:
        description: As O(version).
        type: int
      acl:
        description: As O(acl).
        type: list
        elements: dict
        suboptions:
          scheme:
            description: As O(acl[].scheme).
            type: str
            required: true
          id:
            description: As O(acl[].id).
            type: str
          password:
            description: As O(acl[].password).
            type: str
          perms:
            description: As O(acl[].perms).
            type: list
            elements: str
            choices: [read, write, create, delete, admin, all]
            required: true
      sequence:
        description: As O(sequence).
        type: bool
notes:
  - Ephemeral znodes can't be made by a task, because they would be deleted with its session, at its end.
  - Values are returned and shown in diffs; give those that are secret as O(secret_value), or set C(no_log).
  - Of what is deleted, a diff has the paths, and no values; they may have been secret. Of what is changed to another
    O(value), it has the value of before; where that was a secret one, run that task without C(--diff).
  - Where others change a znode between the read and the transaction, the task looks again; it gives up after the ninth
    time.
  - ZooKeeper compares versions, and those of a new znode begin at 0. One that others delete and create anew right then
    may so pass for the one that was read; and O(version) does not tell the two apart, however long ago that was.
  - Where an ACL does not allow what a task does, ZooKeeper 3.7 and later tells who the connection is, and so does the
    error.
  - >-
    Coming from M(community.general.znode) - O(hosts), O(name), O(value), O(recursive) and O(state) stay;
    C(auth_scheme=digest) with C(auth_credential=user:password) is O(digest_username) and O(digest_password), C(use_tls)
    is O(tls), and instead of C(op) and C(timeout) there is M(zoo.deploy.zk_znode_info) with its C(wait_timeout). The
    page C(docs/guides/migration.md) of this collection has every option, return value and difference.
seealso:
  - module: zoo.deploy.zk_znode_info
  - module: zoo.deploy.zk_fleet_info
  - plugin: zoo.deploy.config_znodes
    plugin_type: lookup
  - plugin: zoo.deploy.zk_znode
    plugin_type: lookup
  - name: ZooKeeper Programmer's Guide
    description: Data model, ACLs, transactions and versions.
    link: https://zookeeper.apache.org/doc/current/zookeeperProgrammers.html
"""

EXAMPLES = r"""
- name: Text
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/motd
    value: Welcome

- name: JSON, written only where it differs as JSON
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value:
      host: db1.example.org
      port: 5432
      pool: {min: 2, max: 20}
  register: database

- name: Compare and set - fail where somebody else has changed it since
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value: {host: db2.example.org, port: 5432}
    version: "{{ database.stat.version }}"

- name: Some keys of a value that others write, too
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value:
      pool: {max: 30} # pool.min stays
      replica: null # is removed
    merge: true

- name: Bytes that are no file
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/key
    value: "{{ generated_key_base64 }}"
    encoding: base64

- name: A file of the role, which may be one of Ansible Vault
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/certificate
    src: certificate.pem

- name: A whole configuration in one transaction, and what it replaces
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    znodes:
      - {path: /config/shop/limits, value: {orders: 100}}
      - {path: /config/shop/colour, value: green}
      - {path: /config/shop/features, state: present}
      - {path: /config/shop-old, state: absent}

- name: A value that every server has in its file before the play goes on
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/shop/limits
    value: {orders: 200}

- name: Wait for the files
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_files: [/config/shop/limits]
    wait_timeout: 30

- name: Everybody reads, one user does everything
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    digest_username: deploy
    digest_password: "{{ vault_zookeeper_password }}"
    path: /config/shop/limits
    acl:
      - {scheme: world, perms: [read]}
      - {scheme: auth, perms: [all]}

- name: A new job in a queue
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /queue/job-
    sequence: true
    value: {what: reindex}
  register: job # job.path is /queue/job-0000000017

- name: Delete a subtree
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/shop
    state: absent
    recursive: true
"""

RETURN = r"""
path:
  description: The znode's path; with O(sequence=true) the one that the server made.
  returned: when O(path) is given
  type: str
  sample: /config/database
value:
  description: What the znode holds after the task, or would hold.
  returned: when O(path) is given without O(secret_value), the znode is there and may be read
  type: str
  sample: '{"host": "db1.example.org", "port": 5432}'
encoding:
  description: V(text), or V(base64) where RV(value) is no UTF-8.
  returned: with RV(value)
  type: str
  sample: text
stat:
  description:
    - The znode's stat after the task; in check mode the present one.
    - What it says of the value is about the value that the task has seen or written, whatever others set right after.
    - Where the connection is lost right after the transaction, it may be missing.
  returned: when O(path) is given and the znode is there; from ZooKeeper 3.9 on, also only when it may be read
  type: dict
  contains:
    czxid:
      description: The transaction that created the znode.
      type: int
      sample: 4294967310
    mzxid:
      description: The transaction that last set its value.
      type: int
      sample: 4294967312
    pzxid:
      description: The transaction that last added or removed a child.
      type: int
      sample: 4294967310
    ctime:
      description: When it was created, in milliseconds since 1970.
      type: int
      sample: 1795298400123
    mtime:
      description: When its value was last set, in milliseconds since 1970.
      type: int
      sample: 1795298400456
    version:
      description: How often its value has been set.
      type: int
      sample: 1
    cversion:
      description: How often its children have changed.
      type: int
      sample: 0
    aversion:
      description: How often its ACL has been set.
      type: int
      sample: 0
    ephemeral_owner:
      description: The session that holds it; 0 where it is persistent.
      type: int
      sample: 0
    data_length:
      description: The bytes of its value.
      type: int
      sample: 41
    num_children:
      description: How many children it has.
      type: int
      sample: 0
zxid:
  description: The transaction with which the task changed the znode.
  returned: when O(path) is given and a transaction changed it
  type: int
  sample: 4294967312
znodes:
  description: What the others are for one znode, for each entry, in the order of O(znodes).
  returned: when O(znodes) is given
  type: list
  elements: dict
  contains:
    changed:
      description: Whether it was changed.
      type: bool
      returned: always
    path:
      description: Its path; with O(znodes[].sequence=true) the one that the server made.
      type: str
      returned: always
    value:
      description: What it holds after the task, or would hold.
      type: str
      returned: where it is there and may be read
    encoding:
      description: V(text), or V(base64) where RV(znodes[].value) is no UTF-8.
      type: str
      returned: with RV(znodes[].value)
    stat:
      description: Its stat after the task, as RV(stat); in check mode the present one.
      type: dict
      returned: as RV(stat)
    zxid:
      description: The transaction with which the task changed it.
      type: int
      returned: where a transaction changed it
  sample:
    - changed: true
      path: /config/shop/colour
      value: green
      encoding: text
      stat: {czxid: 4294967320, mzxid: 4294967320, version: 0}
      zxid: 4294967320
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import (
    open_values,
    rule_of_values,
    warning_of_values,
)
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode, desired_znodes
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import ACL_SPEC
from ansible_collections.zoo.deploy.plugins.module_utils.znodes import converge
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

ZNODE_SPEC: dict[str, dict[str, Any]] = {
    "path": {"type": "str", "aliases": ["name"]},
    "value": {"type": "raw"},
    "secret_value": {"type": "raw", "no_log": True},
    "src": {"type": "path"},
    "encoding": {"type": "str", "choices": ["text", "base64"]},
    "merge": {"type": "bool"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "recursive": {"type": "bool"},
    "parents": {"type": "bool"},
    "version": {"type": "int"},
    "acl": {"type": "list", "elements": "dict", "options": ACL_SPEC},
    "sequence": {"type": "bool"},
}
VALUES = ("value", "secret_value", "src")
DEFAULTS = {
    "encoding": "text",
    "merge": False,
    "state": "present",
    "recursive": False,
    "parents": True,
    "sequence": False,
}


def argument_spec() -> dict[str, dict[str, Any]]:
    """The options of the task; those of an entry of `znodes` are the same, but without defaults."""
    task = {
        name: {**option, "default": DEFAULTS[name]} if name in DEFAULTS else option
        for name, option in ZNODE_SPEC.items()
    }
    entry = {**ZNODE_SPEC, "path": {**ZNODE_SPEC["path"], "required": True}}
    return {
        **ARGSPEC,
        **task,
        "app": {"type": "str"},
        "znodes": {"type": "list", "elements": "dict", "options": entry, "mutually_exclusive": [VALUES]},
    }


def report(results: Sequence[dict[str, Any]], *, several: bool, diff: bool) -> dict[str, Any]:
    """What the module returns: one znode's result as it is, several ones' as `znodes`; `diff` where asked for."""
    bare = [{key: value for key, value in result.items() if key != "diff"} for result in results]
    if not several:
        return dict(results[0]) if diff else bare[0]
    differing = [result["diff"] for result in results if result["changed"]]
    whole = {"changed": bool(differing), "znodes": bare}
    return {**whole, "diff": differing} if diff else whole


def acl_by_roles(
    client: Any, options: Mapping[str, Any], wanted: Sequence[DesiredZnode]
) -> Callable[[str], tuple[Any, ...] | None]:
    """Gives the ACL that follows from the roles of `app` for what is created without one. Raises `ZooKeeperError`."""
    paths = [one.path for one in wanted if one.present]
    if options["app"] is None or not paths:
        return lambda _path: None
    try:
        app = AppPaths(options["app"])
    except InvalidRecord as exc:
        raise ZooKeeperError(str(exc)) from exc
    return partial(rule_of_values(client, app, options, paths).acl, ephemeral=False)


def find_open_values(
    client: Any,
    options: Mapping[str, Any],
    wanted: Sequence[DesiredZnode],
    acl_of: Callable[[str], tuple[Any, ...] | None],
) -> list[str]:
    """The values of `app` that anybody may change though nobody has asked for that. Raises `ZooKeeperError`."""
    if options["app"] is None:
        return []
    paths = [one.path for one in wanted if one.present and one.acl is None and not one.sequence]
    return open_values(client, paths, acl_of, options["connect_timeout"])


def main() -> None:
    """Run the module."""
    module = ZnodeModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[VALUES, *(("znodes", option) for option in ("path", *VALUES, "version"))],
        required_one_of=[("path", "znodes")],
        supports_check_mode=True,
    )
    options = module.params
    try:
        wanted = desired_znodes(options)
        with connect(options) as client:
            acl_of = acl_by_roles(client, options, wanted)
            left_open = find_open_values(client, options, wanted, acl_of)
            results = converge(
                client, wanted, check=module.check_mode, timeout=options["connect_timeout"], acl_of=acl_of
            )
    except ZooKeeperError as exc:
        module.fail(exc)
    if left_open:
        module.warn(warning_of_values(left_open))
    module.exit_json(**report(results, several=options["znodes"] is not None, diff=module._diff))


if __name__ == "__main__":
    main()
