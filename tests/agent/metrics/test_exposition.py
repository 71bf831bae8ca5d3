"""What an agent exposes to Prometheus: exactly the documented metrics, with their current values."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import SOURCE, Agent
from support.monitoring import documented
from support.ports import free_ports
from support.repository import GitRepository
from support.service import Service
from support.sight import exposition, scraped
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]


@pytest.fixture
def port() -> int:
    """The port at which the agent serves metrics."""
    (free,) = free_ports(1)
    return free


def wait_sample(port: int, name: str, value: float = 1) -> dict[str, float]:
    """Wait until a sample has this value, and return all samples."""
    try:
        return wait_for(lambda: next(filter(lambda told: told.get(name) == value, [scraped(port)]), None), name)
    except AssertionError as exc:
        raise AssertionError(f"{exc}\n{exposition(port)}") from exc


def test_exactly_the_documented_metrics_are_served_and_promtool_accepts_them(
    agents: Agents,
    zk: KazooClient,
    app: str,
    release: Publish,
    repository: GitRepository,
    service: Service,
    registered: dict[str, Any],
    tmp_path: Path,
    port: int,
) -> None:
    zk.create(f"{app}/motd", b"hello", makepath=True)
    file = {"znode": f"{app}/motd", "dest": str(tmp_path / "motd"), "on_change": ["true"]}
    agent = agents(metrics_port=port, files=[file], **registered).start()
    service.open()
    generation = release()
    agent.wait_outcome(generation)
    wait_sample(port, f'zoo_watcher_registered{{service="{app}/service/server1"}}')
    wait_sample(port, f'zoo_watcher_file_current{{dest="{tmp_path}/motd"}}')
    wait_for(lambda: scraped(port).get("zoo_watcher_disk_use_timestamp_seconds"), "the disk use is measured")
    told = wait_sample(port, "zoo_watcher_converged")
    labels: dict[str, set[str]] = {}
    for sample in told:
        name, _brace, text = sample.partition("{")
        labels.setdefault(name, set()).update(re.findall(r'(\w+)="', text))
    assert labels == {name: set(names) for name, (_kind, names) in documented().items()}
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", exposition(port), re.MULTILINE))
    assert kinds == {name: kind for name, (kind, _labels) in documented().items()}
    assert told["zoo_watcher_desired_generation"] == told["zoo_watcher_generation"] == generation
    commits = f'desired_commit="{repository.head}",live_commit="{repository.head}",previous_commit=""'
    assert told[f"zoo_watcher_release_info{{{commits}}}"] == 1
    assert told["zoo_watcher_releases_bytes"] > 0
    command = ["promtool", "check", "metrics"]
    lint = subprocess.run(command, input=exposition(port), capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


def test_metrics_follow_a_deployment_from_its_retries_to_its_end_and_count_a_failure_by_its_step(
    agents: Agents, repository: GitRepository, release: Publish, port: int
) -> None:
    agents(metrics_port=port, hooks={"before_activate": ["/bin/sh", "-c", "test ! -e bad"]}).start().wait_live()
    release("0" * 40)
    told = wait_sample(port, 'zoo_watcher_deployment_retries_total{reason="commit"}')
    assert told["zoo_watcher_converged"] == 0
    generation = release()
    told = wait_sample(port, 'zoo_watcher_state{state="active"}')
    assert (told["zoo_watcher_converged"], told["zoo_watcher_generation"]) == (1, generation)
    assert told['zoo_watcher_state{state="failed"}'] == 0
    assert told['zoo_watcher_deployments_total{outcome="active"}'] == 1
    assert told['zoo_watcher_deploy_seconds{step="fetching"}'] > 0
    repository.commit({"bad": "\n"})
    release()
    told = wait_sample(port, 'zoo_watcher_state{state="failed"}')
    assert (told["zoo_watcher_converged"], told['zoo_watcher_deployments_total{outcome="failed"}']) == (0, 1)
    failed = [name for name, value in told.items() if name.startswith("zoo_watcher_deployment_failures_") and value]
    assert failed == ['zoo_watcher_deployment_failures_total{step="staging"}']


def test_a_refused_registration_is_in_the_metrics_as_long_as_it_is_refused(
    agents: Agents,
    zk: KazooClient,
    app: str,
    release: Publish,
    service: Service,
    registered: dict[str, Any],
    port: int,
) -> None:
    path = f"{app}/service/server1"
    zk.create(path, b"somebody else's", makepath=True)
    service.open()
    release()
    agents(metrics_port=port, **registered).start().wait_live()
    told = wait_sample(port, f'zoo_watcher_registration_refused{{service="{path}"}}')
    assert told[f'zoo_watcher_check_healthy{{service="{path}"}}'] == 1
    assert told[f'zoo_watcher_registered{{service="{path}"}}'] == 0
    wait_sample(port, "zoo_watcher_troubles")
    zk.delete(path)
    told = wait_sample(port, f'zoo_watcher_registered{{service="{path}"}}')
    assert told[f'zoo_watcher_registration_refused{{service="{path}"}}'] == 0
    wait_sample(port, "zoo_watcher_troubles", 0)


def test_an_action_that_fails_leaves_its_file_pending(agents: Agents, zk: KazooClient, app: str, port: int) -> None:
    zk.create(f"{app}/motd", b"hello", makepath=True)
    agent = agents(metrics_port=port)
    dest = agent.root.parent / "motd"
    agent.config["files"] = [{"znode": f"{app}/motd", "dest": str(dest), "on_change": ["false"]}]
    agent.start().wait_live()
    told = wait_sample(port, 'zoo_watcher_files{state="failed"}')
    assert told["zoo_watcher_file_actions_pending"] == 1
    assert told[f'zoo_watcher_file_current{{dest="{dest}"}}'] == 0


def test_no_port_is_opened_and_nothing_is_loaded_where_no_metrics_are_wanted(agents: Agents, release: Publish) -> None:
    agent = agents().start(PYTHONVERBOSE="1")
    agent.wait_outcome(release())
    assert agent.process is not None
    listening = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
    assert f"pid={agent.process.pid}," not in listening
    assert "import 'zoo_watcher.watcher'" in agent.log
    assert "import 'zoo_watcher.metrics" not in agent.log
    assert "import 'prometheus_client" not in agent.log


def test_a_metrics_port_that_is_taken_costs_nothing_but_the_metrics_until_it_is_free(
    agents: Agents, registered: dict[str, Any], port: int
) -> None:
    taken = Service()
    taken.port = port
    taken.open()
    try:
        agent = agents(metrics_port=port, **registered).start().wait_live()
        trouble = f"no metrics at metrics_port 127.0.0.1:{port}: Address already in use"
        wait_for(lambda: agent.status.get("troubles") == [trouble], "the status says so")
        assert "Traceback" not in agent.log
    finally:
        taken.close()
    wait_for(lambda: "troubles" not in agent.status, "it is over")
    wait_for(lambda: scraped(port)["zoo_watcher_troubles"] == 0, "the metrics say so at the end of that turn")


def test_metrics_without_the_library_are_refused_in_a_new_configuration_and_cost_nothing_else(
    agents: Agents,
    registered: dict[str, Any],
    service: Service,
    registrations: Callable[[], dict[str, list[str]]],
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "prometheus_client.py").write_text("raise ImportError\n")
    environment = {"PYTHONPATH": f"{lacking}:{SOURCE}"}
    agent = agents(**registered)
    service.open()
    agent.start(**environment)
    wait_for(registrations, "it is registered")
    agent.config["metrics_port"] = port
    file = agent.configure()
    mistake = "metrics_port: prometheus-client is not installed, or can't be imported: install it"
    monkeypatch.setattr("support.agent.PYTHON_PATH", environment["PYTHONPATH"])
    checked = agent.run("check", "--config", str(file))
    assert (checked.returncode, checked.stderr) == (2, f"{file}: {mistake}\n")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    said = f"not reloaded, the previous configuration stays in force: {mistake}"
    wait_for(lambda: said in agent.log, "the reload is refused")
    assert agent.end(signal.SIGUSR2) == 0
    # The library may also be removed while a valid configuration is in force.
    agent.start(**environment)
    wait_for(lambda: agent.status.get("troubles") == [f"no metrics: {mistake}"], "the status says so")
    assert registrations()
    assert "Traceback" not in agent.log
