"""What a registration contains, how its znode is named, and when it is made and withdrawn."""

from __future__ import annotations

import binascii
import json
import re
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kazoo.handlers.threading import KazooTimeoutError

from zoo_watcher.config.config import Config, Service
from zoo_watcher.errors import NoAnswerError, SessionTroubleError
from zoo_watcher.services.health import Health
from zoo_watcher.services.registration import Registrations, service_path, service_value
from zoo_watcher.zookeeper.ephemerals import Ephemerals, TakenError
from zoo_watcher.zookeeper.session import Session
from zoo_watcher.zookeeper.session_memory import SessionMemory


def service(kind: str, identity: str = "web1", path: str = "/service/business/what") -> Service:
    """A service on port 9099, registered in one of the formats."""
    keys = {"path": path, "port": 9099, "id": identity, "format": kind}
    return Config.from_object({"hosts": "zk1", "base": "/srv", "services": [keys]}).services[0]


def test_the_seed_format_is_a_list_of_two_strings() -> None:
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
    assert re.fullmatch("/service/business/what/member_[1-9][0-9]{17}", service_path(service("serverset")))


def test_a_curator_instance_is_named_by_its_id_and_its_service_by_the_path() -> None:
    assert service_path(service("curator")) == "/service/business/what/web1"
    instance = json.loads(service_value(service("curator"), "10.0.0.1"))
    assert (instance["name"], instance["id"], instance["address"], instance["port"]) == (
        "what",
        "web1",
        "10.0.0.1",
        9099,
    )
    assert instance["serviceType"] == "DYNAMIC"
    assert "enabled" not in instance, "old versions of Curator read no instance with this key (CURATOR-394)"


@pytest.mark.parametrize("kind", ["seed", "nerve", "serverset", "curator"])
def test_a_restart_writes_the_same_name_and_another_id_a_different_one(kind: str) -> None:
    assert service_path(service(kind)) == service_path(service(kind))
    assert service_path(service(kind)) != service_path(service(kind, identity="web2"))


def test_two_members_of_a_serverset_whose_ids_have_one_checksum_have_two_names() -> None:
    first, second = "i-09dd553017b8e9593", "i-f0ce77d6d5818077b"
    assert binascii.crc32(first.encode()) == binascii.crc32(second.encode())
    assert service_path(service("serverset", first)) != service_path(service("serverset", second))


def test_a_registry_at_the_root_needs_no_second_slash() -> None:
    assert service_path(service("seed", path="/")) == "/web1"


class Held(set[str]):
    """Ephemerals of which only the paths count; `configured` has the only paths that may be held."""

    configured: set[str]

    @property
    def held(self) -> set[str]:
        """As in `Ephemerals`."""
        return set(self)

    def may_hold(self, path: str) -> bool:
        """As in `Ephemerals`."""
        return path in self

    def hold(self, path: str, _value: bytes) -> None:
        """As in `Ephemerals`."""
        self.add(path)

    def withdraw(self, path: str) -> None:
        """As in `Ephemerals`."""
        self.discard(path)

    def withdraw_others(self, configured: set[str]) -> None:
        """As in `Ephemerals`."""
        self.configured = configured
        self.intersection_update(configured)


CONFIG = Config.from_object(
    {
        "hosts": "zk1",
        "base": "/srv",
        "name": "web1",
        "app": "/app",
        "services": [{"path": "/service", "port": 80, "id": name} for name in ("a", "b")],
    }
)


@pytest.fixture
def health() -> Health:
    """The checks of two services, `a` and `b`, which are never made."""
    return Health([service.check for service in CONFIG.services], lambda: None)


def registrations_of(health: Health, held: Held) -> Registrations:
    """The registrations of an agent that is connected."""
    registrations = Registrations(CONFIG, health, cast(Ephemerals, held), lambda: None)
    registrations.find_address("192.0.2.7")
    return registrations


def test_a_service_waits_for_this_hosts_address_and_one_with_an_address_of_its_own_does_not(health: Health) -> None:
    first, second = CONFIG.services
    config = replace(CONFIG, services=(first, replace(second, address="192.0.2.8")))
    held = Held()
    registrations = Registrations(config, health, cast(Ephemerals, held), lambda: None)
    for checker in health.checkers:
        checker.healthy = True
    assert registrations.update(serving=True) == []
    assert held == {"/service/b"}
    registrations.find_address("192.0.2.7")
    registrations.update(serving=True)
    assert held == {"/service/a", "/service/b"}


