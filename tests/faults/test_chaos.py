"""Five hosts for two minutes in a storm of troubles: every live tree is complete, and all converge afterwards.

ZOO_CHAOS_SEED repeats the troubles of a run in their order, ZOO_CHAOS_SECONDS sets the duration.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from faults.support.host import Host, patiently
from faults.support.ledger import HOSTS, REGISTRATIONS, Ledger
from faults.support.proxy import Proxy
from faults.support.storm import Fleet, Storm
from faults.support.ways import Ways
from support.client import connected
from support.ensemble import Ensemble
from support.git_server import git_daemon
from support.lonely import RETRY
from support.repository import GitRepository

NAMES = [f"server{number}" for number in range(1, 6)]
SECONDS = float(os.environ.get("ZOO_CHAOS_SECONDS", "120"))
PAUSE = 0.5
"""Seconds from one trouble to the next."""


@pytest.mark.storm
def test_a_fleet_in_a_storm_serves_complete_releases_and_converges_when_it_is_over(
    tmp_path: Path, host: Callable[..., Host], repository: GitRepository, ledger: Ledger
) -> None:
    seed = int(os.environ.get("ZOO_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"ZOO_CHAOS_SEED={seed}")
    with ExitStack() as stack:
        servers = stack.enter_context(Ensemble(tmp_path / "zk"))
        fleet = make_fleet(host, servers, repository, stack)
        generation = fleet.publish(fleet.commit())
        for one in fleet.hosts:
            one.settle(repository.head, generation)
        storm = Storm(fleet, ledger, seed)
        stack.callback(storm.calm)
        over = time.monotonic() + SECONDS
        while time.monotonic() < over:
            storm.step()
            storm.look()
            time.sleep(PAUSE)
        storm.calm()
        check_calm(fleet, ledger, fleet.publish(fleet.commit()))


def make_fleet(host: Callable[..., Host], servers: Ensemble, origin: GitRepository, stack: ExitStack) -> Fleet:
    """Five hosts, each with its own proxies to the ensemble, and one proxy to the git server for all."""
    daemon = stack.enter_context(git_daemon(origin))
    git = stack.enter_context(closing(Proxy(int(daemon.split(":")[2].split("/")[0]))))
    ways = {name: Ways(servers, stack) for name in NAMES}
    config = {
        "allowed_schemes": ["git"],
        "fetch_timeout": 3,
        "hooks": {"after_activate": ["sh", "-c", 'test ! -e "$ZOO_RELEASE/bad"']},
    }
    hosts = [host(name, hosts=ways[name].hosts, **config) for name in NAMES]
    zk = stack.enter_context(connected(servers.hosts, timeout=10, connection_retry=RETRY))
    for one in hosts:
        one.zk = one.agent.zk = zk
        one.start()
    return Fleet(hosts, ways, servers, git, f"git://127.0.0.1:{git.port}/{origin.path.name}")


def check_calm(fleet: Fleet, ledger: Ledger, generation: int) -> None:
    """Check that all hosts converge, that only they are registered, and that no log has a traceback."""
    for one in fleet.hosts:
        one.settle(fleet.origin.head, generation)
    app, zk = fleet.hosts[0].agent.app, fleet.hosts[0].zk
    for parent in ("agents", "service"):
        found = sorted(patiently(partial(zk.get_children, f"{app}/{parent}")))
        ledger.judge(REGISTRATIONS, "" if found == NAMES else f"{parent}: {found}")
    for one in fleet.hosts:
        ledger.judge(HOSTS, f"{one.agent.name}:\n{one.agent.log}" if "Traceback" in one.agent.log else "")
