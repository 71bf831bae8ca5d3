# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The git hook of zoo.deploy: publishes in ZooKeeper what was pushed to a branch.

It shares the collection's files about ZooKeeper, so that what it publishes is what `zk_release` publishes. Of Ansible
they take three names, for the modules' sake; a git server has no Ansible, so others are put in their place here.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def _missing(library: str, reason: str = "", **_unused: Any) -> str:
    return f"{sys.executable} lacks the library {library} {reason}".rstrip() + "; apply the role again"


def _stand_in() -> ModuleType:
    names = ModuleType("ansible.module_utils.basic")
    names.__dict__.update(AnsibleModule=object, env_fallback=None, missing_required_lib=_missing)
    return names


for _name in ("ansible", "ansible.module_utils"):
    sys.modules.setdefault(_name, ModuleType(_name))
sys.modules.setdefault("ansible.module_utils.basic", _stand_in())
