# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of waiting for a fleet, documented once for all modules that do."""

from __future__ import annotations


class ModuleDocFragment:
    """`zoo.deploy.waiting`."""

    DOCUMENTATION = r"""
options:
  wait_timeout:
    description:
      - Seconds to wait at the most; the module fails after them and says who is not there yet. V(0) is one look.
      - They begin with the publication, whatever time was needed before it. Where the task publishes nothing, they
        begin with the task, so that the connection is a part of them. An outage of the ensemble counts too.
      - What is published stays published.
    type: float
    default: 300
  retry_timeout:
    description:
      - Seconds for which agents are hoped for once none of those that are waited for can go on, though each tries again
        by itself, as while a git server is down. After them the module fails, and says what they wait for.
      - It does so at once where all that they wait for is somebody, as with a repository that they may not read, or a
        first release that is not healthy within C(health_timeout).
      - An agent that is held is waited for until O(wait_timeout), and so are all while a rollout goes on by itself,
        which has deadlines of its own.
    type: float
    default: 60
  min_agents:
    description:
      - How many agents must be live and have an outcome; fewer are waited for within O(wait_timeout).
      - A percentage such as V(80%) is of all agents that are to prove it or were live at some time of the wait. It is
        rounded up, and above V(0%) it is one agent at least.
    type: str
    default: '1'
  max_failures:
    description:
      - How many agents may fail before the module does; it fails as soon as there are more.
      - A percentage is of the same agents as that of O(min_agents), and is rounded down.
    type: str
    default: '0'
  max_missing:
    description:
      - How many hosts of the roster may be missing, that is, have no live agent. While there are more, they are waited
        for within O(wait_timeout).
      - A percentage is of the whole fleet, that is the agents of O(min_agents) and all hosts of the roster, and is
        rounded down.
      - By default any number may be missing. They are named all the same, in the result, in a warning, and in the
        message of a failure. M(zoo.deploy.zk_fleet) takes a host that will not come back out of the roster.
    type: str
    default: '100%'
"""
