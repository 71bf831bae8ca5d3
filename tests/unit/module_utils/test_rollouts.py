"""How a publisher checks for commits that are known to be bad."""

from __future__ import annotations

from typing import Any

import pytest
from kazoo.exceptions import NoNodeError
from kazoo.protocol.paths import normpath

from ansible_collections.zoo.deploy.plugins.module_utils.records import (
    ROLLED_BACK_FROM,
    AppPaths,
    InvalidRecord,
    Release,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import check_not_bad

PATHS = AppPaths("/app/shop")
GOOD, BAD = "a" * 40, "b" * 40


class Marks:
    """A client of an ensemble in which one commit is marked as bad."""

    def get(self, path: str) -> tuple[bytes, Any]:
        """The mark."""
        if normpath(path) != PATHS.bad(BAD):
            raise NoNodeError
        return b'{"reason": "web1 failed", "since": "2026-11-30T07:00:00+00:00", "by": "web1"}', None


def release_of(commit_id: str, **extra: Any) -> Release:
    """A release."""
    return Release("https://git.example/shop.git", commit_id, "shop", extra=extra)


@pytest.mark.parametrize(
    "release",
    [
        release_of(GOOD),
        release_of(GOOD, rollout=True),
        release_of(GOOD, rollout={"from": None}),
        release_of(GOOD, rollout={"from": "c" * 40}),
        release_of(GOOD, rollout={"from": "../main"}),
        release_of(GOOD, rollout={"from": BAD}, **{ROLLED_BACK_FROM: BAD}),
    ],
    ids=[
        "no plan",
        "the default plan",
        "no commit",
        "a good one",
        "what is no commit",
        "a rollback, in which nobody waits",
    ],
)
def test_what_is_not_known_to_be_bad_may_be_published(release: Release) -> None:
    check_not_bad(Marks(), PATHS, release)


def test_a_commit_that_is_known_to_be_bad_is_not_published() -> None:
    why = "web1 failed (since 2026-11-30T07:00:00+00:00, by web1)"
    with pytest.raises(InvalidRecord) as caught:
        check_not_bad(Marks(), PATHS, release_of(BAD))
    assert str(caught.value) == f"{BAD} is known to be bad: {why}; publish another one, or this with force"


@pytest.mark.parametrize("named", [BAD, BAD.upper()])
def test_a_commit_that_is_known_to_be_bad_may_not_be_what_hosts_have_meanwhile(named: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^rollout\.from: b{40} is known to be bad: web1 failed .*; name another"):
        check_not_bad(Marks(), PATHS, release_of(GOOD, rollout={"from": named}))
