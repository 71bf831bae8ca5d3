"""The least that sets znodes in a task: a module with kazoo, the yardstick of P5.

It compares each value with the present one, and writes those that differ in one transaction. A missing znode is an
error.
"""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from kazoo.client import KazooClient

ZNODE = {"path": {"type": "str", "required": True}, "value": {"type": "str", "required": True}}

module = AnsibleModule(
    {
        "hosts": {"type": "str", "required": True},
        "znodes": {"type": "list", "elements": "dict", "options": ZNODE, "required": True},
    }
)
client = KazooClient(hosts=module.params["hosts"])
client.start()
try:
    wanted = {znode["path"]: znode["value"].encode() for znode in module.params["znodes"]}
    reads = {path: client.get_async(path) for path in wanted}
    changed = [path for path, read in reads.items() if read.get()[0] != wanted[path]]
    transaction = client.transaction()
    for path in changed:
        transaction.set_data(path, wanted[path])
    failed = [answer for answer in transaction.commit() if isinstance(answer, Exception)] if changed else []
finally:
    client.stop()
    client.close()
if failed:
    module.fail_json(msg=repr(failed[0]))
module.exit_json(changed=bool(changed))
