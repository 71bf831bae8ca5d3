#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every live agent of an application says, and waiting until the fleet has a release or files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_fleet_info
short_description: Tell what a fleet serves, and wait until it has a release or files
version_added: 0.2.0
description:
  - Reads the status of every live agent, and tells which commits the fleet serves, in which states the agents are, and
    why some of them have failed.
  - Waits, where asked, until the fleet has proved a release, or has the files of some znodes in place; fails where it
    has not.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.waiting
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Writes nothing in any mode, and waits in check mode too.
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
  agents:
    description:
      - The names of the agents that are looked at and waited for, live already or not. Others are not.
      - RV(missing_agents) are those that are not live.
    type: list
    elements: str
  wait_for_release:
    description:
      - The release that every live agent is to prove, V(desired) for the one that is published now, or a commit's id,
        full or its first 7 digits or more, or a generation as RV(generation) has it.
      - Where another release than the one that is named is published, now or while it is waited for, the module fails,
        and says what is desired, by whom and since when.
      - Where no release is published, the module fails, unless O(agents) are given. These only have to be live then.
    type: str
  wait_for_files:
    description:
      - Znodes, to wait until every live agent that renders a file from one of them, from one below them, or from a
        subtree that they are in, has in place what they hold now.
      - The paths are as the agents see them, so O(hosts) has the same chroot as theirs.
      - What is there has to be readable.
      - An agent whose files these are not is not waited for, and O(min_agents) does not count it, unless it is one of
        O(agents). Those have to have such a file.
      - With O(wait_for_release), the files are waited for after the release, in what is left of O(wait_timeout).
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_release
  - module: zoo.deploy.zk_release_info
  - module: zoo.deploy.zk_znode
"""

EXAMPLES = r"""
- name: Look at a fleet
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
  register: fleet

- name: No server has drifted
  ansible.builtin.assert:
    that: fleet.agents | rejectattr('converged') | length == 0

- name: Wait for the release that is published, where a tenth of the servers may fail
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_release: desired
    wait_timeout: 60
    max_failures: 10%

- name: Wait for the very release that was published without waiting
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_release: "{{ published.generation }}"

- name: Wait for two new servers only
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_release: desired
    agents: [server5, server6]

- name: Wait until every server has the files of a configuration that was written before
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_files:
      - /config/shop
"""

RETURN = r"""
generation:
  description: The number of the publication that is desired now; null where nothing is published.
  returned: unless nothing could be read
  type: int
commit_id:
  description: The commit that is desired now; null where nothing valid is published.
  returned: unless nothing could be read
  type: str
served:
  description: What the agents serve, by commit, that of most agents first.
  returned: unless nothing could be read
  type: list
  elements: dict
  contains:
    commit_id:
      description: The commit that is live on their hosts; null where none is.
      type: str
      returned: always
    desired:
      description: Whether it is the desired one.
      type: bool
      returned: always
    agents:
      description: The names of the agents.
      type: list
      elements: str
      returned: always
  sample:
    - {commit_id: 81d4066248f2c54237c352a2ece3bc070a5a91d9, desired: true, agents: [server1, server2]}
states:
  description: The names of the agents in each state.
  returned: unless nothing could be read
  type: dict
  sample: {active: [server1, server2], failed: [server3]}
failures:
  description:
    - Why agents have not the desired release or one of their files, by reason, the agents that try it again by
      themselves too.
  returned: unless nothing could be read
  type: list
  elements: dict
  contains:
    reason:
      description: The message of the agents; of a file its path comes first.
      type: str
      returned: always
    agents:
      description: The names of the agents.
      type: list
      elements: str
      returned: always
agents:
  description:
    - The status of each live agent, by name, in the form of its znode.
    - After a wait, of each live agent that was to prove something.
  returned: unless nothing could be read
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
      returned: always
missing_agents:
  description: Those of O(agents) that are not live.
  returned: unless nothing could be read
  type: list
  elements: str
failed_agents:
  description: The names of the agents that gave up on the release, or on one of the files.
  returned: after a wait
  type: list
  elements: str
pending_agents:
  description: The names of the agents that have neither proved it nor given up.
  returned: after a wait
  type: list
  elements: str
lost_agents:
  description: The names of the agents that were live while the module waited and are not any more.
  returned: after a wait
  type: list
  elements: str
converged:
  description: Whether the fleet has proved it, as far as O(min_agents) and O(max_failures) ask for it.
  returned: when O(wait_for_release) or O(wait_for_files)
  type: bool
timed_out:
  description: Whether the wait ended because RV(pending_agents) had not come to an end within O(wait_timeout).
  returned: when O(wait_for_release) or O(wait_for_files)
  type: bool
