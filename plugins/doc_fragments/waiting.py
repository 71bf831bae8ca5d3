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
      - They begin with the publication, whatever time was needed before it, and an outage of the ensemble counts too.
      - What is published stays published.
    type: float
    default: 300
  min_agents:
    description:
      - How many agents must be live and have an outcome; fewer are waited for within O(wait_timeout).
      - A percentage such as V(80%) is of the fleet, all agents that are to prove it or were live at some time of the
        wait. It is rounded up, and above V(0%) it is one agent at least.
    type: str
    default: '1'
  max_failures:
    description:
      - How many agents may fail before the module does; it fails as soon as there are more.
      - A percentage is of the same fleet as that of O(min_agents), and is rounded down.
    type: str
    default: '0'
"""