def test_healthy_services_are_registered_while_the_host_serves_and_unknown_ones_stay_as_they_are(
    health: Health,
) -> None:
    first, second = health.checkers
    held = Held()
    registrations = registrations_of(health, held)
    rounds = []
    for serving, healthy in ((False, True), (True, True), (True, None), (True, False), (True, True), (False, True)):
        first.healthy, second.healthy = healthy, None
        assert registrations.update(serving=serving) == []
        rounds.append(sorted(held))
    assert rounds == [[], ["/service/a"], ["/service/a"], [], ["/service/a"], []]
    assert held.configured == {"/service/a", "/service/b", CONFIG.app.agent("web1")}


@pytest.mark.parametrize(
    ("serving", "healthy", "stays"),
    [(True, None, True), (None, True, True), (True, False, False), (False, True, False)],
)
def test_a_member_of_a_serverset_stays_at_its_previous_path_until_it_is_at_its_new_one(
    serving: bool | None, healthy: bool | None, stays: bool
) -> None:
    member = service("serverset")
    former = "/service/business/what/member_2678409197"
    before = {former, "/service/business/what/another_id"}
    health, held = Health([member.check], lambda: None), Held(before)
    config = replace(CONFIG, services=(replace(member, address="192.0.2.8"),))
    registrations = Registrations(config, health, cast(Ephemerals, held), lambda: None)
    health.checkers[0].healthy = healthy
    assert registrations.update(serving=serving) == []
    assert held == (before if stays else set())
    health.checkers[0].healthy = True
    registrations.update(serving=True)
    assert held == {service_path(member)}


def test_a_member_of_a_serverset_that_is_not_healthy_is_withdrawn_as_early_from_its_previous_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zoo_watcher.zookeeper.session.ANSWER_TIMEOUT", 0.1)
    member = service("serverset")
    paths = {"/service/business/what/member_2678409197"}
    memory = SimpleNamespace(client_id=SilentSession.client_id, paths=paths, save=print)
    held = Ephemerals(cast(Session, SilentSession()), cast(SessionMemory, memory))
    held.follow_session()
    health = Health([member.check], lambda: None)
    registrations = Registrations(replace(CONFIG, services=(member,)), health, held, lambda: None)
    assert not registrations.is_withdrawal_due
    health.checkers[0].healthy = False
    assert registrations.is_withdrawal_due
    with pytest.raises(NoAnswerError):
        registrations.withdraw_ill()


class Noting(Held):
    """Ephemerals that note how many registrations there are after each step."""

    def __init__(self, paths: set[str]) -> None:
        super().__init__(paths)
        self.counts: list[int] = []

    def hold(self, path: str, value: bytes) -> None:
        """As in `Ephemerals`."""
        super().hold(path, value)
        self.counts.append(len(self))

    def withdraw_others(self, configured: set[str]) -> None:
        """As in `Ephemerals`."""
        super().withdraw_others(configured)
        self.counts.append(len(self))


def test_a_service_with_another_id_stays_registered_as_before_until_it_is_healthy_at_its_new_place() -> None:
    web2 = service("seed", "web2")
    held = Noting({"/service/business/what/web1"})
    health = Health([web2.check], lambda: None)
    registrations = Registrations(replace(CONFIG, services=(web2,)), health, cast(Ephemerals, held), lambda: None)
    registrations.update(serving=None)
    registrations.update(serving=True)
    health.checkers[0].healthy = True
    registrations.update(serving=None)
    registrations.update(serving=True)
    assert held == {"/service/business/what/web1"}, "this host's address is not known yet"
    registrations.find_address("192.0.2.7")
    registrations.update(serving=True)
    assert held == {"/service/business/what/web2"}
    assert held.counts, "the old one is withdrawn"
    assert 0 not in held.counts


@pytest.mark.parametrize(("serving", "healthy"), [(True, False), (False, None), (False, True)])
def test_a_service_with_another_id_that_is_not_healthy_or_not_served_is_withdrawn_where_it_was(
    serving: bool, healthy: bool | None
) -> None:
    web2 = service("seed", "web2")
    held = Held({"/service/business/what/web1"})
    health = Health([web2.check], lambda: None)
    registrations = Registrations(replace(CONFIG, services=(web2,)), health, cast(Ephemerals, held), lambda: None)
    health.checkers[0].healthy = healthy
    registrations.update(serving=serving)
    assert held == set()


