"""Fixtures of the fault suite, and the summary that the run itself writes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from faults.support import reliability
from faults.support.host import Host
from faults.support.ledger import Ledger
from support.agent import Agent
from support.ensemble import Ensemble
from support.lonely import RETRY
from support.repository import GitRepository
from support.service import Service

LEDGER = Ledger()
HERE = Path(__file__).parent
BEGUN = time.monotonic()
LEFT_OUT: list[Any] = []


@pytest.fixture(scope="session")
def ledger(ensemble: Ensemble) -> Ledger:
    """The ledger of this run, which counts faults and checks."""
    LEDGER.zookeeper = ensemble.members[0].ask("srvr").split(":")[1].split("-")[0].strip()
    return LEDGER


@pytest.fixture
def zk_options() -> dict[str, Any]:
    """Makes clients reconnect soon after the ensemble is back: kazoo's own pauses grow without limit."""
    return {"timeout": 10, "connection_retry": RETRY}


@pytest.fixture
def host(
    tmp_path: Path, ensemble: Ensemble, zk: KazooClient, app: str, repository: GitRepository, ledger: Ledger
) -> Iterator[Callable[..., Host]]:
    """Makes hosts with further keys of the agent's configuration, `hosts` among them."""
    made: list[Host] = []

    def make(name: str = "server1", **config: Any) -> Host:
        service = Service().open()
        check = {"interval": 0.05, "fall": 1}
        services = [{"path": f"{app}/service", "port": service.port, "address": "192.0.2.7", "check": check}]
        hosts = config.pop("hosts", ensemble.hosts)
        agent = Agent(tmp_path / name, hosts, app, zk, name, {"services": services, **config})
        made.append(Host(agent, service, repository, zk, ledger))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def pytest_deselected(items: list[Any]) -> None:
    """Record that this is not the entire suite."""
    LEFT_OUT.extend(items)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    """Print the counts, and write them to the page if that was requested and the entire suite has passed."""
    if not LEDGER.faults:
        return
    terminalreporter.section("faults")
    terminalreporter.line(LEDGER.summary)
    if os.environ.get("ZOO_WRITE_RELIABILITY") != "1":
        return
    passed = terminalreporter.stats.get("passed", [])
    ran = {Path(report.fspath).name for report in passed if "tests/faults/" in report.nodeid}
    whole = ran == {path.name for path in HERE.glob("test_*.py")} and not LEFT_OUT
    if exitstatus != 0 or not whole or terminalreporter.stats.get("skipped"):
        terminalreporter.line("docs/reliability.md is left as it is: the whole suite has to run and pass")
        return
    reliability.write(LEDGER, len(passed), time.monotonic() - BEGUN)
    terminalreporter.line("written to docs/reliability.md")
