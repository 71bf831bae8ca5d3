#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the status of every live agent of an application, and wait until the fleet has a release or files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_fleet_info
short_description: Show which releases a fleet serves, and wait until it has a release or files
version_added: 0.2.0
description:
  - Reads the status of every live agent, and returns which commits the fleet serves, which states the agents are in,
    why some of them have failed, and which hosts of the roster are missing.
  - Waits, if requested, until the fleet has proved a release, or has the files of some znodes in place; fails if it
    does not.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.waiting
author:
  - zoo.deploy contributors (@zoo-deploy)
attributes:
  check_mode:
    support: full
    description: Never writes anything, and waits in check mode too.
  diff_mode:
    support: N/A
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble.
  async:
    support: full
    description: Can be run with C(async), and then shows no progress.
  action:
    support: full
    description:
      - If the wait for a release or for files takes longer than a few seconds, the controller shows the fleet's
        progress. If it waits for both, it does not.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  agents:
    description:
      - The names of the agents to look at and wait for, whether they are live yet or not. Others are ignored.
      - RV(missing_agents) are those of them that are not live; the roster is ignored.
    type: list
    elements: str
  wait_for_release:
    description:
      - The release that every live agent must prove. V(desired) is the published one. It can also be a commit's id, in
        full or at least its first 7 digits, or a generation like RV(generation).
      - If the published release is not the named one, or changes during the wait, the module fails and reports the
        desired release, who published it and when.
      - A rollout of that release is waited for until it is done. The module fails if the rollout is halted or rolled
        back. It succeeds if the rollout pauses for a person; RV(converged) is then false, and RV(msg) says what to do.
        If O(agents) are given, each of them has to prove the release, whatever the outcome of the rollout.
      - If no release is published, the module fails, unless O(agents) are given. These then only have to be live.
    type: str
  accept_waiting:
    description:
      - Whether an agent of O(agents) also counts while it serves the previous release until its turn in the rollout of
        O(wait_for_release), as a new host does. Once the rollout is done, an agent that still waits for its turn is
        waited for.
    type: bool
    default: false
  wait_for_files:
    description:
      - Znodes whose present values must be in place on every live agent that renders a file from one of them, from a
        znode below them, or from a subtree that contains them.
      - The paths are as the agents see them, so O(hosts) needs the same chroot as theirs.
      - The existing znodes must be readable.
      - An agent that renders none of them is not waited for, and O(min_agents) does not count it, unless it is one of
        O(agents). Those must have such a file.
      - With O(wait_for_release), the files are waited for after the release, in the rest of O(wait_timeout).
    type: list
    elements: str
  _turn:
    description: One of several waits in a row, with the results of those before it. Of no use in a task.
    type: dict
    suboptions:
      agents:
        description: The names of the agents that were live before.
        type: list
        elements: str
        default: []
      left:
        description: The seconds of the wait that are left.
        type: float
      generation:
        description: The generation that the first wait found, if a generation is waited for.
        type: int
      stuck:
        description: For how many seconds no agent has been able to continue.
        type: float
        default: 0.0
      moves:
        description: The moves of the rollout that were already shown.
        type: int
      outcomes:
        description: The agents' outcomes that were already shown.
        type: list
        elements: int
      states:
        description: The values of the znodes when the first wait began.
        type: list
        elements: list
      told:
        description: The reasons that the controller has already shown; any other one ends a wait.
        type: list
        elements: str
  _output:
    description: Where the controller writes the result, for the playbooks C(status) and C(watch). Of no use in a task.
    type: dict
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      format:
        description: The format of the file.
        type: str
        choices: [html, json]
        required: true
      reload:
        description: After how many seconds the page reloads itself.
        type: int
      releases:
        description: The result of M(zoo.deploy.zk_release_info).
        type: dict
        required: true
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

- name: Check that no server has drifted
  ansible.builtin.assert:
    that: fleet.agents | rejectattr('converged') | length == 0

- name: Wait for the published release; a tenth of the servers may fail
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_release: desired
    wait_timeout: 60
    max_failures: 10%

- name: Wait until every host of the roster is live and has the published release
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_release: desired
    max_missing: 0

- name: Wait for exactly the release that was published without waiting
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

