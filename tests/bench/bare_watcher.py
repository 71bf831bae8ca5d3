"""The least that watches a znode with kazoo: `python bare_watcher.py HOSTS PATH`, the yardstick of P11.

It prints the znode's `mzxid`, or None if it does not exist, at the start and after each change.
"""

from __future__ import annotations

import sys
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

hosts, path = sys.argv[1:]
changed = threading.Event()
client = KazooClient(hosts=hosts)
client.start()
while True:
    try:
        _data, stat = client.get(path, watch=lambda _event: changed.set())
    except NoNodeError:
        stat = client.exists(path, watch=lambda _event: changed.set())
    print(stat and stat.mzxid, flush=True)
    changed.wait()
    changed.clear()
