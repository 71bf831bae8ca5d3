# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options for waiting for a fleet, documented once for all modules that have them."""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.waiting`."""

    DOCUMENTATION = r"""
options:
  wait_timeout:
    description:
      - How many seconds to wait at most. After that, the module fails and reports the agents that are not done. V(0)
        means to look only once.
      - They count from the publication, however long the steps before it took. If the task publishes nothing, they
        count from the start of the task and include the connection. An outage of the ensemble counts too.
      - A published release stays published.
    type: float
    default: 300
  retry_timeout:
    description:
      - How many seconds to keep waiting once none of the awaited agents can continue, although each retries on its own,
        for example while a git server is down. After that, the module fails and reports what they wait for.
      - The module fails immediately if all of them need a person, for example because of a repository that they may not
        read, or a first release that is not healthy within C(health_timeout).
      - Agents that are held are waited for until O(wait_timeout). So are all agents while a rollout continues on its
        own, which has its own deadlines.
    type: float
    default: 60
  min_agents:
    description:
      - How many agents must be live and have an outcome. If there are fewer, the module waits for more within
        O(wait_timeout).
      - A percentage such as V(80%) is of all agents that should prove it or were live at any time during the wait. It
        is rounded up, and above V(0%) it is at least one agent.
    type: str
    default: '1'
  max_failures:
    description:
      - How many agents may fail; the module fails as soon as there are more.
      - A percentage is of the same agents as in O(min_agents), and is rounded down.
    type: str
    default: '0'
  max_missing:
    description:
      - How many hosts of the roster may be missing, that is, have no live agent. While there are more, the module waits
        for them within O(wait_timeout).
      - A percentage is of the whole fleet, that is, the agents of O(min_agents) and all hosts of the roster, and is
        rounded down.
      - By default, any number may be missing. They are still named in the result, in a warning, and in the message of a
        failure. M(zoo.deploy.zk_fleet) removes a host that will not come back from the roster.
    type: str
    default: '100%'
"""
