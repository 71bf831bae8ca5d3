#!/usr/bin/python
# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish the release that every live agent of an application should run, and wait until they prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: zk_release
short_description: Publish a release in ZooKeeper and wait until the fleet has proved it
version_added: 0.1.0
description:
  - Resolves O(ref) to a commit and publishes it to C(<app>/config), together with an entry of C(<app>/history), in one
    transaction. Then it waits until every live agent below C(<app>/agents) has proved it.
  - Makes no connection to the servers. The agents, installed by the role P(zoo.deploy.watcher#role), watch the znode,
    fetch the commit, activate it, health-check it and report the result.
  - Overwrites only the release that it has read. If another publisher was faster, everything is read and decided again,
    so that C(changed) and the diff are true. A rollback fails in that case, because nobody has seen which release it
    would roll back from, unless the other publisher has rolled back too.
  - The znode has the form V({"url":, "commitId":, "relativePath":}), which other deploy clients for ZooKeeper also read
    and write.
  - For people, it also contains the subject of the commit if O(url) is a repository on the same machine, or an HTTP or
    git server that can send a commit without its files. Everybody who may read the znode can read the subject.
extends_documentation_fragment:
  - zoo.deploy.zookeeper
  - zoo.deploy.waiting
  - zoo.deploy.attending
author:
  - zoo.deploy contributors (@zoo-deploy)
requirements:
  - GitPython >= 3.1.30 and git where the module runs
  - C(ssh-keygen) of OpenSSH where the module runs, for O(sign_with)
attributes:
  check_mode:
    support: full
    description:
      - Resolves O(ref) and reports whether it would be published; writes nothing and waits for nothing.
      - RV(foreseen) and RV(steps) show which live hosts would change, in which step of the rollout, and which would
        not.
  diff_mode:
    support: full
    description:
      - Shows the desired release before and after.
      - In check mode, RV(foreseen) is shown below it.
  platform:
    support: full
    platforms: posix
    description: Needs only the ensemble and the repository, so it usually runs on the controller.
  async:
    support: none
    description:
      - The controller waits for the fleet, so a task with C(async) is refused.
      - Publish with O(wait=false) and wait in another task, with M(zoo.deploy.zk_fleet_info).
  action:
    support: full
    description: If the wait takes longer than a few seconds, the controller shows the fleet's progress.
options:
  app:
    description: The znode of the application.
    type: str
    default: /app/business
  url:
    description:
      - The repository's address as the servers reach it, without a password.
      - Defaults to that of the published release.
      - Only with O(state=published).
    type: str
  ref:
    description:
      - A branch, a tag, or the id of a commit in O(url), in full or at least its first 7 digits.
      - V(HEAD) is the repository's default branch.
      - Defaults to that of the published release, and to V(HEAD) for the first release of an application. It is
        required if the published release has no ref or is from another repository.
      - Only with O(state=published). With O(state=rolled_back), O(to) names the release. In any state, O(only_if) names
        the release that must be the desired one.
    type: str
  relative_path:
    description:
      - The place of the release below the base directory of each server.
      - Defaults to that of the published release.
      - Only with O(state=published).
    type: str
  state:
    description:
      - V(published) publishes O(ref) of O(url).
      - V(rolled_back) publishes an earlier release of the history again, the one that O(to) names. It needs no git
        server, and neither do servers that still keep that release. It changes as many servers at a time as the rollout
        that it rolls back from, but without its steps. Servers that are not healthy go first.
      - V(promoted), V(paused) and V(halted) act on the rollout of the published release, see O(rollout). If there is
        nothing to do, RV(msg) says so; what is not possible fails.
      - V(promoted) opens the next step now, or resumes the rollout after a pause, and then waits for the fleet as
        V(published) does. A halted rollout is promoted only with O(force), and its failures so far no longer count.
      - V(paused) lets no more servers start until the rollout is promoted, V(halted) until it is promoted with
        O(force).
      - If two publishers promote the same pause, only one succeeds. While a step is open that somebody else, told apart
        by O(publisher), has promoted, V(promoted) opens the next one only with O(force).
    type: str
    choices: [published, rolled_back, promoted, paused, halted]
    default: published
  rollout:
    description:
      - How the release reaches the fleet. Either an object, or V(true) for one server at a time, or V(false) for all at
        once. The agents carry it out on their own, whatever happens to this task.
      - C(steps) is a list. Each step opens the release to more servers, selected by C(hosts) (how many have it in total
        by then, a number or a percentage such as C(10%)), C(percent), C(names), or C(labels) (as in the role's
        C(watcher_labels)). The last step is always the whole fleet.
      - After a step, C(soak) seconds pass, or with C(pause) the rollout waits until a person promotes it. With C(gate),
        O(gates) are checked before the next step opens. With C(unattended) next to C(steps), no step waits for them.
      - C(maxInFlight) servers may be in progress at once (a number, or a percentage of the servers that are live at the
        start; 1 by default). A server must be healthy for C(minHealthy) seconds (10) before another takes its place.
      - The rollout stops when more than C(maxFailures) (0) servers fail or disappear while in progress, or when no
        server makes progress within C(progressDeadline) (600 seconds). That has to be longer than a deployment and
        C(minHealthy) together.
      - With C(onFailure=halt), the servers then stay as they are. With C(onFailure=rollback), those that have the
        release roll back on their own. A commit whose rollout was stopped by failures is published again only with
        O(force).
      - C(from) is the commit that servers run in the meantime, by default the last one that is known to work. A tag, a
        branch or an abbreviated commit id is looked up in O(url). If no such commit is known, there are no steps.
      - If the release is already the desired one, its rollout keeps its plan, and a warning says so. With O(force), the
        release is published again with this plan.
      - Defaults to C(rollout) of the object in the znode C(<app>/policy). Without that, all servers switch at once.
    type: raw
    version_added: 0.1.0
  reason:
    description:
      - Why the rollout is promoted, paused or halted, shown to the servers and to other people. At most 500 characters.
    type: str
    version_added: 0.1.0
  to:
    description:
      - The release to roll back to with O(state=rolled_back), as the name of an entry of the history, or a commit's id,
        in full or at least its first 7 digits. For a commit, its last publication at the place (C(relativePath)) of the
        current release is taken, or if it never was there, at any other place.
      - Defaults to the last release of another commit that the whole fleet has proved at that place, as recorded by
        tasks that waited for it with O(wait). A release that somebody has rolled back from counts only if it was
        published and proved again. If no release is known to be proved, one has to be named.
      - To return to the same commit at an earlier address of its repository, name the entry.
      - A release that no agent ran, or during whose wait an agent was lost, is not known to be proved. A host that was
        missing before the publication does not count against it.
      - A release from another program, which writes C(config) and no history, is known only by its rollout. If it had
        none, the rollback returns to the release that was proved before it.
      - A rollback to a release that was never proved has no steps either, and failures do not stop it. The module warns
        about that. To roll such a release out by its plan, use O(state=published).
      - Without it, nothing is published if the current release is a rollback itself, and RV(msg) says so.
    type: str
  only_if:
    description:
      - Publish only if this is the desired release now, given as a commit's id, in full or at least its first 7 digits,
        or as a generation like RV(generation). Otherwise the module fails and reports the desired release, who
        published it and when.
      - V(none), or null as RV(zoo.deploy.zk_release_info#module:generation) then is, means to publish only if nothing
        is published yet. Leave the option out, or use C(omit), for no condition.
      - If nothing would be published, it is ignored.
    type: str
  acl:
    description:
      - The permissions of the znodes that the task creates, in the form of O(zoo.deploy.zk_znode#module:acl). Existing
        znodes keep their ACL.
      - It has no effect if M(zoo.deploy.zk_access) has recorded the application's roles, which then decide.
      - Without it, a connection with credentials creates an application that only these credentials may use. Znodes
        below it are open to those that their directory is open to, and to their creator. In a directory that is open,
        or whose ACL ZooKeeper does not show to the connection, new znodes are open, and a warning says so.
      - A connection without credentials creates znodes that are open to everybody, and a warning says so.
    type: list
    elements: dict
    suboptions:
      scheme:
        description: As O(zoo.deploy.zk_znode#module:acl[].scheme).
        type: str
        required: true
      id:
        description: As O(zoo.deploy.zk_znode#module:acl[].id).
        type: str
      password:
        description: As O(zoo.deploy.zk_znode#module:acl[].password).
        type: str
      perms:
        description: As O(zoo.deploy.zk_znode#module:acl[].perms).
        type: list
        elements: str
        choices: [read, write, create, delete, admin, all]
        required: true
  force:
    description:
      - Publish even if the release is already the desired one. It gets a new generation, in which agents that gave up
        on it, because it failed or was rolled back, try again; agents that run it prove it again.
      - Publish or promote even while somebody holds the lock. A warning and RV(overridden_lock) show whose lock it is;
        the lock stays.
      - A task with it changes something every time.
    type: bool
    default: false
  lock_timeout:
    description:
      - How many seconds to wait at most for a lock to be removed or to expire. By default, or when they are over, the
        task fails and reports who has locked the application, since when, until when and why; see
        M(zoo.deploy.zk_lock).
      - A lock keeps O(state=published) and O(state=promoted) from changing anything. O(state=rolled_back),
        O(state=paused) and O(state=halted) do not look at it.
      - They are not part of O(wait_timeout). In check mode there is no wait.
    type: float
    default: 0
    version_added: 0.2.0
  publisher:
    description:
      - The publisher's name in the history.
      - Defaults to the user and the host where the module runs.
    type: str
  sign_with:
    description:
      - The SSH private key, a file where the module runs, with which C(ssh-keygen) signs the record of the release. Or
        the public half of a key in an ssh-agent, whose socket is in C(SSH_AUTH_SOCK). There is no prompt for a
        passphrase.
      - Hosts with C(watcher_require_signature) deploy only signed records. The signature covers the application, the
        repository, the ref, the commit, the place, the rollout, O(serial) and the expiry that follows from
        O(sign_days).
      - A release that is already desired is published again if its record has no signature that counts.
      - Only with O(state=published) and with O(state=rolled_back), which signs the earlier release again.
      - The signed record contains only what is given here, or what comes from a record that is itself signed. So a
        rollback is possible only to releases with a signature that counts. If the published release has none, O(url),
        O(relative_path) and O(ref), or O(to), have to be given. C(rollout) of C(<app>/policy) is used, but must not
        have C(from).
    type: path
    version_added: 0.2.0
  signers:
    description:
      - The file of allowed signers, in the form of C(ssh-keygen), where the module runs. It is the one that hosts have
        as C(watcher_require_signature), or one that also has the keys of earlier publishers.
      - Signatures of these signers count. Without it, only signatures by O(sign_with) itself do; give it if more than
        one key publishes.
      - It also shows whether hosts will accept the record. A record that none of these signers has signed is not
        published.
    type: path
    version_added: 0.2.0
  sign_days:
    description:
      - For how many days hosts accept the record. A host that has accepted it keeps the release and reports in its
        status when the time is over. Without it, the record never expires.
      - Publish more often than that, so that nobody can keep new releases from the hosts unnoticed. A release that is
        already desired is published again once half of its days are over.
    type: float
    version_added: 0.2.0
  serial:
    description:
      - The number of the record, at most 10^15. Hosts accept only a number that is higher than their last one, by at
        most a million. A record that they would refuse is not published.
      - Defaults to one more than the highest number among the current record and those in the history that O(signers)
        or O(sign_with) have signed. It is required if there are signed records but none of them counts, as after a loss
        of the ensemble's data or of the file of signers. Hosts report which number they have accepted.
    type: int
    version_added: 0.2.0
  wait:
    description:
      - Whether to wait until the live agents have proved the release.
      - A rollout is waited for until it is done, halted or rolled back, without a limit if O(wait_timeout) is not
        given. If it pauses for a person, the task succeeds, RV(converged) is false and RV(msg) says what to do.
      - Live hosts that were not part of a rollout that is done, and that follow it in line, are then waited for, for
        300 seconds. After these, the task fails; the hosts follow anyway.
      - Without O(wait_timeout), the task fails if no agent has been live for the C(progressDeadline) of the rollout.
    type: bool
    default: true
  _published:
    description:
      - The release that is already published and only has to be waited for. Used by the controller to continue waiting;
        of no use in a task.
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
        description: The seconds of the wait that are left.
        type: float
        required: true
      stuck:
        description: For how many seconds no agent has been able to continue.
        type: float
        required: true
      moves:
        description: The moves of the rollout that were already shown.
        type: int
      outcomes:
        description: The agents' outcomes that were already shown.
        type: list
        elements: int
  _gated:
    description: Whether the steps wait for gates. Of no use in a task.
    type: bool
    default: false
  _attended:
    description: Whether the wait ends at each move of the rollout, including the first. Of no use in a task.
    type: bool
    default: false
  _asks:
    description: Only reports whether the rollout would be promoted, and its state. Of no use in a task.
    type: bool
    default: false
  _locked_out:
    description: Whether gates are not checked because of a lock that is being waited for. Of no use in a task.
    type: bool
    default: false
  _proving:
    description: Hosts that are proving the release again; no gate is checked until they have. Of no use in a task.
    type: list
    elements: str
    default: []
  _command:
    description: The result of the gates. Of no use in a task.
    type: dict
    suboptions:
      verb:
        description: The action on the rollout.
        type: str
        required: true
      by:
        description: Who wants it.
        type: str
        required: true
      reason:
        description: Why.
        type: str
        required: true
      moves:
        description: The moves of the rollout that it applies to.
        type: int
        required: true
  _told:
    description: The reasons that the controller has already shown; any other one ends a wait. Of no use in a task.
    type: list
    elements: str
seealso:
  - module: zoo.deploy.zk_lock
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

- name: Deploy a tag of the same repository to the same place; up to two servers may fail
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.2
    max_failures: 2

- name: Deploy to a large fleet; 95% must be live, and 1% may fail
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.2
    min_agents: 95%
    max_failures: 1%

- name: Deploy; at most two hosts of the roster may be missing
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.2
    max_missing: 2

- name: Roll back to the last release that the whole fleet has proved
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: rolled_back

- name: Deploy a tag, unless somebody has published another release in the meantime
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.4.3
    only_if: "{{ deployed.release.commitId }}"

- name: Retry a release on the servers that gave up on it, now that the disk is no longer full
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: "{{ deployed.release.commitId }}"
    only_if: "{{ deployed.generation }}"
    force: true

- name: Deploy to one server, a minute later to a tenth, then to all; roll back automatically on failure
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.5.0
    rollout:
      steps:
        - {hosts: 1, soak: 60}
        - {percent: 10}
      maxInFlight: 10%
      onFailure: rollback

- name: Deploy to one server; continue only if checkout works there and few requests fail, else halt
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.5.1
    rollout:
      steps:
        - {hosts: 1, soak: 120}
      maxInFlight: 25%
    gates:
      - name: checkout
        command: [/usr/local/bin/smoke-test, --only, checkout]
        environment:
          API_TOKEN: "{{ smoke_test_token }}"
        timeout: 60
      - name: failing requests
        url: http://prometheus:9090/api/v1/query?query=sum(rate(http_requests_total%7Bcode=~%225..%22%7D%5B2m%5D))
        json: {path: data.result.0.value.1, at_most: 0.5}
    notify: /usr/local/bin/tell-the-team

- name: Pause the rollout, so that no more servers start
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    state: paused
    reason: latency in zone a

- name: Deploy; if somebody holds a lock, wait up to ten minutes for it
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.5.1
    lock_timeout: 600

- name: Deploy to servers that accept only signed releases, with a key in the ssh-agent
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    app: /app/business
    ref: v1.5.2
    sign_with: ~/.ssh/publisher.pub
    signers: /etc/zoo/signers
    sign_days: 90

- name: Publish for servers that are not running yet
  zoo.deploy.zk_release:
    hosts: zk1:2181,zk2:2181,zk3:2181
    url: https://git.example.com/business.git
    relative_path: site
    wait: false
"""

RETURN = r"""
generation:
  description:
    - The publication's number, the C(mzxid) of C(<app>/config). Compare it for equality only.
    - Missing in check mode if something would be published.
  returned: success, and on failure after publishing
  type: int
  sample: 4294967341
commit_id:
  description: The full id of the commit that O(ref) resolves to.
  returned: success, and on failure after publishing
  type: str
  sample: 81d4066248f2c54237c352a2ece3bc070a5a91d9
release:
  description: The desired release, as in its znode.
  returned: success, and on failure after publishing
  type: dict
  sample:
    url: https://git.example.com/business.git
    commitId: 81d4066248f2c54237c352a2ece3bc070a5a91d9
    relativePath: site
    ref: main
before:
  description: The previously desired release, in the same form; null if there was none.
  returned: with O(state=published) and O(state=rolled_back), and on failure after publishing
  type: dict
agents:
  description:
    - The status of each live agent, by name, in the form of its znode.
    - An agent has proved the release if RV(agents[].state) is C(active) and RV(agents[].generation) equals
      RV(generation).
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
          C(failed), C(rolled_back), and in a rollout C(waiting) and C(halted).
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

failed_agents:
  description: The names of the agents that gave up on this release.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
pending_agents:
  description: The names of the agents that, as far as known, have neither proved it nor given up.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
lost_agents:
  description: The names of the agents that were live during the wait and no longer are.
  returned: when O(wait=true) and not in check mode
  type: list
  elements: str
overtaken_by:
  description:
    - The release that was published while the module waited, with C(commit_id) and C(generation).
    - Both are null if the release was deleted. Only C(commit_id) is null if the znode no longer holds a valid release.
  returned: when another release was published, or this one deleted, while the module waited
  type: dict
  sample: {commit_id: 2f06ef8b1d3c4a5b6c7d8e9f0a1b2c3d4e5f6071, generation: 4294967312}
report:
  description:
    - The state of the fleet for a person, as a list of lines. Control characters in what agents report are removed.
  returned: when O(wait=true) and not in check mode, and if there is a rollout
  type: list
  elements: str
rests:
  description: That the wait has ended because the rollout waits for a person. RV(msg) says for what.
  returned: if that is so, which is not a failure
  type: bool
missing_agents:
  description: The names of the hosts of the roster whose agents are not live, as far as known.
  returned: when O(wait=true), and in check mode with RV(steps)
  type: list
  elements: str
rollout:
  description: The state of the release's rollout.
  returned: if the release has a rollout, not in check mode
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
unknown_hosts:
  description: Hosts that a step of the rollout names but that are not in the fleet. The module warns about them.
  returned: if there are any, and something is published
  type: list
  elements: str
unknown_labels:
  description:
    - The labels, such as C(zone=a), that a step of the rollout selects hosts by and that no host in the roster has.
    - The module warns about them.
  returned: if there are any, and something is published
  type: list
  elements: str
without_steps:
  description:
    - Why the plan's steps do not count. Either no release is known to work that hosts could run while they wait, or a
      rollback returns to a release that was never proved.
    - The module warns about it.
  returned: if that is so, and something is published
  type: str
default_plan:
  description:
    - Why a rollback uses the defaults, one host at a time. The plan of the release that it rolls back from, or the
      policy, can't be followed.
    - The module warns about it.
  returned: if that is so, with O(state=rolled_back), and something is published
  type: str
steps:
  description:
    - The steps of the rollout in which live hosts would change, starting with the one that would be open. There is one
      step if all switch at once.
    - The forecast is for the hosts that are live now, if none of them fails.
  returned: in check mode, if something would be published or promoted
  type: list
  elements: dict
  contains:
    number:
      description: The step's number, counted from 1.
      type: int
      returned: always
    says:
      description: The step in words.
      type: str
      returned: always
    hosts:
      description:
        - The names of the hosts that would change in it, if known.
        - A step by number takes the hosts that come first, so their names are not known. A later step by names or
          labels lists all the hosts that it selects, some of which may already have changed.
      type: list
      elements: str
      returned: always
    count:
      description: How many hosts would change in it, at most.
      type: int
      returned: always
    fewest:
      description:
        - How many hosts would change in it, at least. Less than RV(steps[].count) if some may already have changed.
      type: int
      returned: always
  sample:
    - {number: 1, says: "1 host in all, then a pause for a person", hosts: [], count: 1, fewest: 1}
    - {number: 2, says: all hosts, hosts: [], count: 3, fewest: 3}
foreseen:
  description: The forecast line by line, that is, RV(steps) in words, and the hosts that would not change.
  returned: in check mode, if something would be changed
  type: list
  elements: str
  sample:
    - 4 hosts would change, 1 at a time
    - "step 1 of 2, 1 host in all, then a pause for a person: 1, whichever comes first"
    - "step 2 of 2, all hosts: 3, whichever come first"
    - "held, and stay as they are: web7"
unchanged_agents:
  description: The names of the live agents whose hosts already run the commit.
  returned: in check mode, if something would be published or promoted
  type: list
  elements: str
held_agents:
  description: The names of the live agents that are held by a person on their hosts and would stay as they are.
  returned: in check mode, if something would be published or promoted
  type: list
  elements: str
overridden_lock:
  description:
    - The lock that O(force) overrode, as in RV(zoo.deploy.zk_release_info#module:lock).
  returned: if somebody held it
  type: dict
lock:
  description: The lock that kept the task from doing anything, as in RV(zoo.deploy.zk_release_info#module:lock).
  returned: on failure, if somebody holds it
  type: dict
gates:
  description: The results of the gates that were checked, in their order.
  returned: if O(gates) is not empty, not in check mode
  type: list
  elements: dict
  contains:
    name:
      description: The gate's name.
      type: str
      returned: always
    outcome:
      description: C(passed), C(failed) or C(inconclusive).
      type: str
      returned: always
    says:
      description: The first line of its output, or why it is inconclusive.
      type: str
      returned: always
    step:
      description: The step that waited for the gate, counted from 1.
      type: int
      returned: always
msg:
  description: Why nothing was published, or what a rollout waits for.
  returned: >-
    if O(state=rolled_back) without O(to), and the current release is a rollback itself; if a rollout is paused; if
    O(state) leaves nothing to do
  type: str
converged:
  description:
    - Whether the fleet has proved the release, as far as O(min_agents), O(max_failures) and O(max_missing) require.
  returned: when O(wait=true) and not in check mode
  type: bool
timed_out:
  description: Whether the wait ended because some RV(pending_agents) had not finished within O(wait_timeout).
  returned: when O(wait=true) and not in check mode
  type: bool
elapsed:
  description: Seconds from the publication to the end of the wait.
  returned: when O(wait=true) and not in check mode
  type: float
  sample: 1.207
"""

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.zoo.deploy.plugins.module_utils.access_rule import kept_closed, warning
from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import (
    ARGSPEC,
    ZnodeModule,
    elapsed,
    user_and_host,
)
from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    ZooKeeperError,
    check_amounts,
    is_outage,
    unless_refused,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import (
    WAITING_OPTIONS,
    begun,
    is_unanswered,
    outage,
    read_agents,
)
from ansible_collections.zoo.deploy.plugins.module_utils.fleet_outcome import EarlierWait, absences
from ansible_collections.zoo.deploy.plugins.module_utils.foresight import foresee, foresee_command
from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import CommitError, resolve
from ansible_collections.zoo.deploy.plugins.module_utils.git_subject import subject_of
from ansible_collections.zoo.deploy.plugins.module_utils.lock import (
    LONGEST_SHOWN,
    Lock,
    Locked,
    guard_of,
    read_lock,
    right_now,
    unlocked,
    wait_until_free,
    when_unlocked,
)
from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    COMMIT_ID,
    DEFAULT_APP,
    ROLLED_BACK_FROM,
    AppPaths,
    InvalidRecord,
    Release,
    quote,
)
from ansible_collections.zoo.deploy.plugins.module_utils.release_signature import unsigned
from ansible_collections.zoo.deploy.plugins.module_utils.release_signing import (
    SIGNING_OPTIONS,
    check_signing,
    lacks_signature,
    sign,
    trust_of,
    why_refused,
    with_serial,
)
from ansible_collections.zoo.deploy.plugins.module_utils.release_trust import ReleaseTrust, without_from
from ansible_collections.zoo.deploy.plugins.module_utils.releases import (
    ROLLOUT,
    SUBJECT,
    Published,
    ReleaseProof,
    begin_anew,
    check_only_if,
    node_of,
    now,
    prove,
    publish,
    read_published,
    rollback_target,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_attending import (
    ATTENDING_OPTIONS,
    gated,
    why_ungated,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import Command
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_plan import (
    InvalidRollout,
    check_publishable,
    parsed_rollout,
    read_plan,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import GATES, RolloutPaths
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steering import (
    Proving,
    Steered,
    command,
    known_releases,
    still_prove,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_verbs import REFUSED
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import (
    Unknown,
    bad_commits,
    check_not_bad,
    describe_unknown,
    published_plan,
    read_policy,
    read_state,
    readable_result,
    rollout_result,
    unknown_hosts,
    why_without_steps,
    with_plan_back,
    with_policy,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import printable
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import ACL_SPEC, read_acl
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect

VERBS = {"promoted": "promote", "paused": "pause", "halted": "halt"}
"""The command to a rollout, by the state that it is to have."""
NOT_PUBLISHED = "nothing is published; wait for it (lock_timeout), or publish in spite of it (force)"
MOST_NAMED = 5
"""How many releases at most a message offers for a rollback."""
TAKEN_OVER = ("url", "relative_path", "ref")
"""The options that, if omitted, are as in the published release."""
LEAST_CONNECT_TIMEOUT = 1.0
"""Seconds that connecting may take in any case, even if the wait is almost over."""


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **ARGSPEC,
        "app": {"type": "str", "default": DEFAULT_APP},
        "url": {"type": "str"},
        "ref": {"type": "str"},
        "relative_path": {"type": "str"},
        "state": {"type": "str", "choices": ["published", "rolled_back", *VERBS], "default": "published"},
        "rollout": {"type": "raw"},
        "reason": {"type": "str"},
        "to": {"type": "str"},
        "only_if": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "lock_timeout": {"type": "float", "default": 0.0},
        "acl": {"type": "list", "elements": "dict", "options": ACL_SPEC},
        "publisher": {"type": "str"},
        **SIGNING_OPTIONS,
        "serial": {"type": "int"},
        "wait": {"type": "bool", "default": True},
        "_published": {
            "type": "dict",
            "options": {
                "generation": {"type": "int", "required": True},
                "agents": {"type": "list", "elements": "str", "required": True},
                "commit_id": {"type": "str", "required": True},
                "left": {"type": "float", "required": True},
                "stuck": {"type": "float", "required": True},
                "moves": {"type": "int"},
                "outcomes": {"type": "list", "elements": "int"},
            },
        },
        "_told": {"type": "list", "elements": "str"},
        **ATTENDING_OPTIONS,
        **WAITING_OPTIONS,
    }


def check_state(options: Mapping[str, Any]) -> None:
    """Raise `InvalidRecord` if an option has no meaning for the state."""
    state = options["state"]
    for option in ("ref", "url", "relative_path"):
        if state == "published" and options[option] == "":
            raise InvalidRecord(f"{option}: it is empty; leave it out to have it as published before")
    if options["to"] and state != "rolled_back":
        raise InvalidRecord("to: only with the state rolled_back")
    if options["ref"] and state == "rolled_back":
        raise InvalidRecord(
            "ref: not with the state rolled_back; name the commit, or the entry of the history, with to"
        )
    if options["ref"] and state != "published":
        raise InvalidRecord(f"ref: not with the state {state}; the commit that has to be the desired one is only_if")
    if options["rollout"] is not None and state != "published":
        raise InvalidRecord("rollout: only with the state published")
    if options["sign_with"] and state in VERBS:
        raise InvalidRecord(f"sign_with: not with the state {state}, which publishes nothing")


def wanted_release(
    client: Any, paths: AppPaths, options: dict[str, Any], published: Published, trust: ReleaseTrust | None
) -> tuple[Release, str | None]:
    """The release that the options ask for, and why a rollback does not keep to the plan that it should.

    A publisher that signs has a `trust`: nothing is taken over that does not count by it. Raises `InvalidRecord`,
    `CommitError`.
    """
    default_plan = None
    if options["state"] == "rolled_back":
        earlier = earlier_release(client, paths, options, published, trust)
        release, default_plan = with_plan_back(client, paths, earlier)
        if trust and ROLLOUT not in earlier.extra:
            release = without_from(release)
    else:
        rollout = options["rollout"]
        if options["_gated"]:
            found = read_policy(client, paths, None).get(ROLLOUT) if rollout is None else parsed_rollout(rollout)
            rollout = gated(found)
        if trust and published.release:
            check_taken_over(options, published.release, trust)
        resolved = with_rollout(resolved_release(options, published.release), rollout)
        release = with_policy(client, paths, resolved)
        if trust and options["rollout"] is None:
            trust.check_plan(release)
    publisher = options["publisher"] or user_and_host()
    return unsigned(replace(release, publisher=publisher, published_at=now())), default_plan


def earlier_release(
    client: Any, paths: AppPaths, options: dict[str, Any], published: Published, trust: ReleaseTrust | None
) -> Release:
    """The release to roll back to. Raises `InvalidRecord`."""
    current = published.release
    known, done = known_releases(client, paths)
    bad = bad_commits(client, paths)
    if trust is None:
        try:
            return rollback_target(known, current, options["to"], done, bad)
        except InvalidRecord as exc:
            raise InvalidRecord(f"{paths.history}: {exc}") from exc
    history, problem = trust.trusted_history(), trust.why_untrusted(current) if current else None
    if problem and not options["to"]:
        # Whether hosts have that one, and are to roll back from it or from the one before, a person has to decide.
        signed = list(dict.fromkeys(entry.release.commit_id for entry in history if entry.release))[:MOST_NAMED]
        raise InvalidRecord(
            f"to: give it; what is published now does not count for {trust.whom}: {problem}; "
            f"what is signed, the latest first: {' or '.join(signed) or 'nothing'}"
        )
    try:
        return rollback_target(history, None if problem else current, options["to"], done, bad)
    except InvalidRecord as exc:
        raise InvalidRecord(
            f"{exc}; only what is signed by {trust.whom} counts: any other release can be published by its commit, ref"
        ) from exc


def with_rollout(release: Release, rollout: Any) -> Release:
    """The release with the rollout of an option. Raises `InvalidRollout`, `CommitError`."""
    if rollout is None:
        return release
    content = parsed_rollout(rollout)
    read_plan(content)
    check_publishable(content)
    if isinstance(content, dict) and content.get("from") is not None:
        content = {**content, "from": commit_meanwhile(release.url, content["from"])}
    return replace(release, extra={**release.extra, ROLLOUT: content})


def with_subject(release: Release) -> Release:
    """The release with its commit's subject, if git gives it."""
    if SUBJECT in release.extra:
        return release
    subject = subject_of(release.url, release.commit_id)
    return replace(release, extra={**release.extra, SUBJECT: subject}) if subject else release


def commit_meanwhile(url: str, name: Any) -> str:
    """The commit that servers have meanwhile. A full commit id need no longer be in the repository.

    Raises `InvalidRollout`, `CommitError`.
    """
    if not isinstance(name, str):
        raise InvalidRollout(f"rollout.from: expected a commit, a tag or a branch, got {quote(name)}")
    if COMMIT_ID.fullmatch(name.lower()):
        return name.lower()
    try:
        return resolve(url, name)
    except CommitError as exc:
        raise CommitError(f"rollout.from: {str(exc).removeprefix('ref: ')}") from exc


def keeps_another_plan(client: Any, paths: AppPaths, published: Published, release: Release) -> bool:
    """Whether the desired release is being rolled out by another plan than the one in `release`."""
    if ROLLOUT not in release.extra or published.release is None or published.generation is None:
        return False
    desired, generation = published.release, published.generation

    def differs() -> bool:
        plan = read_plan(published_plan(client, paths, desired, generation))
        return plan != read_plan(release.extra[ROLLOUT])

    try:
        return unless_refused(differs, False)  # a publisher need not be able to read the policy
    except InvalidRecord:
        return True


def resolved_release(options: dict[str, Any], before: Release | None) -> Release:
    """The release of `ref` of `url`; options left out are as published before."""
    url = options["url"] or (before.url if before else None)
    relative_path = options["relative_path"] or (before.relative_path if before else None)
    if url is None or relative_path is None:
        option = "url" if url is None else "relative_path"
        config = AppPaths(options["app"]).config
        raise InvalidRecord(f"{option}: give it; nothing is published at {config} that it could be taken from")
    ref = options["ref"] or ref_before(before, url)
    return Release(url=url, commit_id=resolve(url, ref), relative_path=relative_path, ref=ref)


def check_taken_over(options: dict[str, Any], before: Release, trust: ReleaseTrust) -> None:
    """Refuse to take anything over from a record that does not count. Raises `InvalidRecord`."""
    left_out = ", ".join(name for name in TAKEN_OVER if not options[name])
    problem = left_out and trust.why_untrusted(before)
    if problem:
        raise InvalidRecord(f"{left_out}: give it; what is published now does not count for {trust.whom}: {problem}")


def ref_before(before: Release | None, url: str) -> str:
    """The ref that was published before: after a tag, nobody means the default branch."""
    if before is None:
        return "HEAD"
    if before.url != url:
        raise InvalidRecord(f"ref: give it; what is published now is of another repository, {before.url}")
    if not before.ref or not isinstance(before.ref, str):  # another publisher may have written anything
        raise InvalidRecord("ref: give it; the release that is published now has none that it could be taken from")
    return before.ref


def converge(client: Any, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Publish if something differs, wait if asked to; the module's result."""
    waits, paths = options["wait"] and not check, AppPaths(options["app"])
    # A rollback is from the release seen now: one that is published later may be the fix.
    seen = read_published(client, paths) if options["state"] == "rolled_back" else None

    def attempt() -> tuple[dict[str, Any], list[str], float]:
        return begin_anew(lambda: publish_wanted(client, options, check, seen))

    result, agents, begin = when_unlocked(client, paths, lock_seconds(options, check), attempt)
    return wait(client, options, result, agents, begin) if waits else result


def publish_wanted(
    client: Any, options: dict[str, Any], check: bool, seen: Published | None = None
) -> tuple[dict[str, Any], list[str], float]:
    """Publish if something differs; the result, the agents that were live before it, and the monotonic time then.

    If `seen` is given, only in place of that. Raises `Overtaken`: then everything has to be read again. Raises
    `Locked`, but not for a rollback: nobody should have to find the holder of a lock first to roll back at night.
    """
    paths = AppPaths(options["app"])
    published = read_published(client, paths)
    trust = trust_of(client, paths, options)
    release, default_plan = wanted_release(client, paths, options, published, trust)
    renews = options["force"] or lacks_signature(trust, options, published.release)
    same = release.same_as(published.release) and not renews
    release = with_subject(release) if not same and options["state"] == "published" else release
    signer = None if same else trust
    release = with_serial(paths, signer, options, release, published) if signer else release
    result = describe(published, published.release if same and published.release else release, changed=not same)
    if same and options["state"] == "rolled_back" and not options["to"]:
        since = release.extra[ROLLED_BACK_FROM]
        result["msg"] = f"{release.commit_id} is a rollback from {since} already; name another release with to"
    if same and keeps_another_plan(client, paths, published, release):
        known = f"{release.commit_id} is desired already, and its rollout keeps its plan"
        result["kept_plan"] = f"{known}; force publishes it anew, with this one"
    if not same:
        check_still(paths, published, seen)
        result.update(checked(client, paths, options, release, published))
        result.update({"default_plan": default_plan} if default_plan else {})
    lock = None
    if not same and options["state"] == "published":
        lock = unlocked(client, paths, NOT_PUBLISHED, force=options["force"])
        result.update(overridden(lock))
    if not same and check:
        result.update(foreseen(lambda: foresee(client, paths, release, published.release).to_result()))
        result["diff"]["prepared"] = "".join(f"{printable(line)}\n" for line in result["foreseen"])
    agents = sorted(read_agents(client, paths)) if options["wait"] and not check else []
    begin = time.monotonic()
    if signer and not check:
        release = sign(paths, signer, options["sign_with"], release)
        result["release"] = release.to_object()
    if not same and not check:
        # The application may have been closed by now: a lock, or a git server, may have been waited for.
        with kept_closed(client, paths, options, given_acl(options)):
            result["generation"] = publish(client, paths, release, published, guard_of(lock))
    return result, agents, begin


def check_still(paths: AppPaths, published: Published, seen: Published | None) -> None:
    """Raise `ZooKeeperError` if what was `seen` is no longer published."""
    if seen is not None and published.generation != seen.generation:
        raise ZooKeeperError(
            f"{paths.config}: another release was published meanwhile, and not rolled back from: {published}"
        )


def checked(
    client: Any, paths: AppPaths, options: dict[str, Any], release: Release, published: Published
) -> dict[str, Any]:
    """What the result has to warn of before the release is published; raises if it can't be published."""
    node_of(paths, release)
    check_only_if(paths, published, options["only_if"])
    if not options["force"]:
        check_not_bad(client, paths, release)
    refused = None if options["sign_with"] else why_refused(published.release)
    return {**shortcomings(client, paths, release, published.release), **({"unsigned": refused} if refused else {})}


def given_acl(options: dict[str, Any]) -> Any:
    """The ACL in the options, for znodes that are created. Raises `ZooKeeperError`."""
    return None if options["acl"] is None else read_acl(options["acl"], options, options["app"])


def shortcomings(client: Any, paths: AppPaths, release: Release, before: Release | None) -> dict[str, Any]:
    """The part of the result about hosts, labels and steps of the plan that have no effect."""
    unknown = unknown_hosts(client, paths, release)
    found = {
        "unknown_hosts": unknown.names,
        "unknown_labels": unknown.labels,
        "without_steps": why_without_steps(client, paths, release, before),
    }
    return {name: what for name, what in found.items() if what}


def foreseen(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The part of the result about the hosts that would change, as `look` finds them."""
    try:
        return look()
    except (InvalidRecord, ZooKeeperError) as exc:  # a publisher need not be able to read all that
        if isinstance(exc, ZooKeeperError) and is_outage(exc):
            raise
        return {"foreseen": [f"which hosts would change is not known: {exc}"]}


def steer(client: Any, options: dict[str, Any], check: bool) -> dict[str, Any]:
    """Promote, pause or halt the rollout of the published release; the module's result.

    Raises `ZooKeeperError` if there is no rollout, or if it refuses.
    """
    paths = AppPaths(options["app"])
    asks, wanted = options["_asks"], wish(options)
    promotes, first = options["state"] == "promoted", read_published(client, paths)
    if promotes and wanted.moves is None:
        wanted = wanted._replace(moves=moves_of_rollout(client, paths, first.generation))

    def attempt() -> Steered:
        published = read_published(client, paths)
        check_only_if(paths, published, options["only_if"])
        if promotes and published.generation != first.generation:
            raise ZooKeeperError(
                f"{paths.config}: another release was published meanwhile, and not promoted: {published}"
            )
        return command(client, paths, published, wanted, writes=not (check or asks))

    before, after, decision, lock = when_unlocked(client, paths, lock_seconds(options, check), attempt)
    rollout = before if asks else after
    begin = time.monotonic()
    changed = not decision.why
    if decision.why.startswith(REFUSED):
        raise ZooKeeperError(f"{paths.rollout(rollout.generation)}: {decision.why}", rollout=rollout.to_object())
    commit_id = str(rollout.state.release["commitId"])
    result = {"changed": changed, "generation": rollout.generation, "commit_id": commit_id}
    result.update(
        {"rollout": rollout.to_object(), **({"msg": decision.why} if decision.why else {}), **overridden(lock)}
    )
    if changed and options["_command"] and wanted.verb == VERBS["promoted"]:
        ungated = why_ungated(rollout.state)
        result.update({"ungated": ungated} if ungated else {})
    if check and changed:
        result.update(foreseen(lambda: foresee_command(client, paths, rollout)))
    if options["state"] == "promoted" and options["wait"] and not check and not asks:
        if decision.why:
            # `msg` is the wait's own message.
            result["not_promoted"] = f"nothing was promoted: {decision.why}"
        return wait(client, options, result, sorted(read_agents(client, paths)), begin)
    return result


def moves_of_rollout(client: Any, paths: AppPaths, generation: int | None) -> int | None:
    """The current moves of a rollout; None if it has not begun.

    A promotion is for the step after this one, even if others promote at the same time or while it waits for a lock.
    """
    rollout = None if generation is None else read_state(client, paths, generation)
    return rollout.state.moves if rollout else None


def check_reason(reason: str | None) -> None:
    """Raise `InvalidRecord` if a reason is too long to show: it is sent to every server."""
    if len(reason or "") > LONGEST_SHOWN:
        raise InvalidRecord(f"reason: expected at most {LONGEST_SHOWN} characters, got {len(reason or '')}")


def lock_seconds(options: dict[str, Any], check: bool) -> float:
    """How many seconds to wait for a lock."""
    return 0.0 if check or options["_published"] else float(options["lock_timeout"])


def overridden(lock: Lock | None) -> dict[str, Any]:
    """The part of the result about a held lock that was overridden."""
    now = right_now()
    return {"overridden_lock": lock.to_object(now)} if lock and lock.holds(now) else {}


def wish(options: dict[str, Any]) -> Command:
    """The command to the rollout: a person's, or what its gates have made of that."""
    person, given = options["publisher"] or user_and_host(), options["_command"]
    if given is None:
        return Command(VERBS[options["state"]], person, options["reason"] or "", force=options["force"])
    by, reason = (f"{given['by']} of {person}", given["reason"]) if given["by"] else (person, options["reason"] or "")
    return Command(given["verb"], by, reason, options["force"], given["moves"])


def wait(
    client: Any, options: dict[str, Any], result: dict[str, Any], agents: list[str], begin: float
) -> dict[str, Any]:
    """The result, with that of the fleet's proof; a `ZooKeeperError` has it in its details."""
    paths = AppPaths(options["app"])
    gate = RolloutPaths(paths.rollout(result["generation"])).gate
    proof = ReleaseProof(paths.config, result["generation"], result["commit_id"], gate=gate)
    # Somebody who attends a rollout is told of each move, including the first.
    given = options["_published"] or {"stuck": 0.0, "moves": -1 if options["_attended"] else None}
    earlier = EarlierWait(agents, options["_told"], given["stuck"], given.get("moves"), given.get("outcomes"))
    try:
        waited = prove(client, paths, proof, options, earlier)
        rollout = rollout_after(client, paths, options, result["generation"], converged=waited["converged"])
    except ZooKeeperError as exc:
        known = {"pending_agents": agents, "timed_out": is_outage(exc), "converged": False, **exc.details}
        exc.details = {**result, **known}
        if not is_unanswered(exc):
            exc.details.update(rollout_result(client, paths, result["generation"]))
            exc.details.update(overtaken(client, paths, result["generation"]))
        exc.details["elapsed"] = elapsed(begin)
        raise
    lock = lock_at_gates(client, paths, options, rollout)
    return {**result, **waited, **rollout, **lock, "elapsed": elapsed(begin)}


def rollout_after(
    client: Any, paths: AppPaths, options: dict[str, Any], generation: int, *, converged: bool
) -> dict[str, Any]:
    """The part of the result about the rollout, after a wait that has not failed.

    Raises the error of an outage if somebody attends a rollout that rests: they must know whether it waits for gates.
    """
    if converged or not options["_attended"]:
        return rollout_result(client, paths, generation)
    return unless_refused(lambda: readable_result(client, paths, generation), {})


def overtaken(client: Any, paths: AppPaths, generation: int) -> dict[str, Any]:
    """The part of the result about what has replaced a generation by now; empty if that is still desired."""
    try:
        published = read_published(client, paths)
    except ZooKeeperError:
        return {}
    if published.generation == generation:
        return {}
    commit_id = published.release.commit_id if published.release else None
    return {"overtaken_by": {"commit_id": commit_id, "generation": published.generation}}


def lock_at_gates(client: Any, paths: AppPaths, options: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """`_lock`, for whoever attends a rollout that waits for its gates while the lock is held."""
    if not options["_attended"] or options["force"] or result.get("rollout", {}).get("waits_for") != GATES:
        return {}
    try:
        lock, now = read_lock(client, paths), right_now()
    except ZooKeeperError:
        return {}  # it is read again before a gate is passed
    return {"_lock": lock.describe(now)} if lock.holds(now) else {}


def in_time(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a later turn waiting no longer for the connection than for the fleet."""
    published, seconds = options["_published"], options["connect_timeout"]
    limit = max(published["left"], LEAST_CONNECT_TIMEOUT) if published else seconds
    return {**options, "connect_timeout": min(seconds, limit)}


def wait_on(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Carry out the command of the gates, if any, then wait for what was published before; the result.

    A command that fails because of a lock taken meanwhile is dropped: the gates are asked again.
    """
    published, paths = options["_published"], AppPaths(options["app"])
    result = {name: published[name] for name in ("generation", "commit_id")}
    deadline = time.monotonic() + options["wait_timeout"]
    if options["_locked_out"]:
        wait_until_free(client, paths, deadline)
    if options["_proving"] and still_prove(client, paths, published["generation"], options["_proving"], deadline):
        result["_proving"] = options["_proving"]
    if options["_command"]:
        now_published = read_published(client, paths)
        if now_published.generation != published["generation"]:
            raise ZooKeeperError(
                f"{paths.config}: the gates were asked of a rollout that is over: {now_published}",
                **overtaken(client, paths, published["generation"]),
            )
        with contextlib.suppress(Locked):
            result.update(carry_out(client, paths, now_published, options))
    elif published["moves"] is not None and read_published(client, paths).generation is None:
        # Its agents have left the rollout, so it never ends.
        raise ZooKeeperError(
            f"{paths.config}: the release was deleted meanwhile, so its rollout does not go on",
            **overtaken(client, paths, published["generation"]),
        )
    return wait(client, options, result, published["agents"], time.monotonic())


def carry_out(client: Any, paths: AppPaths, published: Published, options: dict[str, Any]) -> dict[str, Any]:
    """Carry out the command of the gates; what to tell the attendant. Raises `Locked`, `ZooKeeperError`."""
    try:
        done = command(client, paths, published, wish(options))
    except Proving as exc:
        why = str(exc).partition(": ")[2].partition(";")[0]
        return {"_note": f"{why} meanwhile; the gates are asked again after that", "_proving": exc.hosts}
    # Another controller may have asked its gates too, or a person was faster.
    late = done.decision.why.removeprefix(REFUSED)
    return {"_note": f"that comes too late: {late}"} if late else {"_obeyed": True}


def describe(published: Published, release: Release, *, changed: bool) -> dict[str, Any]:
    """The part of the result that is known before anything is written."""
    before = published.release.to_object() if published.release else None
    result: dict[str, Any] = {
        "changed": changed,
        "commit_id": release.commit_id,
        "release": release.to_object(),
        "before": before,
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
    began = time.monotonic()
    said = None
    try:
        check_amounts(options, "lock_timeout")
        check_reason(options["reason"])
        check_state(options)
        check_signing(options)
        acl, app = given_acl(options), AppPaths(options["app"])
        patience = outage(options, waits=options["wait"])
        with connect(options, patience) as client, kept_closed(client, app, options, acl) as rule:
            said = None if options["state"] in VERBS else warning(rule)
            waits_on = options["_published"] and not module.check_mode
            if waits_on:  # connecting to the ensemble is part of this wait
                result = wait_on(client, begun(options, time.monotonic() - began))
            else:
                does = steer if options["state"] in VERBS else converge
                result = does(client, options, module.check_mode)
    except ZooKeeperError as exc:
        warn(module, exc.details)
        if said and rule.is_new:
            module.warn(said)  # it may be why no agent has registered
        module.fail(exc, **({"timed_out": is_outage(exc)} if options["_published"] else {}))
    except (InvalidRecord, CommitError) as exc:
        module.fail(exc)
    warn(module, result)
    for absence in absences(result):
        module.warn(absence)
    if said:
        module.warn(said)
    module.exit_json(**result)


def warn(module: ZnodeModule, result: dict[str, Any]) -> None:
    """Warn of an overridden lock, of hosts that the rollout leaves out, and of what has had no effect."""
    if "overridden_lock" in result:
        module.warn(f"{AppPaths(module.params['app']).lock}: {result['overridden_lock']['says']}; overridden by force")
    unknown = describe_unknown(Unknown(result.get("unknown_hosts", []), result.get("unknown_labels", [])))
    if unknown:
        module.warn(unknown)
    for what in ("without_steps", "default_plan"):
        if what in result:
            module.warn(result[what])
    for what in ("kept_plan", "not_promoted", "ungated", "unsigned"):
        if what in result:
            module.warn(result.pop(what))


if __name__ == "__main__":
    main()
