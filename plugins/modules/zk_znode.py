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
  - Creates, changes and deletes znodes, one or many in a single transaction that succeeds or fails as a whole.
  - A value is written only if it differs. A dictionary or a list is written as JSON and compared as JSON, so neither
    the order of keys nor spacing counts as a change.
  - Only the value that was read is overwritten. If another client changed it first, everything is read and decided
    again, at most nine times, so that C(changed) and the diff are true.
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
      - Predicts what ZooKeeper would refuse if that follows from the present znodes - a parent that is missing or
        ephemeral, children that stand in the way, another version. Does not predict permissions, or names that a server
        refuses, such as those with characters beyond U+FFFF.
  diff_mode:
    description: Returns details on what has changed, or would change in check mode.
    support: full
    details:
      - A value of several lines is shown line by line.
      - A value that is not UTF-8, or is longer than 65,536 bytes, is shown by its size and digest.
      - Of the hash of a V(digest) ACL entry, only a few digits are shown, computed with a key of this run. They show
        that a new password differs, but can't be used to guess it.
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
      - The znode's value. A string is written as it is; a dictionary, a list, a number or a boolean as JSON.
      - A key that is not a string, such as V(8080), V(yes), V(null) or V(1.10), is refused at any depth, because JSON
        has no such keys and the same key in quotes may be there too. Quote it.
      - Without it, a new znode is empty, and an existing one keeps its value. V('') empties it.
      - A value may have up to 1,000,000 bytes.
    type: raw
  secret_value:
    description:
      - Like O(value), as text or base64, but neither it nor the value that it replaces appears in a result, a diff or a
        log.
      - A dictionary or a list is refused; convert it with P(ansible.builtin.to_json#filter).
    type: raw
  src:
    description:
      - Like O(value), but taken from this file on the controller, byte for byte. O(encoding) has no effect on it.
      - A relative path is searched for as M(ansible.builtin.copy) searches for its C(src), in C(files) of the role and
        in the role, then in C(files) next to the playbook and next to the playbook itself.
      - A file encrypted with Ansible Vault is decrypted. Like O(secret_value), it appears in no result, no diff and no
        log.
      - It is compared byte for byte, even if it is JSON, unless O(merge=true).
      - The lookup P(zoo.deploy.config_znodes#lookup) turns a whole directory into entries of O(znodes).
    type: path
  encoding:
    description: How O(value) or O(secret_value) is written here; V(base64) is for values that are not text.
    type: str
    choices: [text, base64]
    default: text
  merge:
    description:
      - Merge O(value), a dictionary, into the JSON object that the znode holds, as in RFC 7396. A key is set, also
        inside dictionaries that are already there. A key whose value is null is removed. Keys that are not named stay.
        A list is replaced as a whole.
      - O(value), O(secret_value) or O(src) may also be such an object as a string of JSON.
      - An empty or missing znode counts as an empty object. A znode that holds anything else is refused.
      - Changes that others make in the meantime are not lost; as for every value, the task reads and merges again.
      - If anything differs, the whole value is written again, without its former line breaks and spaces. A number with
        more digits than can be kept is refused.
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
      - With O(state=absent), everything below the znode is deleted as well. More than 1,000 znodes need several
        transactions; the znode itself is deleted in the last one.
    type: bool
    default: false
  parents:
    description:
      - With O(state=present), missing parents are created as well, empty and with O(acl). That includes the last
        segment of a chroot in O(hosts), but its own parents must exist.
      - With V(false), a znode whose parent is missing is refused.
    type: bool
    default: true
  version:
    description:
      - Change or delete the znode only if this is its data version, as in RV(stat.version); fail otherwise.
      - A znode that is already in the desired state is not a failure, whatever its version.
    type: int
  acl:
    description:
      - The znode's complete ACL; permissions that are not listed here are revoked.
      - Without it, a new znode is open to everybody, unless O(app) says otherwise, and an existing one keeps its ACL.
      - A new znode has its ACL from the start. ZooKeeper can't change the ACL of an existing znode in a transaction, so
        that is done right after it. If another client has changed the ACL in the meantime, and the ACL is not the only
        change to make, the module fails.
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
          - The identity, in the form of the scheme. For V(digest), a user name with O(acl[].password), or C(user:hash)
            without it.
          - V(world) and V(auth) need none.
        type: str
      password:
        description:
          - The password of a V(digest) user, in plain text; only its hash is sent and stored.
          - The hash is SHA-1, ZooKeeper's default. Servers started with another
            C(zookeeper.DigestAuthenticationProvider.digestAlg) would not recognize the user by it; give C(user:hash)
            for them.
          - The password of the user O(digest_username) is hashed by the server, as with V(auth), unless the connection
            also has a O(sasl_mechanism) or a O(tls_cert), whose identity the server would add.
        type: str
      perms:
        description: What is allowed.
        type: list
        elements: str
        choices: [read, write, create, delete, admin, all]
        required: true
  sequence:
    description:
      - Create a new znode each time. Its name is O(path) with ten digits that the server appends; RV(path) returns it.
    type: bool
    default: false
  app:
    description:
      - The application that the znodes belong to. If M(zoo.deploy.zk_access) has recorded its roles, znodes that are
        created without O(acl) are closed to everybody else - publishers may do everything, agents and readers may read.
      - The same is true for the directory that contains all of them, if it is created with them. In directories that
        are created above that, and right below the root, others may create znodes. If agents render a directory there,
        list it in C(values) of M(zoo.deploy.zk_access).
      - The connection must be a publisher's.
      - The module warns if anybody who reaches the ensemble can change a value and its O(acl) does not say so. Without
        O(app), it does not warn.
    type: str
    version_added: 0.2.0
  znodes:
    description:
      - Many znodes, in one transaction. The order does not matter - deletions come first, and parents are created
        before their children.
      - C(state), C(encoding), C(merge), C(recursive), C(parents), C(sequence) and C(acl) default to the task's own
        options.
      - Together they may have about 1 MB, ACLs included. With O(app), each created znode has all identities of the
        roles.
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
  - A task can't create ephemeral znodes, because they would be deleted with its session when it ends.
  - Values are returned and shown in diffs; give secrets as O(secret_value), or set C(no_log).
  - For deleted znodes, a diff has the paths but not the values, which may have been secret. For a change to another
    O(value), it has the old value; if that was a secret one, run the task without C(--diff).
  - If others change a znode between the read and the transaction, the task starts over; it gives up after the ninth
    time.
  - ZooKeeper compares versions, and those of a new znode start at 0. So a znode that others delete and recreate at that
    moment may pass for the one that was read. O(version) does not tell the two apart either, however long ago that was.
  - If an ACL does not allow an operation, ZooKeeper 3.7 and later reports which identities the connection has, and the
    error message includes them.
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
- name: A string
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/motd
    value: Welcome

- name: JSON, written only if it differs as JSON
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value:
      host: db1.example.org
      port: 5432
      pool: {min: 2, max: 20}
  register: database

- name: Compare and set - fail if somebody else has changed it since
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value: {host: db2.example.org, port: 5432}
    version: "{{ database.stat.version }}"

- name: Some keys of a value that others also write
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/database
    value:
      pool: {max: 30} # pool.min stays
      replica: null # is removed
    merge: true

- name: Bytes that do not come from a file
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/key
    value: "{{ generated_key_base64 }}"
    encoding: base64

- name: A file of the role, which may be encrypted with Ansible Vault
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/certificate
    src: certificate.pem

- name: A new configuration and the removal of the old one, in one transaction
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    znodes:
      - {path: /config/shop/limits, value: {orders: 100}}
      - {path: /config/shop/colour, value: green}
      - {path: /config/shop/features, state: present}
      - {path: /config/shop-old, state: absent}

- name: Change a value that every server must have in its file before the play continues
  zoo.deploy.zk_znode:
    hosts: zk1:2181,zk2:2181,zk3:2181
    path: /config/shop/limits
    value: {orders: 200}

- name: Wait until the files have it
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_files: [/config/shop/limits]
    wait_timeout: 30

- name: Everybody may read, one user may do everything
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
  description: The znode's path; with O(sequence=true), the one that the server chose.
  returned: when O(path) is given
  type: str
  sample: /config/database
value:
  description: The znode's value after the task, or in check mode the one that it would have.
  returned: when O(path) is given without O(secret_value), and the znode exists and may be read
  type: str
  sample: '{"host": "db1.example.org", "port": 5432}'
encoding:
  description: V(text), or V(base64) if the value is not UTF-8.
  returned: with RV(value)
  type: str
  sample: text
stat:
  description:
    - The znode's stat after the task; in check mode, the present one.
    - Its fields about the value describe the value that the task has read or written, even if others set another one
      right after.
    - It may be missing if the connection is lost right after the transaction.
  returned: when O(path) is given and the znode exists; from ZooKeeper 3.9 on, only if it may be read
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
      description: The session that owns it; 0 if it is persistent.
      type: int
      sample: 0
    data_length:
      description: The size of its value in bytes.
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
  description: The same return values for each entry, in the order of O(znodes).
  returned: when O(znodes) is given
  type: list
  elements: dict
  contains:
    changed:
      description: Whether it was changed.
      type: bool
      returned: always
    path:
      description: Its path; with O(znodes[].sequence=true), the one that the server chose.
      type: str
      returned: always
    value:
      description: Its value after the task, or in check mode the one that it would have.
      type: str
      returned: if it exists and may be read
    encoding:
      description: V(text), or V(base64) if the value is not UTF-8.
      type: str
      returned: with RV(znodes[].value)
    stat:
      description: Its stat after the task, like RV(stat); in check mode, the present one.
      type: dict
      returned: as RV(stat)
    zxid:
      description: The transaction with which the task changed it.
      type: int
      returned: if a transaction changed it
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
    """The options of the task; an entry of `znodes` has the same ones, without defaults."""
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
    """The module's result: that of one znode, or several as `znodes`; with `diff` if asked for."""
    bare = [{key: value for key, value in result.items() if key != "diff"} for result in results]
    if not several:
        return dict(results[0]) if diff else bare[0]
    differing = [result["diff"] for result in results if result["changed"]]
    whole = {"changed": bool(differing), "znodes": bare}
    return {**whole, "diff": differing} if diff else whole


def acl_by_roles(
    client: Any, options: Mapping[str, Any], wanted: Sequence[DesiredZnode]
) -> Callable[[str], tuple[Any, ...] | None]:
    """A function for the ACL that the roles of `app` give to what is created without one. Raises `ZooKeeperError`."""
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
    """The values of `app` that anybody may change although nobody has asked for that. Raises `ZooKeeperError`."""
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