"""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, is_outage
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import (
    WAITING_OPTIONS,
    limits_of,
    outage,
    read_agents,
    wait_for_fleet,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import FileProof, read_states, summarize_paths
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import NOTHING_PROVED, Proof, WaitResult
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_state import describe_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    DEFAULT_APP,
    AgentStatus,
    AppPaths,
    InvalidRecord,
    quote,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    Published,
    ReleaseProof,
    is_desired,
    read_published,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import check_path
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

DESIRED = "desired"
RELEASE = re.compile(rf"{DESIRED}|[0-9]+|[0-9a-fA-F]{{7,64}}")
"""What `wait_for_release` may be."""


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "agents": {"type": "list", "elements": "str"},
        "wait_for_release": {"type": "str"},
        "wait_for_files": {"type": "list", "elements": "str"},
        **WAITING_OPTIONS,
    }


def check(options: Mapping[str, Any]) -> None:
    """Raise an `InvalidRecord` where an option is what none can be."""
    wanted = options["wait_for_release"]
    if wanted is not None and not RELEASE.fullmatch(wanted):
        raise InvalidRecord(f"wait_for_release: expected desired, a commit or a generation, got {quote(wanted)}")
    for path in options["wait_for_files"] or []:
        check_path(path)


def waits(options: Mapping[str, Any]) -> bool:
    """Whether anything is waited for."""
    return options["wait_for_release"] is not None or bool(options["wait_for_files"])


def gather(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """What a fleet says, once it has proved what it is to prove. A `ZooKeeperError` has it in its details."""
    paths = AppPaths(options["app"])
    published = read_published(client, paths)
    agents = read_agents(client, paths)
    seen = {name: agents[name] for name in agents if options["agents"] is None or name in options["agents"]}
    if not waits(options):
        return describe(seen, published, options)
    try:
        result = wait(client, paths, list(proofs(client, paths, published, options)), options)
    except ZooKeeperError as exc:
        exc.details = {**describe(seen, published, options), "converged": False, "timed_out": is_outage(exc)}
        raise
    found = {**result.to_result(), **describe(result.agents, published, options)}
    if result.problem:
        raise ZooKeeperError(result.problem, **found)
    return found


def describe(agents: Mapping[str, AgentStatus], published: Published, options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the result that is the fleet's state."""
    commit_id = published.release.commit_id if published.release else None
    return {
        "generation": published.generation,
        "commit_id": commit_id,
        **describe_fleet(agents, published.generation, commit_id),
        "missing_agents": sorted(set(options["agents"] or []) - set(agents)),
    }


def proofs(client: Any, paths: AppPaths, published: Published, options: Mapping[str, Any]) -> Iterator[Proof]:
    """What the fleet is to prove, one after the other. Raises `ZooKeeperError` where it can't."""
    if options["wait_for_release"] is not None:
        yield release_proof(paths, published, options["wait_for_release"], options["agents"])
    znodes = options["wait_for_files"]
    if znodes:
        yield FileProof(read_states(client, znodes), summarize_paths(znodes), options["agents"])


def release_proof(paths: AppPaths, published: Published, wanted: str, names: list[str] | None) -> ReleaseProof:
    """The release that is to be proved. Raises `ZooKeeperError` where it is not the one that is published."""
    if wanted != DESIRED and not is_desired(published, wanted):
        raise ZooKeeperError(f"{paths.config}: wait_for_release expects {quote(wanted)}, but {published}")
    if published.generation is None and names is None:
        raise ZooKeeperError(f"{paths.config}: nothing is published that could be waited for")
    if published.problem:
        raise ZooKeeperError(f"{paths.config}: what is published is no release: {published.problem}")
    commit_id = published.release.commit_id if published.release else None
    return ReleaseProof(paths.config, published.generation, commit_id, names)


def wait(client: Any, paths: AppPaths, wanted: list[Proof], options: Mapping[str, Any]) -> WaitResult:
    """How waiting for one proof after the other ends, within one `wait_timeout`; a problem names its subject."""
    deadline = time.monotonic() + options["wait_timeout"]
    whole = NOTHING_PROVED
    for proof in wanted:
        left = max(0.0, deadline - time.monotonic())
        whole = wait_for_fleet(client, paths, proof, limits_of(options), left).after(whole)
        if whole.problem:
            return whole._replace(problem=f"{proof.subject}: {whole.problem}")
    return whole


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = module.params
    try:
        check(options)
        with connect(options, outage(options, waits=waits(options))) as client:
            result = gather(client, options)
    except (ZooKeeperError, InvalidRecord) as exc:
        module.fail(exc)
    if result.get("lost_agents"):
        module.warn(f"live at first and gone before the end: {', '.join(result['lost_agents'])}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
