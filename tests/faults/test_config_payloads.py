"""Whatever is written to the config znode, the agent survives, writes nothing outside its base, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from kazoo.client import KazooClient

from faults.support import trees, wild
from faults.support.host import Host
from faults.support.ledger import ESCAPES, HOSTS, Ledger

Hosts = Callable[..., Host]
PAYLOADS = 2_000


class Reader:
    """Follows the agent's status, so that each payload is known to have been read before the next is written."""

    def __init__(self, zk: KazooClient, path: str) -> None:
        self.zk = zk
        self.path = path
        self.changed = threading.Event()

    def wait(self, generation: int) -> bool:
        """Wait until the status is about a generation, and return whether that happened."""
        wanted = b'"generation": %d' % generation
        while wanted not in self.zk.get(self.path, watch=self._on_event)[0]:
            if not self.changed.wait(10):
                return False
            self.changed.clear()
        return True

    def _on_event(self, _event: Any) -> None:
        self.changed.set()


def outside(root: Path, base: Path) -> trees.Contents:
    """The contents of the directory around a base, except the base and the agent's log."""
    inside = (bytes(base.relative_to(root)) + b"/", b"server1/agent.log")
    return {path: facts for path, facts in trees.directory_contents(root).items() if not path.startswith(inside)}


# kazoo's threads use `random` while Hypothesis draws.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:FutureWarning")
def test_two_thousand_payloads_crash_no_agent_and_write_nothing_outside_the_base(
    host: Hosts, zk: KazooClient, ledger: Ledger, tmp_path: Path, app: str
) -> None:
    one = host(health_timeout=0.5).start()
    registration = one.settle()
    assert one.agent.process is not None
    process = one.agent.process
    good = {"url": one.origin.url, "commitId": one.origin.head, "relativePath": "site"}
    reader = Reader(zk, f"{app}/agents/{one.agent.name}")
    before = outside(tmp_path, one.agent.base)

    @settings(
        max_examples=PAYLOADS,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(wild.payloads(good))
    def write(payload: bytes) -> None:
        ledger.inject("a payload in the config znode")
        read = reader.wait(one.publish_bytes(payload)) and process.poll() is None
        ledger.judge(HOSTS, "" if read else f"not read: {payload[:500]!r}; log:\n{one.agent.log[-4000:]}")

    count = ledger.faults["a payload in the config znode"]
    write()
    assert ledger.faults["a payload in the config znode"] - count >= PAYLOADS
    now = outside(tmp_path, one.agent.base)
    differs = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
    ledger.judge(ESCAPES, f"outside the base: {differs}" if differs else "")
    one.check_live(one.origin.head)
    one.origin.commit({"index.html": "good at the end\n"})
    one.settle()
    one.check_same(registration)
    assert "Traceback" not in one.agent.log
