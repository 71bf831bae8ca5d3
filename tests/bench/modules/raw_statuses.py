"""The least that reads the statuses of a fleet for Ansible: a module with a bare socket, the yardstick of P18.

It returns `release`, the roster's `names` and the `statuses` of the live agents.
"""

from __future__ import annotations

import contextlib
import json
import sys

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "str", "required": True} for name in ("port", "app", "tests")})
sys.path.insert(0, module.params["tests"])
from bench.raw_client import RawClient

app = module.params["app"]
with contextlib.closing(RawClient("127.0.0.1", int(module.params["port"]))) as client:
    ((release, _stat),) = client.read([f"{app}/config"])
    statuses = client.read([f"{app}/agents/{name}" for name in client.children(f"{app}/agents")])
    names = client.children(f"{app}/roster")
module.exit_json(release=json.loads(release), names=names, statuses=[json.loads(status) for status, _stat in statuses])
