"""A host under faults: a real agent, the service that it registers, and what must hold for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, NoNodeError, SessionExpiredError

from faults.support import trees
from faults.support.ledger import COMMITS, FLAPS, HOSTS, REGISTRATIONS, Ledger
from support.agent import OUTCOMES, Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Result = TypeVar("Result")


def patiently(ask: Callable[[], Result], seconds: float = 60) -> Result:
    """The answer of an ensemble that may be unreachable for a while. Raises its error after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (ConnectionLoss, ConnectionClosedError, SessionExpiredError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass
class Host:
    """An agent of `agent.app` that deploys commits of `origin` and registers `service`."""

    agent: Agent
    service: Service
    origin: GitRepository
    zk: KazooClient
    ledger: Ledger
    logged: int = 0
    """The length of the agent's log when the agent was last started, in characters."""

    @property
    def registration(self) -> str:
        """The path of its registration."""
        return f"{self.agent.app}/service/{self.agent.name}"

    def start(self) -> Host:
        """Start its agent."""
        self.logged = len(self.agent.log)
        self.agent.start()
        return self

    def publish(self, commit_id: str | None = None, **keys: Any) -> int:
        """Publish a commit of the origin, its head by default, and return the generation."""
        release = {
            "url": self.origin.url,
            "commitId": commit_id or self.origin.head,
            "relativePath": "site",
            **keys,
        }
        return self.publish_bytes(json.dumps(release).encode())

    def publish_bytes(self, data: bytes) -> int:
        """Write the config znode, and return the generation."""
        path = f"{self.agent.app}/config"

        def write() -> int:
            try:
                return int(self.zk.set(path, data).mzxid)
            except NoNodeError:
                self.zk.create(path, data, makepath=True)
                return int(self.zk.get(path)[1].mzxid)

        return patiently(write)

    @property
    def status(self) -> dict[str, Any]:
        """Its status, empty while there is none."""
        try:
            return dict(json.loads(patiently(lambda: self.zk.get(f"{self.agent.app}/agents/{self.agent.name}"))[0]))
        except NoNodeError:
            return {}

    def outcome(self, generation: int, seconds: float = 30) -> dict[str, Any]:
        """Its status once it has proved or given up a generation. A host that never does counts as stuck."""

        def ended() -> dict[str, Any]:
            status = self.status
            return status if status.get("generation") == generation and status["state"] in OUTCOMES else {}

        return self._unless_stuck(ended, f"an outcome of {generation}", seconds)

    def says(self, text: str, seconds: float = 20) -> dict[str, Any]:
        """Its status once its message contains `text`."""

        def said() -> dict[str, Any]:
            status = self.status
            return status if text in (status.get("message") or "") else {}

        return self._unless_stuck(said, f"a message with {text!r}", seconds)

    def _unless_stuck(self, condition: Callable[[], Result], what: str, seconds: float) -> Result:
        trouble, answer = "", None
        try:
            answer = wait_for(condition, what, seconds)
        except AssertionError as exc:
            trouble = f"{exc}\nstatus: {self.status}\nlog:\n{self.agent.log[-4000:]}"
        self.ledger.judge(HOSTS, trouble)
        assert answer
        return answer

    def check_live(self, *allowed: str | None) -> str | None:
        """Check that an `allowed` commit (None: nothing) is live and complete, byte for byte, and return it."""
        live = self.agent.live()
        trouble = "" if live in allowed else f"{live} is live, expected one of {allowed}"
        if live and not trouble:
            trouble = trees.difference(self.agent.base / "site", self.origin.path, live)
        self.ledger.judge(COMMITS, trouble)
        return live

    def check_registered(self, seconds: float = 20) -> int:
        """Check that its registration exists in the session of its status, and return the zxid that created it."""
        found = 0

        def held() -> bool:
            nonlocal found
            own = patiently(lambda: self.zk.exists(f"{self.agent.app}/agents/{self.agent.name}"))
            stat = patiently(lambda: self.zk.exists(self.registration))
            found = stat.czxid if stat else 0
            return bool(own and stat and own.ephemeralOwner == stat.ephemeralOwner)

        trouble = ""
        try:
            wait_for(held, f"{self.registration} is held", seconds)
        except AssertionError as exc:
            trouble = f"{exc}\nstatus: {self.status}\nlog:\n{self.agent.log[-4000:]}"
        self.ledger.judge(REGISTRATIONS, trouble)
        return found

    def check_same(self, created: int) -> None:
        """Check that its registration is still the very znode that was created at zxid `created`."""
        now = patiently(lambda: self.zk.exists(self.registration))
        found = now.czxid if now else None
        self.ledger.judge(FLAPS, "" if found == created else f"made at {found}, expected {created}")

    def settle(self, commit_id: str | None = None, generation: int | None = None) -> int:
        """Publish a commit, unless its generation is given, wait for convergence and return the registration's zxid."""
        wanted = commit_id or self.origin.head
        generation = self.publish(wanted) if generation is None else generation
        # A killed agent's status remains for a while, so the log of this one counts.
        own_word = f"active, generation={generation}"
        self._unless_stuck(lambda: own_word in self.agent.log[self.logged :], own_word, 30)
        status = self.outcome(generation)
        trouble = (
            "" if (status["state"], status["commitId"]) == ("active", wanted) else f"{status}, expected {wanted} active"
        )
        self.ledger.judge(HOSTS, trouble)
        self.check_live(wanted)
        left = list((self.agent.base / ".zoo/staging").iterdir())
        self.ledger.judge(HOSTS, f"left in staging: {left}" if left else "")
        return self.check_registered()

    def stop(self) -> None:
        """End what is still running."""
        self.service.close()
        self.agent.kill()


class Watch:
    """Every event that a watching client sees at a znode."""

    def __init__(self, zk: KazooClient, path: str) -> None:
        self.zk = zk
        self.path = path
        self.events: list[str] = []
        self.zk.exists(path, watch=self._on_event)

    def _on_event(self, event: Any) -> None:
        self.events.append(event.type)
        self.zk.exists_async(self.path, watch=self._on_event)
