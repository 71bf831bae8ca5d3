"""What the loop leaves for the next scrape, and what a scrape reads by itself."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest

from support.ports import free_ports
from zoo_watcher.config.config import Config
from zoo_watcher.desired import Desired
from zoo_watcher.metrics.server import Metrics
from zoo_watcher.services.health import Checker
from zoo_watcher.wire.records import AgentStatus, Release
from zoo_watcher.zookeeper.session_states import SYNC_CONNECTED, SessionStates

COMMIT = "a" * 40
DESIRED = Desired(7, 1, Release("https://git.example/site.git", COMMIT, "site"))


class Parts:
    """The parts of an agent with one service that the metrics look at."""

    def __init__(self, base: Path) -> None:
        services = [{"path": "/service", "id": "web1", "port": 8080}]
        self.config = Config.from_object({"hosts": "zk1", "base": str(base), "name": "web1", "services": services})
        self.session = SimpleNamespace(states=SessionStates(), timeout=10.0, client_id=None)
        self.desired = SimpleNamespace(current=None, is_read=False)
        self.checker = Checker(self.config.services[0].check, lambda: None)
        registrations = SimpleNamespace(refused=frozenset())
        health = SimpleNamespace(checkers=[self.checker])
        parts: Any = (self.config, self.session, self.desired, health, registrations, lambda: 0)
        self.metrics = Metrics(*parts)

    def told(self, name: str, **labels: str) -> float:
        """The value of a sample."""
        return next(
            sample.value
            for family in self.metrics.collect()
            for sample in family.samples
            if sample.name == f"zoo_watcher_{name}" and sample.labels.items() >= labels.items()
        )

    def show(self, **status: Any) -> None:
        """Show a status, as the loop does after each turn."""
        self.metrics.show(AgentStatus(name="web1").with_changes(**status), [])


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """The parts of an agent that has just been started."""
    return Parts(tmp_path)


def test_a_host_is_converged_when_it_has_proved_what_is_desired(parts: Parts) -> None:
    parts.show()
    assert parts.told("converged") == 0, "nothing has been read"
    parts.desired.is_read = True
    parts.show()
    assert parts.told("converged") == 1, "nothing is desired"
    parts.desired.current = DESIRED
    parts.show(state="active", generation=6)
    assert parts.told("converged") == 0, "another generation is proved"
    parts.show(state="checking", generation=7)
    assert parts.told("converged") == 0
    parts.show(state="active", generation=7)
    assert parts.told("converged") == 1
    assert parts.told("release_info", desired_commit=COMMIT) == 1


def test_a_published_release_that_cannot_be_read_is_not_proved(parts: Parts) -> None:
    parts.desired.current = Desired(8, 1, problem="the published release is not valid")
    parts.show(state="failed", generation=8)
    assert parts.told("converged") == 0
    assert parts.told("release_info", desired_commit="") == 1


def test_the_start_of_a_session_changes_only_with_the_session(parts: Parts) -> None:
    parts.show()
    assert parts.told("session_start_timestamp_seconds") == 0
    parts.session.client_id = (1, b"secret")
    parts.show()
    first = parts.told("session_start_timestamp_seconds")
    assert first > 0
    parts.session.client_id = None
    parts.show()
    parts.session.client_id = (1, b"secret")
    parts.show()
    assert parts.told("session_start_timestamp_seconds") == first, "it has lasted"
    parts.session.client_id = (2, b"secret")
    parts.show()
    assert parts.told("session_start_timestamp_seconds") > first


def test_verdict_and_session_are_up_to_date_while_the_loop_rests(parts: Parts) -> None:
    parts.show()
    assert (parts.told("check_healthy"), parts.told("check_verdict_timestamp_seconds")) == (0, 0)
    begin = time.time()
    parts.checker._note(None, parts.checker._epoch)
    parts.session.states.enter(SYNC_CONNECTED)
    assert parts.told("check_healthy", service="/service/web1") == 1
    assert parts.told("check_verdict_timestamp_seconds") >= begin
    assert parts.told("session_state", state=SYNC_CONNECTED) == 1
    assert parts.told("last_contact_timestamp_seconds") >= begin


def test_outcomes_failures_and_retries_are_counted(parts: Parts) -> None:
    for state, before, retry in [
        ("fetching", "queued", None),
        ("fetching", "fetching", "commit"),
        ("fetching", "fetching", "commit"),
        ("active", "checking", None),
        ("rolled_back", "checking", None),
    ]:
        parts.metrics.count(state, before, retry)
    assert parts.told("deployment_retries_total", reason="commit") == 2
    assert parts.told("deployments_total", outcome="active") == 1
    assert parts.told("deployments_total", outcome="rolled_back") == 1
    assert parts.told("deployment_failures_total", step="checking") == 1


@pytest.mark.parametrize("name", ["disk-use", "metrics"])
def test_metrics_that_no_thread_can_serve_now_are_served_later(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (port,) = free_ports(1)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="can't start new thread"):
            parts.metrics.serve(port, "127.0.0.1")
    parts.metrics.serve(port, "127.0.0.1")
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"zoo_watcher_state" in answer.read()
