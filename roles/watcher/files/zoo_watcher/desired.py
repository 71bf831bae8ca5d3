# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The desired release, how its znode is followed, and what this host is to do about it now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from .config.allowed_urls import find_problem
from .config.config import Config
from .errors import SessionTroubleError
from .frozen import dataclass
from .wire.records import InvalidRecord, Release
from .zookeeper.session import Session, Znode, session_trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROLLOUT = "rollout"
"""The key of a release's record that says how it is to reach the fleet."""


@dataclass(frozen=True)
class Desired:
    """The desired release as read from its znode: `release`, or the `problem` with it; `fleet` agents were live then.

    `policy` is the application's policy, if there was one when the release was published, and `has_rollout` whether a
    rollout of it had begun when it was read.
    """

    generation: int
    fleet: int = field(compare=False)
    release: Release | None = None
    problem: str | None = None
    policy: bytes | None = field(default=None, compare=False)
    has_rollout: bool = field(default=False, compare=False)

    @property
    def may_roll_out(self) -> bool:
        """Whether anything says how the release is to reach the fleet."""
        return self.release is not None and (
            self.has_rollout or self.policy is not None or ROLLOUT in self.release.extra
        )

    @classmethod
    def from_znode(
        cls, znode: Znode, fleet: int, schemes: tuple[str, ...], beginnings: tuple[str, ...] = ()
    ) -> Desired:
        """What a znode requires, as far as this host allows it."""
        generation = znode.stat.mzxid
        try:
            release = Release.from_node(znode.data)
        except InvalidRecord as exc:
            return cls(generation, fleet, problem=f"the published release is not valid: {exc}")
        problem = find_problem(release.url, schemes, beginnings)
        return cls(generation, fleet, problem=problem) if problem else cls(generation, fleet, release)

    def asks_the_same(self, other: Desired | None) -> bool:
        """Whether another one is the same publication: a rebuilt ensemble may give another release this generation."""
        if other is None or (self.generation, self.problem) != (other.generation, other.problem):
            return False
        return self.release.same_as(other.release) if self.release else other.release is None


def is_another_of_its_generation(before: Desired, desired: Desired) -> bool:
    """Whether a generation has become another release, and its record was not only refused for a while."""
    if before.release is None or desired.release is None or before.generation != desired.generation:
        return False
    return not desired.release.same_as(before.release)


@dataclass(frozen=True)
class Standstill:
    """Why a host that could deploy a generation does not: the state and the message of its status meanwhile."""

    generation: int
    state: str
    message: str


@dataclass(frozen=True)
class Assignment:
    """What this host is to do now: deploy `desired`, or nothing; `standstill` is reported while nothing is in progress.

    `retry_waits` says what a retry of a failed release waits for, if for more than a person's request.
    """

    desired: Desired | None = None
    standstill: Standstill | None = None
    retry_waits: str | None = None


class DesiredRelease:
    """Follows the znode: `current` is what it held when it was last read, None if there was none.

    `is_read` is whether it has ever been read. `changed` is called, in kazoo's thread, when it is to be read again.
    """

    def __init__(
        self,
        config: Config,
        session: Session,
        changed: Callable[[], None],
        find_refusal: Callable[[Release], str | None] | None = None,
    ) -> None:
        """`find_refusal` says why a release is refused, if this host demands a signature on its record."""
        self.current: Desired | None = None
        self.is_read = False
        self._app = config.app
        self._allowed = config.allowed_schemes, config.allowed_urls
        self._session = session
        self._changed = changed
        self._find_refusal = find_refusal
        self._stale = True

    def mark_stale(self) -> None:
        """Have it read again: a watch that was lost with the connection reports nothing."""
        self._stale = True

    def refresh(self) -> None:
        """Read it if it may have changed. Raises `SessionTroubleError`."""
        if not self._stale:
            return
        self._stale = False
        try:
            desired = self._read()
        except SessionTroubleError:
            self._stale = True
            raise
        self.is_read = True
        if desired is None or not desired.asks_the_same(self.current):
            self.current = desired

    def _read(self) -> Desired | None:
        with session_trouble(self._app.config):
            # All are requested at once, and in this order: how to roll the release out is no older than the release.
            read = self._session.begin_read(self._app.config, self._on_event)
            agents = self._session.client.exists_async(self._app.agents)
            policy = self._session.begin_read(self._app.policy)
            rollouts = self._session.begin_list(self._app.rollouts)
            znode = read() or self._session.read(self._app.config, self._on_event)
            fleet = getattr(self._session.answer(agents), "numChildren", 0)
        with session_trouble(self._app.policy):
            known = policy()
        with session_trouble(self._app.rollouts):
            names = rollouts()
        if znode is None:
            return None
        desired = self._trusted(Desired.from_znode(znode, fleet, *self._allowed))
        # A policy created later does not roll out what is already published; one that existed then counts as it is.
        in_force = known is not None and known.stat.czxid < desired.generation
        policy_data = known.data if in_force and known else None
        return replace(desired, policy=policy_data, has_rollout=str(desired.generation) in names)

    def _trusted(self, desired: Desired) -> Desired:
        """The same; if its record is refused, with that as its problem. Raises `SessionTroubleError`."""
        if self._find_refusal is None or desired.release is None:
            return desired
        refusal = self._find_refusal(desired.release)
        if refusal is None:
            return desired
        return replace(desired, release=None, problem=f"the published release is refused: {refusal}")

    def _on_event(self, _event: Any) -> None:
        self._stale = True
        self._changed()
