#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application should run, what was published before, and what every live agent says of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_release_info
short_description: Read an application's desired release, its history and its agents from ZooKeeper
version_added: 0.1.0
description:
  - Reads the desired release, the releases that were published before, and the status of every live agent.
  - Waits, where asked, until the fleet has proved the release, or has the files of some znodes in place.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.waiting
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Changes nothing in any mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  wait:
    description: Whether to wait until the live agents have proved the release that is desired; fails where they do not.
    type: bool
    default: false
  agents:
    description:
      - With O(wait=true), the names of the agents that are waited for, live already or not. Others are not looked at.
      - Where no release is published, such an agent only has to be live.
    type: list
    elements: str
  retry_timeout:
    description:
      - With O(wait=true), the seconds for which agents are hoped for once none of those that are waited for can go on,
        though each tries again by itself, as while a git server is down.
      - The module fails at once where all that they wait for is somebody, as with a repository that they may not read,
        or a first release that is not healthy within C(health_timeout).
    type: float
    default: 60
  wait_for_files:
    description:
      - Znodes, to wait until every live agent that renders a file from one of them, from one below them, or from a
        subtree that they are in, has in place what they hold now; fails where it has not.
      - The paths are as the agents see them, so O(hosts) has the same chroot as theirs.
      - An agent whose files these are not is not waited for, and O(min_agents) does not count it.
      - Not together with O(wait=true).
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_znode
"""

EXAMPLES = r"""
- name: Look at a deployment
  zoo.deploy.zk_release_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: deployed

- name: Wait for a release that was published without waiting
  zoo.deploy.zk_release_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait: true
    wait_timeout: 60

- name: Wait until every server has the files of a configuration that was written without waiting
  zoo.deploy.zk_release_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_files:
      - /config/shop

- name: No server has drifted
  ansible.builtin.assert:
    that: deployed.agents | rejectattr('converged') | length == 0
"""

RETURN = r"""
generation:
  description: The number of the publication that is desired now; null where nothing is published.
  returned: success, and on failure after waiting for it
  type: int
release:
  description: The desired release; null where there is none that is valid.
  returned: success
  type: dict
problem:
  description: What is wrong with the data of C(<app>/config); null where nothing is.
  returned: success
  type: str
history:
  description: What was published, the newest first, at most 50.
  returned: success
  type: list
  elements: dict
  contains:
    entry:
      description: The name of its znode below C(<app>/history).
      type: str
      returned: always
    generation:
      description: Its generation.
      type: int
      returned: always
    release:
      description: The release; null where its data is not valid.
      type: dict
      returned: always
    problem:
      description: What is wrong with its data; null where nothing is.
      type: str
      returned: always
agents:
  description:
    - The status of each live agent, by name, in the form of its znode.
    - Of a wait that has failed, the status of each agent that was to prove it.
  returned: success, and on failure after waiting
  type: list
  elements: dict
  contains:
    name:
      description: The agent's name.
      type: str
      returned: always
    state:
      description:
        - One of C(idle), C(queued), C(fetching), C(staging), C(draining), C(activating), C(checking), C(active),
          C(failed), C(rolled_back).
      type: str
      returned: always
    generation:
      description: The generation that the state is about.
      type: int
      returned: when it has seen one
    commitId:
      description: The commit that is live on its host.
      type: str
      returned: when one is
    previousCommitId:
      description: The commit that it would go back to.
      type: str
      returned: when there is one
    message:
      description: Why it is in this state.
      type: str
      returned: when there is something to say
    waitsFor:
      description:
        - What it waits for, in a word, while it can't go on. It does as soon as that is there.
        - C(credentials) and C(health) need somebody; the others are those of the metric
          C(zoo_watcher_deployment_retries_total).
      type: str
      returned: when its deployment can't go on
    since:
      description: When it came into this state, RFC 3339.
      type: str
      returned: always
    timings:
      description: Seconds by step.
      type: dict
      returned: when a deployment has ended
    files:
      description:
        - The files that it renders from znodes, by their path on its host.
        - Each has C(znode), C(format), C(state) (V(current), V(missing), V(pending) or V(failed)), C(zxid), the
          transaction as of which that is so, and where it is known C(mzxid), C(version) and C(message).
      type: dict
      returned: when it keeps some
    troubles:
      description: What keeps it from its work now, a line each.
      type: list
      elements: str
      returned: when there is something
    held:
      description:
        - What a person on its host has said with C(zoo-watcher hold), with C(since), C(reason) and C(by).
        - Until C(zoo-watcher release), it deploys nothing newer.
      type: dict
      returned: while it is held
    drained:
      description: The same of C(zoo-watcher drain). Until C(zoo-watcher undrain), it registers nothing.
      type: dict
      returned: while it is drained
    version:
      description: The agent's version.
      type: str
      returned: always
    converged:
      description: Whether it has proved the desired release.
      type: bool
      returned: when the task has not failed

