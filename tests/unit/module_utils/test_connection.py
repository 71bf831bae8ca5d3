"""Which errors more time could solve."""

from __future__ import annotations

import pytest
from kazoo.exceptions import AuthFailedError, ConnectionClosedError, ConnectionLoss, NoAuthError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

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
def test_an_outage_is_an_ensemble_that_does_not_answer_and_no_refusal(
    error: type[ZooKeeperError], cause: BaseException | None, passing: bool
) -> None:
    with pytest.raises(error) as raised:
        raise error("it failed") from cause
    assert is_outage(raised.value) is passing
