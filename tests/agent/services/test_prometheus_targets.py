"""A real Prometheus finds services by agents' registrations in the formats of Nerve and of serversets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.monitoring import PAGE
from support.prometheus import Prometheus
from support.service import Service
from support.waiting import wait_for


def documented_scrapes(hosts: str, app: str) -> list[dict[str, Any]]:
    """The documented scrape configurations, for this ensemble and below this path."""
    block = re.search(r"```yaml\n(scrape_configs:.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    text = block[1].replace("/service", f"{app}/service").replace("zk1:2181, zk2:2181, zk3:2181", hosts)
    return list(yaml.safe_load(text)["scrape_configs"])


@pytest.fixture
def second() -> Iterator[Service]:
    made = Service(lambda: (200, "answers 1\n"))
    yield made.open()
    made.close()


def test_services_are_targets_as_long_as_they_are_registered(
    agents: Callable[..., Agent],
    ensemble: Ensemble,
    zk: KazooClient,
    app: str,
    service: Service,
    second: Service,
    tmp_path: Path,
) -> None:
    service.answer = lambda: (200, "answers 1\n")
    service.open()
    check = {"type": "http", "interval": 0.05, "timeout": 1, "fall": 1}
    agents(
        services=[
            {"path": f"{app}/service/{name}", "port": port, "address": "127.0.0.1", "format": kind, "check": check}
            for name, kind, port in (("web", "nerve", service.port), ("api", "serverset", second.port))
        ]
    ).start()
    scrapes = documented_scrapes(ensemble.hosts, app)
    wait_for(lambda: all(zk.exists(f"{app}/service/{name}") for name in ("web", "api")), "both are registered")
    with Prometheus(tmp_path / "prometheus", *scrapes) as prometheus:
        addresses = {"web": f"127.0.0.1:{service.port}", "api": f"127.0.0.1:{second.port}"}

        def scraped() -> dict[str, str]:
            return {found["labels"]["job"]: found["labels"]["instance"] for found in prometheus.targets()}

        wait_for(lambda: scraped() == addresses, "both are targets")
        wait_for(lambda: len(prometheus.ask("answers == 1")) == 2, "both are scraped")
        labels = {found["labels"]["job"]: found["discoveredLabels"] for found in prometheus.targets()}
        assert labels["web"]["__meta_nerve_endpoint_host"] == "127.0.0.1"
        assert labels["web"]["__meta_nerve_endpoint_port"] == str(service.port)
        assert labels["web"]["__meta_nerve_endpoint_name"] == "server1"
        assert labels["api"]["__meta_serverset_endpoint_host"] == "127.0.0.1"
        assert labels["api"]["__meta_serverset_endpoint_port"] == str(second.port)
        assert labels["api"]["__meta_serverset_status"] == "ALIVE"
        (named,) = prometheus.ask('answers{job="web"}')
        assert named["metric"]["server"] == "server1"
        service.close()
        wait_for(lambda: scraped() == {"api": addresses["api"]}, "the unhealthy one is no target any more")
