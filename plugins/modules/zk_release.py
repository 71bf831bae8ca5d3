#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish the release that every live agent of an application should run, and wait until they prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_release
short_description: Publish a release in ZooKeeper and wait until the fleet proves it
version_added: 0.1.0
description:
  - Resolves O(ref) to a commit, publishes it to C(<app>/config) together with an entry of C(<app>/history) in one
    transaction, and waits until every live agent below C(<app>/agents) has proved it.
  - No connection is made to any server. The agents, installed by the role P(zoo.deploy.watcher#role), watch the znode,
    fetch the commit, activate it, health-check it and report the result.
  - What is published replaces only what was read before. Where another publisher was quicker, all is read and decided
    anew, so that C(changed) and the diff are true.
  - The znode has the form V({"url":, "commitId":, "relativePath":}), as other deploy clients for ZooKeeper read and
    write it.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.waiting
author:
  - zoo.deploy contributors (@zoo-deploy)
requirements:
  - GitPython >= 3.1.30 and git where the module runs
attributes:
  check_mode:
    support: full
    description: Resolves O(ref) and says whether it would be published; writes nothing and waits for nothing.
  diff_mode:
    support: full
    description: Shows the release that was desired before and the one that is after.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble and the repository, so it mostly runs on the controller.
  async:
    support: none
    description:
      - The controller waits for the fleet, so a task with C(async) is refused.
      - Publish with O(wait=false), and wait in another task, with M(zoo.deploy.zk_fleet_info).
  action:
    support: full
    description: While it waits for longer than a few seconds, the controller shows how far the fleet is.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  url:
    description:
      - The repository's address as the servers reach it, without a password.
      - Where it is not given, it is that of the release which is published now.
    type: str
  ref:
    description:
      - A branch, a tag, or a commit's id, full or its first 7 digits or more, of O(url).
      - V(HEAD) is the repository's default branch.
      - Where it is not given, it is that of the release which is published now. It has to be given where that release
        has none, or is of another repository. The first release of an application is V(HEAD) then.
      - Not with O(state=rolled_back), where O(to) names the release.
    type: str
  relative_path:
    description:
      - Where the release appears below the base of each server.
      - Where it is not given, it is that of the release which is published now.
    type: str
  state:
    description:
      - V(published) publishes O(ref) of O(url).
      - V(rolled_back) publishes an earlier release of the history again, O(to) says which. It asks no git server,
        and servers that still keep that release need none either.
    type: str
    choices: [published, rolled_back]
    default: published
  to:
    description:
      - What to go back to with O(state=rolled_back), an entry of the history by its name, or a commit's id,
        full or its first 7 digits or more.
      - Where it is not given, it is the last release that the whole fleet had proved and that is not the current one,
        as noted by who waited for it with O(wait). Where none is known to be proved, one has to be named.
      - A release that no agent ran, or during whose wait an agent was lost, is not known to be proved.
      - Where it is not given and the current release is a rollback itself, nothing is published, and RV(msg) says so.
    type: str
  only_if:
    description:
      - Publish only where this is the desired release now, a commit's id, full or its first 7 digits or more, or a
        generation as RV(generation) has it; fails otherwise, and says what is desired, by whom and since when.
      - V(none), and null, as RV(zoo.deploy.zk_release_info#module:generation) is then, publish only where nothing is
        published yet. Leave it out, or use C(omit), for no condition.
      - Where nothing would be published, it is not looked at.
    type: str
  force:
    description:
      - Publish also where the release is the desired one already. It gets a new generation, in which agents that gave
        it up, because it failed or was rolled back, try it again; those that run it prove it anew.
      - Such a task changes something each time.
    type: bool
    default: false
  publisher:
    description:
      - Who publishes, as the history is to say it.
      - Where it is not given, it is the user and the host where the module runs.
    type: str
  wait:
    description: Whether to wait until the live agents have proved the release.
    type: bool
    default: true
  _published:
    description:
      - What has been published already, and is only waited for. The controller waits on with it; of no use in a task.
    type: dict
    suboptions:
      generation:
        description: The publication's number.
        type: int
        required: true
      agents:
        description: The names of the agents that were live before.
        type: list
        elements: str
        required: true
      commit_id:
        description: The commit that was published.
        type: str
        required: true
      left:
        description: The seconds that are left of the wait.
        type: float
        required: true
      stuck:
        description: The seconds for which no agent could go on already.
        type: float
        required: true
  _told:
    description: The reasons that the controller has shown; a wait ends at any other one. Of no use in a task.
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_release_info
  - module: zoo.deploy.zk_fleet_info
  - plugin: zoo.deploy.zk_services
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Deploy the head of main and wait until every live server has proved it
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    url: https://git.example.com/business.git
    ref: main
    relative_path: site

- name: Deploy a tag of the same repository to the same place, two servers may fail
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.2
    max_failures: 2

- name: Deploy to a large fleet, of which a twentieth may be lost meanwhile, and a hundredth may fail
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.2
    min_agents: 95%
    max_failures: 1%

- name: Bring back the last release that the whole fleet had proved
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: rolled_back

- name: Deploy a tag, unless somebody has published another release than the one that was looked at
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.3
    only_if: "{{ deployed.release.commitId }}"

- name: Try a release again on the servers that gave it up, now that the disk is not full any more
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: "{{ deployed.release.commitId }}"
    only_if: "{{ deployed.generation }}"
    force: true

- name: Publish for servers that do not run yet
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    url: https://git.example.com/business.git
    relative_path: site
    wait: false
"""

RETURN = r"""
generation:
  description:
    - The publication's number, the C(mzxid) of C(<app>/config). Only equality means something.
    - Not there in check mode where something would be published.
  returned: success, and on failure after publishing
  type: int
  sample: 4294967341
commit_id:
  description: The full id of the commit that O(ref) is.
  returned: success, and on failure after publishing
  type: str
  sample: 81d4066248f2c54237c352a2ece3bc070a5a91d9
release:
  description: The desired release as its znode has it.
  returned: success, and on failure after publishing
  type: dict
  sample:
    url: https://git.example.com/business.git
    commitId: 81d4066248f2c54237c352a2ece3bc070a5a91d9
    relativePath: site
    ref: main
agents:
  description:
    - The status of each live agent, by name, in the form of its znode.
    - RV(agents[].state) is C(active) and RV(agents[].generation) is RV(generation) where it has proved the release.
  returned: when O(wait=true) and not in check mode
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

failed_agents:
  description: The names of the agents that gave up on this release.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
pending_agents:
  description: The names of the agents that have neither proved it nor given up, as far as that is known.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
lost_agents:
  description: The names of the agents that were live while the module waited and are not any more.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
msg:
  description: Why nothing was published.
  returned: when O(state=rolled_back) without O(to), and the current release is a rollback itself
  type: str
converged:
  description: Whether the fleet has proved the release, as far as O(min_agents) and O(max_failures) ask for it.
  returned: when O(wait=true) and not in check mode
  type: bool
timed_out:
  description: Whether the wait ended because RV(pending_agents) had not come to an end within O(wait_timeout).
  returned: when O(wait=true) and not in check mode
  type: bool
elapsed:
  description: Seconds from the publication to the end of waiting.
  returned: when O(wait=true) and not in check mode
  type: float
  sample: 1.207
"""

import getpass
import json
import os
import socket
import time
from dataclasses import replace
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC, ZnodeModule, elapsed
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError, is_outage
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import WAITING_OPTIONS, live_names, outage
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import EarlierWait
from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import CommitError, resolve
from ansible_collections.zoo.deploy.plugins.module_utils.records import DEFAULT_APP, AppPaths, InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    ROLLED_BACK_FROM,
    Published,
    ReleaseProof,
    begin_anew,
    check_only_if,
    now,
    prove,
    publish,
    read_history,
    read_published,
    rollback_target,
)
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

LEAST_CONNECT_TIMEOUT = 1.0
"""Seconds in which a connection can be had, also where the wait is almost over."""


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "url": {"type": "str"},
        "ref": {"type": "str"},
        "relative_path": {"type": "str"},
        "state": {"type": "str", "choices": ["published", "rolled_back"], "default": "published"},
        "to": {"type": "str"},
        "only_if": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "publisher": {"type": "str"},
        "wait": {"type": "bool", "default": True},
        "_published": {
            "type": "dict",
            "options": {
                "generation": {"type": "int", "required": True},
                "agents": {"type": "list", "elements": "str", "required": True},
                "commit_id": {"type": "str", "required": True},
                "left": {"type": "float", "required": True},
                "stuck": {"type": "float", "required": True},
            },
        },
        "_told": {"type": "list", "elements": "str"},
        **WAITING_OPTIONS,
    }


def wanted_release(client: Any, paths: AppPaths, options: dict[str, Any], published: Published) -> Release:
    """The release that the options ask for. Raises `InvalidRecord`, `CommitError`."""
    if options["to"] and options["state"] != "rolled_back":
        raise InvalidRecord("to: only with the state rolled_back")
    if options["ref"] and options["state"] == "rolled_back":
        raise InvalidRecord(
            "ref: not with the state rolled_back; name the commit, or the entry of the history, with to"
        )
    if options["state"] == "rolled_back":
        release = rollback_target(read_history(client, paths), published.release, options["to"])
    else:
        release = resolved_release(options, published.release)
    return replace(release, publisher=options["publisher"] or publisher(), published_at=now())


def publisher() -> str:
    """Who runs this, and where; a user's number where it has no name here, as in a container."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def resolved_release(options: dict[str, Any], before: Release | None) -> Release:
    """The release of `ref` of `url`; what the options leave open is as published before."""
    url = options["url"] or (before.url if before else None)
    relative_path = options["relative_path"] or (before.relative_path if before else None)
    if url is None or relative_path is None:
        option = "url" if url is None else "relative_path"
        raise InvalidRecord(f"{option}: give it; no release is published yet that it could be taken from")
    ref = options["ref"] or ref_before(before, url)
    return Release(url=url, commit_id=resolve(url, ref), relative_path=relative_path, ref=ref)


def ref_before(before: Release | None, url: str) -> str:
    """The ref that was published before: after a tag, the default branch is not what anybody means."""
    if before is None:
        return "HEAD"
    if before.url != url:
        raise InvalidRecord(f"ref: give it; what is published now is of another repository, {before.url}")
    if not before.ref:
        raise InvalidRecord("ref: give it; the release that is published now has none that it could be taken from")
    return before.ref


def converge(client: Any, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Publish where something differs, wait where that is wanted; the module's result."""
    waits = options["wait"] and not check
    result, agents, begin = begin_anew(lambda: publish_wanted(client, options, check))
    return wait(client, options, result, agents, begin) if waits else result


def publish_wanted(client: Any, options: dict[str, Any], check: bool) -> tuple[dict[str, Any], list[str], float]:
    """Publish where something differs; the result, who was live before, and when it was.

    Raises `Overtaken`: then all is to be read anew.
    """
    paths = AppPaths(options["app"])
    published = read_published(client, paths)
    release = wanted_release(client, paths, options, published)
    same = release.same_as(published.release) and not options["force"]
    result = describe(published, published.release if same and published.release else release, changed=not same)
    if same and options["state"] == "rolled_back" and not options["to"]:
        since = release.extra[ROLLED_BACK_FROM]
        result["msg"] = f"{release.commit_id} is a rollback from {since} already; name another release with to"
    if not same:
        check_only_if(paths, published, options["only_if"])
    agents = live_names(client, paths) if options["wait"] and not check else []
    begin = time.monotonic()
    if not same and not check:
        result["generation"] = publish(client, paths, release, published)
    return result, agents, begin


def wait(
    client: Any, options: dict[str, Any], result: dict[str, Any], agents: list[str], begin: float
) -> dict[str, Any]:
    """The result, with what became of the fleet's proof; a `ZooKeeperError` has it in its details."""
    paths = AppPaths(options["app"])
    proof = ReleaseProof(paths.config, result["generation"], result["commit_id"])
    stuck = options["_published"]["stuck"] if options["_published"] else 0.0
    try:
        waited = prove(client, paths, proof, options, EarlierWait(agents, options["_told"], stuck))
    except ZooKeeperError as exc:
        known = {"pending_agents": agents, "timed_out": is_outage(exc), "converged": False, **exc.details}
        exc.details = {**result, **known, "elapsed": elapsed(begin)}
        raise
    return {**result, **waited, "elapsed": elapsed(begin)}


def in_time(options: dict[str, Any]) -> dict[str, Any]:
    """The options, where a later connection is waited for no longer than the fleet."""
    published, seconds = options["_published"], options["connect_timeout"]
    limit = max(published["left"], LEAST_CONNECT_TIMEOUT) if published else seconds
    return {**options, "connect_timeout": min(seconds, limit)}


def wait_on(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Wait for what was published before; what became of that."""
    published = options["_published"]
    result = {name: published[name] for name in ("generation", "commit_id")}
    return wait(client, options, result, published["agents"], time.monotonic())


def describe(published: Published, release: Release, *, changed: bool) -> dict[str, Any]:
    """The part of the result that is known before anything is written."""
    before = published.release.to_object() if published.release else None
    result: dict[str, Any] = {
        "changed": changed,
        "commit_id": release.commit_id,
        "release": release.to_object(),
        "diff": {"before": pretty(before), "after": pretty(release.to_object())},
    }
    if not changed:
        result["generation"] = published.generation
    return result


def pretty(release: dict[str, Any] | None) -> str:
    """A release as a diff shows it."""
    return f"{json.dumps(release, indent=2)}\n" if release else ""


def main() -> None:
    """Run the module."""
    module = ZnodeModule(argument_spec=argument_spec(), supports_check_mode=True)
    options = in_time(module.params)
    try:
        with connect(options, outage(options, waits=options["wait"])) as client:
            waits_on = options["_published"] and not module.check_mode
            result = wait_on(client, options) if waits_on else converge(client, options, module.check_mode)
    except ZooKeeperError as exc:
        module.fail(exc, **({"timed_out": is_outage(exc)} if options["_published"] else {}))
    except (InvalidRecord, CommitError) as exc:
        module.fail(exc)
    if result.get("lost_agents"):
        module.warn(f"live at first and gone before the end: {', '.join(result['lost_agents'])}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
