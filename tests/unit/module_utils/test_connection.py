"""Which errors more time could solve, and what an older kazoo can't do."""

from __future__ import annotations

from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import AuthFailedError, ConnectionClosedError, ConnectionLoss, NoAuthError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

from ansible_collections.zoo.deploy.plugins.module_utils import connection
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ConnectError, ZooKeeperError, is_outage


@pytest.mark.parametrize(
    ("error", "cause", "passing"),
    [
        (ZooKeeperError, ConnectionLoss(), True),
        (ZooKeeperError, ConnectionClosedError(), True),
        (ZooKeeperError, SessionExpiredError(), True),
        (ZooKeeperError, KazooTimeoutError(), True),
        (ConnectError, KazooTimeoutError(), True),
        (ConnectError, ConnectionLoss(), True),
        (ConnectError, AuthFailedError(), False),
        (ConnectError, FileNotFoundError(), False),
        (ConnectError, None, False),
        (ZooKeeperError, AuthFailedError(), False),
        (ZooKeeperError, NoAuthError(), False),
    ],
)
def test_an_outage_is_an_ensemble_that_does_not_answer_and_not_a_refusal(
    error: type[ZooKeeperError], cause: BaseException | None, passing: bool
) -> None:
    with pytest.raises(error) as raised:
        raise error("it failed") from cause
    assert is_outage(raised.value) is passing


@pytest.mark.parametrize("name", ["digest_password", "sasl_username"])
def test_bytes_of_the_environment_that_are_not_text_are_refused_and_not_shown(name: str) -> None:
    others = {"digest_username": "ann", "digest_password": "secret"}
    options = {"hosts": "zk1:2181", "connect_timeout": 10.0, **others, name: "s\udcff"}
    assert [str(mistake) for mistake in connection.mistakes(options)] == [f"{name}: expected text in UTF-8"]


class OlderKazoo(KazooClient):
    """A kazoo older than 2.11, which does not know `check_hostname`."""

    def __init__(self, hosts: str = "127.0.0.1:2181", **options: Any) -> None:
        assert "check_hostname" not in options
        super().__init__(hosts, **options)


TLS = {"hosts": "zk1:2281", "connect_timeout": 10.0, "tls": True, "tls_verify": True, "tls_check_hostname": True}


@pytest.mark.parametrize("unchecked", [{"tls_check_hostname": False}, {"tls_verify": False}, {"tls": False}])
def test_a_kazoo_that_cannot_check_host_names_is_refused_only_where_they_are_to_be_checked(
    monkeypatch: pytest.MonkeyPatch, unchecked: dict[str, bool]
) -> None:
    assert list(connection.mistakes(TLS)) == []
    monkeypatch.setattr(connection, "KazooClient", OlderKazoo)
    (mistake,) = connection.mistakes(TLS)
    assert str(mistake) == "tls_check_hostname: this kazoo can't do it; install 2.11 or later, or set it to false"
    assert list(connection.mistakes({**TLS, **unchecked})) == []
    assert isinstance(connection.make_client({**TLS, **unchecked}), OlderKazoo)
