"""What an attacker on the network between a client and its ensemble can do: nothing, if the connection uses TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.ansible_module import ARGSPEC
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ConnectError
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect
from support.certificates import Certificates
from support.ensemble import Ensemble
from support.wiretap import Wiretap

WORD = "word-of-the-publisher"
TLS_HANDSHAKE = 0x16
"""The first byte that a TLS client sends."""


@pytest.fixture
def options(certificates: Certificates) -> dict[str, Any]:
    """The options of a publisher, with a certificate and a password, but without `hosts`."""
    defaults = {name: spec.get("default") for name, spec in ARGSPEC.items()}
    files = {"tls_ca": certificates.ca, "tls_cert": certificates.client, "tls_key": certificates.key}
    login = {"digest_username": "publisher", "digest_password": WORD, "connect_timeout": 2.0}
    return {**defaults, **login, "tls": True, **{name: str(path) for name, path in files.items()}}


@pytest.fixture
def tap() -> Iterator[Callable[..., Wiretap]]:
    """Creates an attacker on the network."""
    with contextlib.ExitStack() as made:

        def make(**about: Any) -> Wiretap:
            return made.enter_context(contextlib.closing(Wiretap(**about)))

        yield make


def port_of(hosts: str) -> int:
    return int(hosts.rpartition(":")[2])


def refusal(given: dict[str, Any]) -> str:
    """The error with which the client fails to connect."""
    with pytest.raises(ConnectError) as raised, connect(given):
        pass
    return str(raised.value)


def test_a_server_with_a_certificate_for_another_host_receives_nothing(
    options: dict[str, Any], certificates: Certificates, tap: Callable[..., Wiretap]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.client, certificates.key)
    man = tap(context=context)
    assert "not valid for 'localhost'" in refusal({**options, "hosts": [man.hosts]})
    assert set(man.recorded) == {b""}
    # Only the check of the name prevents it: without that, the client sends him everything.
    with pytest.raises(ConnectError), connect({**options, "hosts": [man.hosts], "tls_check_hostname": False}):
        pass
    assert any(man.recorded)


def test_a_client_that_speaks_tls_never_goes_on_without(
    options: dict[str, Any], tls_ensemble: Ensemble, tap: Callable[..., Wiretap]
) -> None:
    # The attacker forwards the connection to the plain port.
    man = tap(port=port_of(tls_ensemble.hosts))
    assert "can't reach ZooKeeper" in refusal({**options, "hosts": [man.hosts]})
    sent = [recorded for recorded in man.recorded if recorded]
    assert sent
    assert {recorded[0] for recorded in sent} == {TLS_HANDSHAKE}
    assert not any(WORD.encode() in recorded for recorded in sent)


def test_a_client_without_tls_gets_no_answer_from_a_tls_port_and_sends_no_password(
    options: dict[str, Any], tls_ensemble: Ensemble, tap: Callable[..., Wiretap]
) -> None:
    man = tap(port=port_of(tls_ensemble.secure_hosts))
    plain = {**options, **dict.fromkeys(("tls_ca", "tls_cert", "tls_key")), "tls": False, "hosts": [man.hosts]}
    assert "can't reach ZooKeeper" in refusal(plain)
    assert any(man.recorded)
    assert not any(WORD.encode() in recorded for recorded in man.recorded)


def test_a_replayed_session_has_no_effect(
    options: dict[str, Any], tls_ensemble: Ensemble, tap: Callable[..., Wiretap]
) -> None:
    man = tap(port=port_of(tls_ensemble.secure_hosts))
    with connect({**options, "hosts": [man.hosts]}) as client:
        client.create("/replayed", b"once")
        before = client.exists("/replayed").czxid
        client.delete("/replayed")
    assert before
    recorded = man.recorded[-1]
    assert recorded[0] == TLS_HANDSHAKE
    assert WORD.encode() not in recorded
    with socket.create_connection(("localhost", port_of(tls_ensemble.secure_hosts)), timeout=20) as replay:
        replay.sendall(recorded)
        # The server takes the first bytes for a new client, cannot decrypt the rest, and hangs up.
        with contextlib.suppress(ConnectionError):
            while replay.recv(65536):
                pass
    with connect({**options, "hosts": [tls_ensemble.secure_hosts]}) as client:
        assert client.exists("/replayed") is None
