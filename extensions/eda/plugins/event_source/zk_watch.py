# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes in ZooKeeper as events for ansible-rulebook."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Receive events when something changes in ZooKeeper
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Watches values, children, subtrees and services in a ZooKeeper ensemble, and the session itself, and sends an event
    for each change.
  - No change is missed. After a lost connection, after a lost session, and every minute, everything is read again, and
    the changes since then are sent. Unchanged znodes are not sent again.
  - While the rulebook takes no events, none pile up. All changes to a znode in the meantime become one event, with its
    newest state.
  - The data in ZooKeeper was written by others, and Ansible evaluates what it gets from a rulebook as templates. So no
    event contains a template. A value with one is sent in base64, and a znode with one in its name is left out with a
    warning. In decoded data, each string with one is null, or all of the data is.
options:
  data:
    description: Paths of the znodes whose values are watched. They may be created later.
    type: list
    elements: str
    default: []
  children:
    description: Paths of the znodes whose children's names are watched. They may be created later.
    type: list
    elements: str
    default: []
  subtrees:
    description: Paths of the znodes to watch with everything below them, values and names.
    type: list
    elements: str
    default: []
  registries:
    description:
      - Where services are registered, as in the inventory plugin P(zoo.deploy.zk_services#inventory). An entry is a
        path, or a mapping with C(path), C(format), C(group) and C(listener); a V(*) in a path matches any part of one
        segment.
    type: list
    elements: raw
    default: []
  settle:
    description:
      - How many seconds a service that has left has to come back, under any child's name, before V(left) is sent. If it
        does, no event is sent, or V(changed) if its data has changed.
      - V(0) sends at once. Without a connection, V(left) is not sent.
    type: float
    default: 0
  session:
    description: Whether to send the session's state too.
    type: bool
    default: false
  initial:
    description:
      - Whether to send what exists at the start, with the change V(present), and the session's first state.
      - Changes that happened while no rulebook ran show only in that.
    type: bool
    default: false
  connection:
    description:
      - Further connection options (those below) in one mapping, for rulebooks that have them in a variable.
      - An option that is given directly takes precedence.
    type: dict
    default: {}
  hosts:
    description:
      - The members of the ensemble as V(host:port), in a list or a comma-separated string.
      - A chroot goes at the end, as in V(zk1:2181,zk2:2181/business), or after each member.
      - Every path is then below it.
      - Defaults to the environment variable E(ZK_HOSTS); one of the two is required.
    type: list
    elements: str
  connect_timeout:
    description:
      - How many seconds to wait for a session at the start; an ensemble that is down then is an error. Later on, it is
        waited for without a limit.
      - It is also the requested session timeout.
    type: float
    default: 10.0
  digest_username:
    description: User for the V(digest) scheme, together with O(digest_password).
    type: str
  digest_password:
    description: Password for the V(digest) scheme.
    type: str
  sasl_mechanism:
    description: Log in by SASL with this mechanism.
    type: str
    choices: [DIGEST-MD5, GSSAPI]
  sasl_username:
    description: User for V(DIGEST-MD5).
    type: str
  sasl_password:
    description: Password for V(DIGEST-MD5).
    type: str
  sasl_service:
    description: The service part of the servers' Kerberos principal.
    type: str
    default: zookeeper
  sasl_principal:
    description: The client's Kerberos principal, for V(GSSAPI).
    type: str
  tls:
    description:
      - Use TLS for the connection to the ensemble. Without it, the options that begin with C(tls_) are refused.
    type: bool
    default: false
  tls_ca:
    description: File with the certificates that sign the servers', in PEM form.
    type: path
  tls_cert:
    description: File with the client's certificate, in PEM form, and with its key if O(tls_key) is not given.
    type: path
  tls_key:
    description: File with the client's private key, in PEM form.
    type: path
  tls_key_password:
    description: Password of O(tls_key).
    type: str
  tls_verify:
    description: Whether the servers' certificates are verified.
    type: bool
    default: true
  tls_check_hostname:
    description: Whether a server's certificate must be for the host name in O(hosts).
    type: bool
    default: true
notes:
  - At least one of O(data), O(children), O(subtrees), O(registries) and O(session) is required.
  - An event is a mapping C(zk) with C(type) (V(data), V(children), V(subtree), V(service), V(session)), C(change), and,
    except for a session, C(path). extensions/eda/README.md of the collection shows
    each.
  - A connection option that is given neither directly nor in O(connection) is read from an environment variable. Its
    name is C(ZK_) and the option in capitals, as in E(ZK_DIGEST_PASSWORD) or E(ZK_TLS_CA). An empty one counts as not
    set.
  - With V(GSSAPI), the Kerberos library finds the tickets by E(KRB5CCNAME), or gets them with the keys in
    E(KRB5_CLIENT_KTNAME).
  - The requirements apply to the Python that ansible-rulebook runs in.
requirements:
  - kazoo >= 2.9; kazoo >= 2.11 for O(tls_check_hostname), which is on by default with O(tls)
  - ansible-core
  - pure-sasl for O(sasl_mechanism), and the Python library C(kerberos) if that is V(GSSAPI)
"""

EXAMPLES = r"""
- zoo.deploy.zk_watch:
    hosts: zk1:2181,zk2:2181,zk3:2181
    data:
      - /app/business/config
    session: true

- zoo.deploy.zk_watch:
    hosts: "{{ zk_hosts }}"
    digest_username: rulebook
    digest_password: "{{ ZK_PASSWORD }}"
    registries:
      - /service/business/what
      - path: /services/*
        format: nerve
    settle: 60
"""

import asyncio
import concurrent.futures
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("zoo.deploy.zk_watch")

STOP_TIMEOUT = 5.0
"""Seconds that stopping may take; a session is closed within two."""


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Send to `queue` the events that the options `args` ask for, until the rulebook ends. An error has one line."""
    find_collection()
    # ansible-rulebook loads only this file; the rest can't be imported before this.
    from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.loop import WatchLoop  # noqa: PLC0415
    from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.options import read_options  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    watching = WatchLoop(
        read_options(args, logger.warning),
        lambda event: asyncio.run_coroutine_threadsafe(queue.put(event), loop),
        logger.warning,
    )
    ended = asyncio.wrap_future(in_thread(watching.run))
    try:
        await asyncio.shield(ended)
    finally:
        watching.stop()
        await asyncio.wait({ended}, timeout=STOP_TIMEOUT)


def find_collection() -> None:
    """Make `ansible_collections.zoo.deploy` the collection that contains this file.

    ansible-rulebook has no collection loader. If this Python already has an `ansible_collections`, such as that of the
    package `ansible`, this place is put before its own. A checkout has its tree in `collections`.
    """
    above = os.path.abspath(__file__).split(os.sep)[:-5]
    installed = above[-3:] == ["ansible_collections", "zoo", "deploy"]
    tree = os.sep.join(above[:-3] if installed else [*above, "collections"])
    if tree not in sys.path:
        sys.path.insert(0, tree)
    package = importlib.import_module("ansible_collections")
    place = os.path.join(tree, "ansible_collections")
    if place not in list(package.__path__):
        package.__path__ = [place, *package.__path__]


def in_thread(work: Callable[[], None]) -> concurrent.futures.Future[None]:
    """Run `work` in a thread that does not keep Python from exiting."""
    outcome: concurrent.futures.Future[None] = concurrent.futures.Future()

    def run() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, it is raised where the outcome is waited for
            outcome.set_exception(exc)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name="zk_watch", daemon=True).start()
    return outcome
