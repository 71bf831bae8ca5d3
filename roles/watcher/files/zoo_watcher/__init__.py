# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of zoo.deploy: follows the desired release in ZooKeeper, activates it on this host, proves and reports it.

Each part imports only from the parts listed above it.

    errors, backoff     the exceptions; the pauses between tries
    signals             what each signal makes the agent do
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
    status_*            what the agent reports about itself; the report of the command `status`
    control_commands    what a person on the host can tell the agent to do
    watcher             the loop
    command_line        the commands, their options and their help
    __main__            what each of them does
"""

from __future__ import annotations

import os

# A symlink that is the package directory itself is not resolved: the package may owe its name to it.
__path__ = [os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)) for path in __path__]
"""Where this version is: late imports come from here too, even after an upgrade has moved the symlink."""
