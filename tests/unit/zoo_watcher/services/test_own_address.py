"""The address of a registration for which none is configured."""

from __future__ import annotations

import socket
import threading
from functools import partial

import pytest

from support.waiting import wait_for
from zoo_watcher.backoff import Backoff
from zoo_watcher.services import own_address
from zoo_watcher.services.own_address import OwnAddress, address_towards


@pytest.mark.parametrize(
    "members", [["127.0.0.1:2181"], ["127.0.0.1:2181", "127.0.0.1:2182"], ["localhost"], ["[::1]:2181"]]
)
def test_an_ensemble_on_this_machine_gives_the_loopback_address(members: list[str]) -> None:
    assert address_towards(members) == "127.0.0.1"


def test_where_a_member_cannot_be_resolved_no_address_is_guessed() -> None:
    assert address_towards(["127.0.0.1:2181", "no-such-host.invalid:2181"]) is None


def own() -> str | None:
    """This machine's address for outgoing connections, or None if it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 2181))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@pytest.mark.skipif(own() is None, reason="this machine has no network")
def test_an_ensemble_elsewhere_gives_the_address_on_the_way_there() -> None:
    assert address_towards(["127.0.0.1:2181", "192.0.2.1:2181"]) == own()


def test_the_address_of_the_connection_needs_no_name_to_be_resolved() -> None:
    address = OwnAddress("no-such-host.invalid:2181", lambda: None)
    address.find("198.51.100.7")
    assert address.current == "198.51.100.7"


def test_a_silent_resolver_blocks_nothing_and_the_previous_address_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    answers = iter([None, "127.0.0.1"])

    def resolve(_members: list[str]) -> str | None:
        assert gate.wait(30)
        return next(answers)

    monkeypatch.setattr(own_address, "address_towards", resolve)
    monkeypatch.setattr(own_address, "Backoff", partial(Backoff, 0.01))
    changes: list[str | None] = []
    address = OwnAddress("zk1:2181/chroot", lambda: changes.append(address.trouble))
    address.find("198.51.100.7")
    address.find("127.0.0.1")
    assert (address.current, changes) == ("198.51.100.7", [])
    gate.set()
    wait_for(lambda: address.current == "127.0.0.1", "it is found once the name is resolved")
    told = "this host's address is not known: zk1:2181 can't be resolved or reached; services without `address` are not"
    assert (changes[0] or "").startswith(told)
    wait_for(lambda: changes[1:] == [None], "it is told")