failed_agents:
  description: The names of the agents that gave up on the desired release, or on one of the files.
  returned: when O(wait=true) or O(wait_for_files)
  type: list
  elements: str
pending_agents:
  description: The names of the agents that have neither proved it nor given up.
  returned: when O(wait=true) or O(wait_for_files)
  type: list
  elements: str
lost_agents:
  description: The names of the agents that were live while the module waited and are not any more.
  returned: when O(wait=true) or O(wait_for_files)
  type: list
  elements: str
converged:
  description: Whether the fleet has proved it, as far as O(min_agents) and O(max_failures) ask for it.
  returned: when O(wait=true) or O(wait_for_files)
  type: bool
timed_out:
  description: Whether the wait ended because RV(pending_agents) had not come to an end within O(wait_timeout).
  returned: when O(wait=true) or O(wait_for_files)
  type: bool
"""

from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import (
    WAITING_OPTIONS,
    outage,
    read_agents,
    wait_for_proof,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import prove_files, read_states, summarize_paths
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import RETRY_TIMEOUT
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP, AppPaths, InvalidRecord
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    HistoryEntry,
    Published,
    ReleaseProof,
    read_history,
    read_published,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import check_path
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "wait": {"type": "bool", "default": False},
        "agents": {"type": "list", "elements": "str"},
        "retry_timeout": {"type": "float", "default": RETRY_TIMEOUT},
        "wait_for_files": {"type": "list", "elements": "str"},
        **WAITING_OPTIONS,
    }


def gather(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """All that the ensemble knows of an application, once its fleet has proved what it is to prove."""
    paths = AppPaths(options["app"])
    published = read_published(client, paths)
    waited = wait(client, paths, published, options)
    agents = read_agents(client, paths)
    return {
        **waited,
        "generation": published.generation,
        "release": published.release.to_object() if published.release else None,
        "problem": published.problem,
        "history": [describe(entry) for entry in read_history(client, paths)],
        "agents": [
            {
                **status.to_object(),
                "converged": published.generation is not None and status.converged(published.generation),
            }
            for status in (agents[name] for name in sorted(agents))
        ],
    }


def wait(client: Any, paths: AppPaths, published: Published, options: dict[str, Any]) -> dict[str, Any]:
    """Wait where that is wanted; what is known of the fleet then. Raises `ZooKeeperError` where it proves nothing."""
    if options["wait_for_files"]:
        znodes = options["wait_for_files"]
        return prove_files(client, read_states(client, znodes), summarize_paths(znodes), options)
    return wait_for_release(client, paths, published, options) if options["wait"] else {}


def wait_for_release(client: Any, paths: AppPaths, published: Published, options: dict[str, Any]) -> dict[str, Any]:
    """Wait for the desired release; what is known of the fleet then. Raises `ZooKeeperError` where it is not proved."""
    names = options["agents"]
    if published.generation is None and names is None:
        raise ZooKeeperError(f"{paths.config}: nothing is published that could be waited for")
    commit_id = published.release.commit_id if published.release else None
    try:
        return wait_for_proof(
            client, paths, ReleaseProof(paths.config, published.generation, commit_id, names), options
        )
    except ZooKeeperError as exc:
        exc.details["generation"] = published.generation
        raise


def check(options: dict[str, Any]) -> None:
    """Raise a `ZooKeeperError` or an `InvalidRecord` where the options contradict themselves."""
    for path in options["wait_for_files"] or []:
        check_path(path)
    if options["agents"] is not None and not options["wait"]:
        raise ZooKeeperError("agents: only with wait")
    if options["wait_for_files"] and options["wait"]:
        raise ZooKeeperError("wait_for_files: does not go with wait; use a task for each")


def describe(entry: HistoryEntry) -> dict[str, Any]:
    """A publication as the result has it."""
    return {
        "entry": entry.name,
        "generation": entry.generation,
        "release": entry.release.to_object() if entry.release else None,
        "problem": entry.problem,
    }


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    waits = module.params["wait"] or bool(module.params["wait_for_files"])
    try:
        check(module.params)
        with connect(module.params, outage(module.params, waits=waits)) as client:
            result = gather(client, module.params)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
