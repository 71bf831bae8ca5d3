"""What is reported about a change that was only partly made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from kazoo.exceptions import BadVersionError, ConnectionLoss, NoAuthError
from kazoo.security import OPEN_ACL_UNSAFE, READ_ACL_UNSAFE

from ansible_collections.zoo.deploy.plugins.module_utils import znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import Overtaken, ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import DesiredZnode
from ansible_collections.zoo.deploy.plugins.module_utils.znode_plan import CurrentZnode, Step, ZnodePlan


class Answer:
    """An answer of the ensemble that has already arrived."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def get(self, timeout: float) -> Any:
        """Return the answer, or raise it if it is an exception."""
        assert timeout
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Client:
    """An ensemble where another client has set some ACLs since they were read; it accepts every transaction."""

    chroot = ""

    last_zxid = 1

    def __init__(self, *set_meanwhile: str) -> None:
        self._set_meanwhile = set_meanwhile
        self._steps: list[str] = []

    def transaction(self) -> Client:
        """A new transaction."""
        self._steps = []
        return self

    def check(self, path: str, _version: int) -> None:
        """Add a step."""
        self._steps.append(path)

    def set_data(self, path: str, _data: bytes, _version: int) -> None:
        """Add a step."""
        self._steps.append(path)

    def commit_async(self) -> Answer:
        """The answers of the transaction's steps."""
        return Answer([True for _step in self._steps])

    def set_acls_async(self, path: str, _acl: Sequence[Any], _version: int) -> Answer:
        """Set an ACL."""
        return Answer(BadVersionError() if path in self._set_meanwhile else None)


class Refusing(Client):
    """An ensemble that answers every ACL with this exception."""

    chroot = ""

    def __init__(self, refusal: Exception) -> None:
        super().__init__()
        self._refusal = refusal

    def set_acls_async(self, _path: str, _acl: Sequence[Any], _version: int) -> Answer:
        """Refuse an ACL."""
        return Answer(self._refusal)


def planned(path: str, *verbs: str) -> ZnodePlan:
    """A znode whose ACL is to be set, after these steps of the transaction."""
    before = CurrentZnode(b"", acl=tuple(OPEN_ACL_UNSAFE))
    steps = tuple(Step(verb, path) for verb in verbs)
    return ZnodePlan(0, DesiredZnode(path), before, before, steps, acl=tuple(READ_ACL_UNSAFE))


@pytest.mark.parametrize(
    ("plans", "refused", "changed"),
    [
        ([planned("/a"), planned("/b")], ["/b"], True),
        ([planned("/a"), planned("/b")], ["/a"], True),
        ([planned("/a"), planned("/b")], ["/a", "/b"], False),
        ([planned("/a", "check"), planned("/b", "check")], ["/a", "/b"], False),
        ([planned("/a", "set"), planned("/b", "check")], ["/a", "/b"], True),
    ],
)
def test_what_failed_says_whether_a_value_or_an_acl_was_changed(
    plans: Sequence[ZnodePlan], refused: Sequence[str], changed: bool
) -> None:
    with pytest.raises(ZooKeeperError, match=f"^{refused[0]}: .*; another client has set its ACL$") as raised:
        znodes.commit(Client(*refused), plans, 1.0)
    assert raised.value.details == {"path": refused[0], "changed": changed}


def test_a_version_that_was_only_checked_is_not_a_change() -> None:
    with pytest.raises(Overtaken) as raised:
        znodes.commit(Client("/a"), [planned("/a", "check")], 1.0)
    assert raised.value.details == {"path": "/a", "changed": False}


@pytest.mark.parametrize(
    ("refusal", "end"),
    [
        (NoAuthError(), "to the given credentials; its ACL is as it was"),
        (ConnectionLoss(), "(ConnectionLoss); it may have been done"),
    ],
)
def test_an_acl_that_may_have_been_set_is_not_reported_as_unchanged(refusal: Exception, end: str) -> None:
    with pytest.raises(ZooKeeperError) as raised:
        znodes.commit(Refusing(refusal), [planned("/a"), planned("/b")], 1.0)
    assert str(raised.value).endswith(end)