- name: Wait until every server has the files of a configuration that was written earlier
  zoo.deploy.zk_fleet_info:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    wait_for_files:
      - /config/shop
"""

RETURN = r"""
generation:
  description: The number of the current publication; null if nothing is published.
  returned: unless nothing could be read
  type: int
commit_id:
  description: The desired commit; null if nothing valid is published.
  returned: unless nothing could be read
  type: str
release:
  description: The desired release, as in its znode; null if nothing valid is published.
  returned: unless nothing could be read
  type: dict
served:
  description: The commits that the agents serve, the one with the most agents first.
  returned: unless nothing could be read
  type: list
  elements: dict
  contains:
    commit_id:
      description: The commit that is live on their hosts; null if there is none.
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
    - Why agents do not have the desired release or one of their files, grouped by reason. Includes agents that retry on
      their own.
  returned: unless nothing could be read
  type: list
  elements: dict
  contains:
    reason:
      description: The agents' message; for a file, its path comes first.
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
    - After a wait, only of the live agents that had to prove something.
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
        - One of C(idle), C(waiting), C(halted), C(queued), C(fetching), C(staging), C(draining), C(activating),
          C(checking), C(active), C(failed), C(rolled_back).
        - C(waiting) means that its turn in the rollout has not come yet, C(halted) that it does not come until a person
          continues the rollout.
      type: str
      returned: always
    generation:
      description: The generation that the state refers to.
      type: int
      returned: if it has seen one
    commitId:
      description: The commit that is live on its host.
      type: str
      returned: if there is one
    previousCommitId:
      description: The commit that it would roll back to.
      type: str
      returned: if there is one
    message:
      description: The reason for the state.
      type: str
      returned: if there is one
    waitsFor:
      description:
        - What it waits for, in a word, if it can't continue now. It continues as soon as that is available.
        - C(credentials) and C(health) need a person; the others are those of the metric
          C(zoo_watcher_deployment_retries_total).
      type: str
      returned: if its deployment can't continue
    since:
      description: When it entered this state, RFC 3339.
      type: str
      returned: always
    timings:
      description: The seconds that each step took.
      type: dict
      returned: if a deployment has ended
    access:
      description:
        - The transaction that recorded the roles of M(zoo.deploy.zk_access) that the agent has read; V(0) if none are
          recorded.
      type: int
      returned: if it has credentials and may read them
    failedStep:
      description: The C(step) in which the release failed, and after how many C(seconds).
      type: dict
      returned: if one of the steps has failed
    unit:
      description: The agent's systemd unit, whose journal has its log.
      type: str
      returned: if it runs in a unit of the role
    files:
      description:
        - The files that it renders from znodes, by their path on its host.
        - Each has C(znode), C(format), C(state) (V(current), V(missing), V(pending) or V(failed)) and C(zxid), the
          transaction as of which the state holds. C(mzxid), C(version) and C(message) are there if known.
      type: dict
      returned: if it renders any
    troubles:
      description: What keeps it from working now, one line each.
      type: list
      elements: str
      returned: if there is anything
    held:
      description:
        - The hold that a person has set on its host with C(zoo-watcher hold), with C(since), C(reason) and C(by).
        - It deploys nothing newer until C(zoo-watcher release).
      type: dict
      returned: while it is held
    drained:
      description: The same for C(zoo-watcher drain). It registers nothing until C(zoo-watcher undrain).
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
rollout:
  description: The state of the desired release's rollout.
  returned: if it has one
  type: dict
  contains:
    phase:
      description: C(running), C(soaking), C(paused), C(halted), C(rolling_back), C(done) or C(rolled_back).
      type: str
      returned: always
    step:
      description: The open step, counted from 1.
      type: int
      returned: always
    steps:
      description: How many steps there are.
      type: int
      returned: always
    moves:
      description: How often the phase or the step has changed.
      type: int
      returned: always
    waits_for:
      description: C(gates) while it is paused until the gates of its step are checked; else empty.
      type: str
      returned: always
    proving:
      description:
        - The hosts that had proved the release and are proving it again, for example after a boot. Until they have, no
          soak ends and no further step opens.
      type: list
      elements: str
      returned: always
    says:
      description: What it waits for, or how it ended, in a sentence.
      type: str
      returned: always
    places:
      description: How many hosts may be in progress at once.
      type: int
      returned: always
    fleet:
      description: How many hosts there were at the last count.
      type: int
      returned: always
    counts:
      description: How many hosts are in each state of RV(rollout.hosts). States without hosts are left out.
      type: dict
      returned: always
      sample: {proved: 3, failed: 1}
    since:
      description: When the phase or the step last changed, RFC 3339.
      type: str
      returned: always
    bad:
      description: Why its commit is marked as bad.
      type: str
      returned: if it is, once the rollout has stopped
    by:
      description: The person who set this phase; empty if it was none.
      type: str
      returned: always
    reason:
      description: The reason for the phase; empty if there is none to give.
      type: str
      returned: always
    from:
      description: The commit that hosts run while they wait; null if there is none.
      type: str
      returned: always
    plan:
      description: C(rollout) as published, or as in the policy.
      type: raw
      returned: always
    hosts:
      description:
        - The state of each host, by its name. A host that is missing here was not admitted.
        - Each has C(state) (C(admitted), C(urgent), C(proved), C(failed), C(lost), C(returning) or C(returned)),
          C(since), C(step), the step in which it was admitted, counted from 1, and C(message) if known.
      type: dict
      returned: always
      sample: {web1: {state: proved, since: "2026-11-24T10:15:30+00:00", step: 1}}
