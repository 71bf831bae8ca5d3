"""What a registration says, how its znode is named, and which address it gives."""

from __future__ import annotations

import json
import re
import socket
from typing import cast

import pytest

from zoo_watcher.config.config import Config, Service
from zoo_watcher.services.health import Health
from zoo_watcher.services.registration import Registrations, service_path, service_value, source_address
from zoo_watcher.zookeeper.ephemerals import Ephemerals


def service(kind: str, identity: str = "web1", path: str = "/service/business/what") -> Service:
    """A service on port 9099, registered in one of the formats."""
    keys = {"path": path, "port": 9099, "id": identity, "format": kind}
    return Config.from_object({"hosts": "zk1", "base": "/srv", "services": [keys]}).services[0]


def test_the_articles_form_is_a_list_of_two_texts() -> None:
    assert service_value(service("seed"), "127.0.0.1") == b'["127.0.0.1", "9099"]'
    assert service_path(service("seed")) == "/service/business/what/web1"


def test_nerve_has_host_port_and_name_below_a_name_with_a_sequence_number() -> None:
    assert json.loads(service_value(service("nerve"), "10.0.0.1")) == {"host": "10.0.0.1", "port": 9099, "name": "web1"}
    assert re.fullmatch("/service/business/what/web1_[0-9]{10}", service_path(service("nerve")))


def test_a_serverset_member_is_alive_at_an_endpoint() -> None:
    assert json.loads(service_value(service("serverset"), "10.0.0.1")) == {
        "serviceEndpoint": {"host": "10.0.0.1", "port": 9099},
        "additionalEndpoints": {},
        "status": "ALIVE",
    }
    assert re.fullmatch("/service/business/what/member_[0-9]{10}", service_path(service("serverset")))


def test_a_curator_instance_is_named_by_its_id_and_its_service_by_the_path() -> None:
    assert service_path(service("curator")) == "/service/business/what/web1"
    instance = json.loads(service_value(service("curator"), "10.0.0.1"))
    assert (instance["name"], instance["id"], instance["address"], instance["port"]) == (
        "what",
        "web1",
        "10.0.0.1",
        9099,
    )
    assert (instance["serviceType"], instance["enabled"]) == ("DYNAMIC", True)


@pytest.mark.parametrize("kind", ["seed", "nerve", "serverset", "curator"])
def test_a_restart_writes_the_same_name_and_another_id_another_one(kind: str) -> None:
    assert service_path(service(kind)) == service_path(service(kind))
    assert service_path(service(kind)) != service_path(service(kind, identity="web2"))


def test_a_registry_at_the_root_needs_no_second_slash() -> None:
    assert service_path(service("seed", path="/")) == "/web1"


@pytest.mark.parametrize(
    "hosts",
    ["127.0.0.1:2181", "127.0.0.1:2181,127.0.0.1:2182/chroot", "localhost", "no-such-host.invalid:2181", "[::1]:2181"],
)
def test_an_ensemble_that_is_here_or_cannot_be_found_gives_the_loopback_address(hosts: str) -> None:
    assert source_address(hosts) == "127.0.0.1"


def own_address() -> str | None:
    """This machine's address on its way out; None where it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 2181))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.skipif(own_address() is None, reason="this machine has no network")
def test_an_ensemble_elsewhere_gives_the_address_on_the_way_there() -> None:
    assert source_address("127.0.0.1:2181, 192.0.2.1:2181/chroot") == own_address()


class Held(set[str]):
    """Ephemerals of which only the paths count; `configured` is what nothing else may be held than."""

    configured: set[str]

    def hold(self, path: str, _value: bytes) -> None:
        """As in `Ephemerals`."""
        self.add(path)

    def withdraw(self, path: str) -> None:
        """As in `Ephemerals`."""
        self.discard(path)

    def withdraw_others(self, configured: set[str]) -> None:
        """As in `Ephemerals`."""
        self.configured = configured


def test_healthy_services_are_registered_while_the_host_serves_and_unknown_ones_stay_as_they_are() -> None:
    services = [{"path": "/service", "port": 80, "id": name} for name in ("a", "b")]
    config = Config.from_object({"hosts": "zk1", "base": "/srv", "name": "web1", "app": "/app", "services": services})
    health = Health([service.check for service in config.services], lambda: None)
    first, second = health.checkers
    held = Held()
    registrations = Registrations(config, health, cast(Ephemerals, held))
    rounds = []
    for serving, healthy in ((False, True), (True, True), (True, None), (True, False), (True, True), (False, True)):
        first.healthy, second.healthy = healthy, None
        registrations.update(serving=serving)
        rounds.append(sorted(held))
    assert rounds == [[], ["/service/a"], ["/service/a"], [], ["/service/a"], []]
    assert held.configured == {"/service/a", "/service/b", config.app.agent("web1")}
