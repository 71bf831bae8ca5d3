"""What somebody on the network between a client and its ensemble can do: nothing, where the connection is by TLS."""

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
"""The first byte of what a client sends that speaks TLS."""


@pytest.fixture
def options(certificates: Certificates) -> dict[str, Any]:
    """The options of a publisher, with a certificate and a password, but without `hosts`."""
    defaults = {name: spec.get("default") for name, spec in ARGSPEC.items()}
    files = {"tls_ca": certificates.ca, "tls_cert": certificates.client, "tls_key": certificates.key}
    login = {"digest_username": "publisher", "digest_password": WORD, "connect_timeout": 2.0}
    return {**defaults, **login, "tls": True, **{name: str(path) for name, path in files.items()}}


@pytest.fixture
def tap() -> Iterator[Callable[..., Wiretap]]:
    """Makes somebody on the network."""
    with contextlib.ExitStack() as made:

        def make(**about: Any) -> Wiretap:
            return made.enter_context(contextlib.closing(Wiretap(**about)))

        yield make


def port_of(hosts: str) -> int:
    return int(hosts.rpartition(":")[2])


def refusal(given: dict[str, Any]) -> str:
    """Why the client does not connect."""
    with pytest.raises(ConnectError) as raised, connect(given):
        pass
    return str(raised.value)


def test_whose_certificate_is_of_the_same_authority_but_for_another_host_is_told_nothing(
    options: dict[str, Any], certificates: Certificates, tap: Callable[..., Wiretap]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.client, certificates.key)
    man = tap(context=context)
    assert "not valid for 'localhost'" in refusal({**options, "hosts": [man.hosts]})
    assert set(man.recorded) == {b""}
    # So it is for who has no other means: who does not look at the name tells him all.
    with pytest.raises(ConnectError), connect({**options, "hosts": [man.hosts], "tls_check_hostname": False}):
        pass
    assert any(man.recorded)


def test_a_client_that_speaks_tls_never_goes_on_without(
    options: dict[str, Any], tls_ensemble: Ensemble, tap: Callable[..., Wiretap]
) -> None:
    # Who is between has the plain port answer.
    man = tap(port=port_of(tls_ensemble.hosts))
    assert "can't reach ZooKeeper" in refusal({**options, "hosts": [man.hosts]})
    sent = [recorded for recorded in man.recorded if recorded]
    assert sent
    assert {recorded[0] for recorded in sent} == {TLS_HANDSHAKE}
    assert not any(WORD.encode() in recorded for recorded in sent)


def test_a_client_that_does_not_speak_tls_gets_no_answer_from_a_port_that_does_and_tells_no_password(
    options: dict[str, Any], tls_ensemble: Ensemble, tap: Callable[..., Wiretap]
) -> None:
    man = tap(port=port_of(tls_ensemble.secure_hosts))
    plain = {**options, **dict.fromkeys(("tls_ca", "tls_cert", "tls_key")), "tls": False, "hosts": [man.hosts]}
    assert "can't reach ZooKeeper" in refusal(plain)
    assert any(man.recorded)
    assert not any(WORD.encode() in recorded for recorded in man.recorded)


def test_a_session_that_was_recorded_does_nothing_when_it_is_sent_again(
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
        # The server takes the first of it for a new client, can't read the rest, and hangs up.
        with contextlib.suppress(ConnectionError):
            while replay.recv(65536):
                pass
    with connect({**options, "hosts": [tls_ensemble.secure_hosts]}) as client:
        assert client.exists("/replayed") is None