degraded:
  description:
    - Problems other than the release, one line each. That is, which agents are held or drained, what keeps them from
      working (RV(agents[].troubles)), and which of their files have failed.
  returned: unless nothing could be read
  type: list
  elements: str
report:
  description:
    - The state of the fleet for a person, as a list of lines. Control characters in what agents report are removed.
    - The controller creates it, so it is missing with C(async).
  returned: unless nothing could be read
  type: list
  elements: str
missing_agents:
  description: The names of the hosts of the roster, or of O(agents) if given, whose agents are not live.
  returned: unless nothing could be read
  type: list
  elements: str
failed_agents:
  description: The names of the agents that gave up on the release, or on one of the files.
  returned: after a wait
  type: list
  elements: str
pending_agents:
  description: The names of the agents that, as far as known, have neither proved it nor given up.
  returned: after a wait
  type: list
  elements: str
lost_agents:
  description: The names of the agents that were live during the wait and no longer are.
  returned: after a wait
  type: list
  elements: str
msg:
  description: Why the rollout of the release waits for a person.
  returned: with O(wait_for_release), while it does
  type: str
converged:
  description: Whether the fleet has proved it, as far as O(min_agents), O(max_failures) and O(max_missing) require.
  returned: when O(wait_for_release) or O(wait_for_files)
  type: bool