def test_a_service_whose_check_has_no_result_is_not_waited_for_longer_than_the_health_timeout() -> None:
    web2 = service("seed", "web2")
    held = Held({"/service/business/what/web1"})
    health = Health([web2.check], lambda: None)
    config = replace(CONFIG, services=(web2,), health_timeout=0.0)
    registrations = Registrations(config, health, cast(Ephemerals, held), lambda: None)
    registrations.update(serving=True)
    assert held == set()


def test_a_service_no_longer_configured_is_withdrawn_immediately_where_all_others_are_registered(
    health: Health,
) -> None:
    held = Held({"/service/a", "/service/b", "/service/c"})
    registrations_of(health, held).update(serving=None)
    assert held == {"/service/a", "/service/b"}


def test_a_service_no_longer_configured_is_withdrawn_even_if_another_cannot_be_registered(health: Health) -> None:
    held = Refusing(TakenError("/service/a", 7))
    held.add("/service/c")
    for checker in health.checkers:
        checker.healthy = True
    registrations_of(health, held).update(serving=True)
    assert held == {"/service/b"}


class Refusing(Held):
    """Ephemerals that raise an error for `/service/a`, and note the requests."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.asked: list[str] = []

    def hold(self, path: str, value: bytes) -> None:
        """Raises what it was made with, for `/service/a`."""
        self.asked.append(f"hold {path}")
        if path == "/service/a":
            raise self.error
        super().hold(path, value)

    def withdraw(self, path: str) -> None:
        """Raises what it was made with, for `/service/a`."""
        self.asked.append(f"withdraw {path}")
        if path == "/service/a":
            raise self.error
        super().withdraw(path)


@pytest.mark.parametrize("error", [TakenError("/service/a", 7), SessionTroubleError("/service/a: permission denied")])
def test_an_error_of_one_service_keeps_no_other_from_its_turn(health: Health, error: Exception) -> None:
    held = Refusing(error)
    registrations = registrations_of(health, held)
    first, second = health.checkers
    first.healthy = second.healthy = True
    assert registrations.update(serving=True) == [str(error)]
    assert held == {"/service/b"}
    assert registrations.refused == {"/service/a"}
    assert registrations.update(serving=False) == [str(error)]
    assert held == set()
    assert registrations.refused == {"/service/a"}
    first.healthy = None
    assert registrations.update(serving=True) == []
    assert registrations.refused == set()


def test_withdrawals_come_first_and_a_silent_server_ends_the_turn(health: Health) -> None:
    held = Refusing(NoAnswerError("no answer within 10 s"))
    registrations = registrations_of(health, held)
    first, second = health.checkers
    first.healthy, second.healthy = True, False
    with pytest.raises(NoAnswerError):
        registrations.update(serving=True)
    assert held.asked == ["withdraw /service/b", "hold /service/a"]
    held.asked.clear()
    with pytest.raises(NoAnswerError):
        registrations.update(serving=False)
    assert held.asked == ["withdraw /service/a"]


def test_while_it_is_unknown_what_a_host_serves_only_unhealthy_services_are_withdrawn(health: Health) -> None:
    held = Held({"/service/a", "/service/b"})
    registrations = registrations_of(health, held)
    health.checkers[0].healthy, health.checkers[1].healthy = False, True
    registrations.update(serving=None)
    assert held == {"/service/b"}
    health.checkers[0].healthy = True
    registrations.update(serving=None)
    assert held == {"/service/b"}, "nothing new is registered"


class SilentSession:
    """A session whose server does not answer; `waits` has the seconds for which each answer was waited for."""

    client_id = (1, b"")
    connections = 1
    answer = staticmethod(Session.answer)

    def __init__(self) -> None:
        self.client = self
        self.waits: list[float] = []

    def exists_async(self, _path: str) -> Any:
        """A request that is never answered."""
        return SimpleNamespace(ready=lambda: False, get=self._wait)

    def _wait(self, timeout: float) -> None:
        self.waits.append(timeout)
        threading.Event().wait(timeout)
        raise KazooTimeoutError


def test_for_several_unhealthy_services_the_answers_are_waited_for_no_longer_than_for_one(
    health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo_watcher.zookeeper.session.ANSWER_TIMEOUT", 0.1)
    memory = SimpleNamespace(client_id=SilentSession.client_id, paths={"/service/a", "/service/b"}, save=print)
    session = SilentSession()
    held = Ephemerals(cast(Session, session), cast(SessionMemory, memory))
    registrations = Registrations(CONFIG, health, held, lambda: None)
    for checker in health.checkers:
        checker.healthy = False
    with pytest.raises(NoAnswerError):
        registrations.withdraw_ill()
    assert len(session.waits) == 2
    assert sum(session.waits) < 0.15
