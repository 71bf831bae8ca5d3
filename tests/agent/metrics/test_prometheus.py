"""A real Prometheus, with the documented configuration and rules, reports a failed deployment of a real agent."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from support.agent import Agent
from support.monitoring import ALERTS, PAGE, dashboard, expressions
from support.ports import free_ports
from support.prometheus import Prometheus
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]

RULES_TEST = Path(__file__).parent / "alerts_test.yml"


def documented_scrape(*targets: str) -> dict[str, Any]:
    """The documented scrape configuration, with these targets."""
    block = re.search(r"```yaml\n(rule_files:.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    (scrape,) = yaml.safe_load(block[1])["scrape_configs"]
    return {**scrape, "static_configs": [{"targets": list(targets)}]}


def asked(expression: str) -> str:
    """An expression of the dashboard, as Grafana sends it with everything selected."""
    return expression.replace("$app", ".*").replace("$instance", ".*").replace("$__rate_interval", "1m")


def promtool(*words: str) -> None:
    """Run promtool, and expect it to succeed."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", str(ALERTS))
    promtool("test", "rules", str(RULES_TEST))


def test_a_failed_deployment_and_an_unreachable_agent_are_alerts_and_the_queries_of_the_dashboard_work(
    agents: Agents,
    release: Publish,
    repository: GitRepository,
    service: Service,
    registered: dict[str, Any],
    tmp_path: Path,
) -> None:
    ports = free_ports(2)
    hooks = {"before_activate": ["/bin/sh", "-c", "test ! -e bad"]}
    agent = agents(metrics_port=ports[0], hooks=hooks, **registered).start()
    service.open()
    agent.wait_outcome(release())
    good = repository.head
    targets = [f"127.0.0.1:{port}" for port in ports]
    with Prometheus(tmp_path / "prometheus", documented_scrape(*targets)) as prometheus:
        wait_for(lambda: prometheus.ask("zoo_watcher_converged == 1"), "the agent is scraped")
        for expression in expressions(dashboard()):
            prometheus.ask(asked(expression))
        told = prometheus.ask("zoo_watcher_converged * on (job, instance) group_left (app, name) zoo_watcher_info")
        assert [(one["metric"]["name"], one["metric"]["app"]) for one in told] == [("server1", agent.app)]
        repository.commit({"bad": "\n"})
        agent.wait_outcome(release())
        (alert,) = wait_for(lambda: prometheus.ask('ALERTS{alertname="ZooWatcherDeploymentFailed"}'), "it is an alert")
        assert (alert["metric"]["instance"], alert["metric"]["alertstate"]) == (targets[0], "firing")
        (live,) = prometheus.ask("zoo_watcher_release_info")
        assert live["metric"]["live_commit"] == good
        assert live["metric"]["desired_commit"] == repository.head
        (down,) = wait_for(lambda: prometheus.ask('ALERTS{alertname="ZooWatcherAgentDown"}'), "nobody answers there")
        assert (down["metric"]["instance"], down["metric"]["alertstate"]) == (targets[1], "pending")