timed_out:
  description: Whether the wait ended because some RV(pending_agents) had not finished within O(wait_timeout).
  returned: when O(wait_for_release) or O(wait_for_files)
  type: bool
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, is_outage
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import (
    WAITING_OPTIONS,
    begun,
    limits_of,
    outage,
    read_agents,
    roster_names,
    wait_for_fleet,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_files import (
    FileProof,
    ZnodeState,
    read_states,
    summarize_paths,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import (
    NO_EARLIER_WAIT,
    NOTHING_PROVED,
    UNANSWERED,
    EarlierWait,
    Proof,
    WaitResult,
    absences,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_state import describe_fleet
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    DEFAULT_APP,
    AgentStatus,
    AppPaths,
    InvalidRecord,
    quote,
)
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    SUPERSEDED,
    Published,
    ReleaseProof,
    is_desired,
    read_published,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import RolloutPaths
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import rollout_result
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import check_path
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect, missing_chroot

LEAST_CONNECT_TIMEOUT = 1.0
"""Seconds that connecting may take in any case, even if the wait is almost over."""
DESIRED = "desired"
RELEASE = re.compile(rf"{DESIRED}|[0-9]+|[0-9a-fA-F]{{7,64}}")
"""The valid values of `wait_for_release`."""


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "agents": {"type": "list", "elements": "str"},
        "wait_for_release": {"type": "str"},
        "accept_waiting": {"type": "bool", "default": False},
        "wait_for_files": {"type": "list", "elements": "str"},
        "_turn": {
            "type": "dict",
            "options": {
                "agents": {"type": "list", "elements": "str", "default": []},
                "left": {"type": "float"},
                "generation": {"type": "int"},
                "stuck": {"type": "float", "default": 0.0},
                "moves": {"type": "int"},
                "outcomes": {"type": "list", "elements": "int"},
                "states": {"type": "list", "elements": "list"},
                "told": {"type": "list", "elements": "str"},
            },
        },
        "_output": {
            "type": "dict",
            "options": {
                "path": {"type": "path", "required": True},
                "format": {"type": "str", "choices": ["html", "json"], "required": True},
                "reload": {"type": "int"},
                "releases": {"type": "dict", "required": True},
            },
        },
        **WAITING_OPTIONS,
    }


def check(options: Mapping[str, Any]) -> None:
    """Raise `InvalidRecord` for an invalid option."""
    wanted = options["wait_for_release"]
    if wanted is not None and not RELEASE.fullmatch(wanted):
        raise InvalidRecord(f"wait_for_release: expected desired, a commit or a generation, got {quote(wanted)}")
    for path in options["wait_for_files"] or []:
        check_path(path)


def waits(options: Mapping[str, Any]) -> bool:
    """Whether anything is waited for."""
    return options["wait_for_release"] is not None or bool(options["wait_for_files"])


def gather(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The state of a fleet, after it has proved what it has to prove. A `ZooKeeperError` has it in its details."""
    paths = AppPaths(options["app"])
    published = read_published(client, paths)
    expected = roster_names(client, paths) if options["agents"] is None else options["agents"]
    agents = read_agents(client, paths)
    missing = sorted(set(expected).difference(agents))
    rollout = rollout_result(client, paths, published.generation)
    seen = {name: agents[name] for name in agents if options["agents"] is None or name in options["agents"]}
    if not waits(options):
        return {**describe(seen, published, missing), **rollout}
    wanted: list[Proof] = []
    try:
        # Hosts that still wait once the rollout is done follow on their own: what they serve meanwhile may be very old.
        is_done = rollout.get("rollout", {}).get("phase") == DONE
        wanted.extend(proofs(client, paths, published, {**options, "accept_waiting": False} if is_done else options))
        result = wait(client, paths, wanted, options)
    except ZooKeeperError as exc:
        exc.details = {
            **describe(seen, published, missing),
            **rollout,
            "failed_agents": [],
            "pending_agents": sorted(seen if options["agents"] is None else options["agents"]),
            "lost_agents": [],
            "converged": False,
            "timed_out": is_outage(exc),
            **for_the_next_turn(wanted, options),
        }
        raise
    if result.problem and not result.timed_out:  # another release may have ended the wait
        published = read_published(client, paths)
        if SUPERSEDED in result.problem:
            verdict = ReleaseProof(paths.config, published.generation, names=options["agents"]).judge(result.agents)
            result = result._replace(verdict=verdict)
    found = {
        **result.to_result(),
        **describe(result.agents, published, result.missing),
        **({} if UNANSWERED in (result.problem or "") else rollout_result(client, paths, published.generation)),
        **for_the_next_turn(wanted, options),
    }
    if result.problem:
        raise ZooKeeperError(result.problem, **found)
    return found


def for_the_next_turn(wanted: list[Proof], options: Mapping[str, Any]) -> dict[str, Any]:
    """What the znodes held when the first of several waits in a row began: every turn waits for that."""
    if options["_turn"] is None:
        return {}
    states = [proof.states for proof in wanted if isinstance(proof, FileProof)]
    return {"_states": states[0]} if states else {}


def describe(agents: Mapping[str, AgentStatus], published: Published, missing: Sequence[str]) -> dict[str, Any]:
    """The fleet's state, as part of the result."""
    commit_id = published.release.commit_id if published.release else None
    return {
        "generation": published.generation,
        "commit_id": commit_id,
        "release": published.release.to_object() if published.release else None,
        **describe_fleet(agents, published.generation, commit_id),
        "missing_agents": list(missing),
    }


def proofs(client: Any, paths: AppPaths, published: Published, options: Mapping[str, Any]) -> Iterator[Proof]:
    """What the fleet has to prove, one proof after the other. Raises `ZooKeeperError` if it can't."""
    if options["wait_for_release"] is not None:
        yield release_proof(paths, published, options)
    znodes = options["wait_for_files"]
    if znodes:
        given = options["_turn"] and options["_turn"]["states"]
        states = [ZnodeState(*state) for state in given] if given else read_states(client, znodes)
        yield FileProof(states, summarize_paths(znodes), options["agents"])


def followed(options: Mapping[str, Any]) -> int | None:
    """The generation that an earlier turn of the same wait has found."""
    return options["_turn"]["generation"] if is_later(options) else None


def is_later(options: Mapping[str, Any]) -> bool:
    """Whether this is a later turn of a wait, not the first."""
    return options["_turn"] is not None and options["_turn"]["left"] is not None


def release_proof(paths: AppPaths, published: Published, options: Mapping[str, Any]) -> ReleaseProof:
    """The release to be proved. Raises `ZooKeeperError` if it is not the published one.

    In a later turn it is the generation found in the first, even if it has been deleted since.
    """
    wanted, names = options["wait_for_release"], options["agents"]
    known = followed(options)
    generation = published.generation if known is None else known
    if known is not None and published.generation not in {None, known}:
        raise ZooKeeperError(f"{paths.config}: {SUPERSEDED}{published}")
    if known is None and wanted != DESIRED and not is_desired(published, wanted):
        raise ZooKeeperError(f"{paths.config}: wait_for_release expects {quote(wanted)}, but {published}")
    if generation is None and names is None:
        raise ZooKeeperError(f"{paths.config}: nothing is published to wait for")
    if published.problem:
        raise ZooKeeperError(f"{paths.config}: what is published is not a release: {published.problem}")
    commit_id = published.release.commit_id if published.release else None
    # The rollout decides for the whole fleet; named hosts decide for themselves.
    gate = None if names is not None or generation is None else RolloutPaths(paths.rollout(generation)).gate
    accepts_waiting = names is not None and options["accept_waiting"]
    # The plan accepts failures for whoever deploys; here, a host that does not serve the desired release has failed.
    return ReleaseProof(
        paths.config, generation, commit_id, names, gate, accepts_waiting=accepts_waiting, accepts_failures=False
    )


def wait(client: Any, paths: AppPaths, wanted: list[Proof], options: Mapping[str, Any]) -> WaitResult:
    """The result of waiting for one proof after the other, within one `wait_timeout`; a problem names its subject."""
    deadline = time.monotonic() + options["wait_timeout"]
    turn = options["_turn"]
    known = turn and (turn["agents"], turn["told"], turn["stuck"], turn.get("moves"), turn.get("outcomes"))
    earlier = EarlierWait(*known) if known else NO_EARLIER_WAIT
    whole = NOTHING_PROVED
    for proof in wanted:
        left = max(0.0, deadline - time.monotonic())
        whole = wait_for_fleet(client, paths, proof, limits_of(options), left, earlier).after(whole)
        if whole.problem:
            return whole._replace(problem=f"{proof.subject}: {whole.problem}")
    return whole


def in_time(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a later turn waiting no longer for the connection than for the fleet."""
    left = options["_turn"] and options["_turn"]["left"]
    seconds = options["connect_timeout"]
    limit = seconds if left is None else max(left, LEAST_CONNECT_TIMEOUT)
    return {**options, "connect_timeout": min(seconds, limit)}


def run(options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The module's result and its warnings; connecting to the ensemble is part of the wait."""
    began = time.monotonic()
    check(options)
    with connect(options, outage(options, waits=waits(options))) as client:
        result = gather(client, begun(options, time.monotonic() - began))
        missing = "" if result["agents"] or result["release"] else missing_chroot(client)
    return result, [missing] if missing else absences(result) if waits(options) else []


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = in_time(module.params)
    try:
        result, warnings = run(options)
    except ZooKeeperError as exc:
        module.fail(exc, **({"timed_out": is_outage(exc)} if is_later(options) else {}))
    except InvalidRecord as exc:
        module.fail(exc)
    for warning in warnings:
        module.warn(warning)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
