# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of zoo.deploy: follows the desired release in ZooKeeper, activates it on this host, proves and reports it.

What is further down imports only what is further up.

    errors, backoff     what can go wrong; the pauses between tries
    signals             what each signal has the agent do
    frozen              its immutable values
    wire/               records and names of znodes, as the collection's modules write and read them
    config/             the configuration file
    host/               the machine: its files, processes, service manager and kernel
    zookeeper/          the session and the ephemerals in it; nothing else imports kazoo
    services/           health checks and registrations
    releases/           one release: fetched, staged, activated, proved, rolled back; only `repository` runs git
    files/              files that are rendered from znodes
    desired             the desired release, followed in ZooKeeper
    metrics/            Prometheus metrics; nothing else imports prometheus_client
    status_*            what the agent shows of itself; the report of the command `status`
    control_commands    what a person on the host has the agent do
    watcher             the loop
    command_line        the commands, their options and their help
    __main__            what each of them does
"""

from __future__ import annotations

import os

# A link in the place of the package itself stays: it may be what gives it its name.
__path__ = [os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in __path__]
"""Where this version is: what is imported late comes from here too, after an upgrade has moved the link to it."""
