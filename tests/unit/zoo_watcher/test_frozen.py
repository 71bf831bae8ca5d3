"""A frozen dataclass of the agent behaves like one that `dataclasses` makes."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from zoo_watcher import frozen


class Account:
    """The fields that the dataclasses are made from."""

    name: str
    password: str = field(repr=False)  # pylint: disable=invalid-field-call
    since: int = field(default=0, compare=False)  # pylint: disable=invalid-field-call


def made(decorate: Any) -> Any:
    """A dataclass made from `Account`."""
    body = {name: value for name, value in vars(Account).items() if name not in {"__dict__", "__weakref__"}}
    return decorate(frozen=True)(type("Account", (), {**body, "__qualname__": "Account"}))


OURS, THEIRS = made(frozen.dataclass), made(dataclasses.dataclass)


def test_it_looks_the_same_and_shows_no_secret() -> None:
    assert repr(OURS("ann", "word", since=3)) == repr(THEIRS("ann", "word", since=3)) == "Account(name='ann', since=3)"


def test_it_is_compared_by_the_fields_that_count() -> None:
    one = OURS("ann", "word")
    assert one == OURS("ann", "word", since=3)
    assert one != OURS("ann", "other")
    assert one != THEIRS("ann", "word")
    assert one != ("ann", "word")
    assert hash(one) == hash(OURS("ann", "word", since=3)) == hash(THEIRS("ann", "word"))


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_it_cannot_be_changed_but_replaced(kind: Any) -> None:
    one = kind("ann", "word")
    with pytest.raises(FrozenInstanceError, match="name"):
        one.name = "bob"
    with pytest.raises(FrozenInstanceError, match="name"):
        del one.name
    assert dataclasses.replace(one, name="bob") == kind("bob", "word")
    assert dataclasses.asdict(one) == {"name": "ann", "password": "word", "since": 0}
